"""Makes a user be there, or not, with groups, home, shell and password."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from sappers.provisioner.modules import step
from sappers.provisioner.modules.group import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Make a user be there, or not.",
    (
        Argument("name", "str", "Login name.", required=True, aliases=("user",)),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("uid", "int", "Number."),
        Argument("non_unique", "bool", "The number may be taken.", default=False),
        Argument("comment", "str", "Full name."),
        Argument("group", "str", "Primary group."),
        Argument("groups", "list", "Other groups; an empty list takes all away."),
        Argument("append", "bool", "Keep the other groups that there are.", default=False),
        Argument("home", "path", "Home folder."),
        Argument("create_home", "bool", "Make the home folder.", default=True,
                 aliases=("createhome",)),
        Argument("move_home", "bool", "Move what is in the old home.", default=False),
        Argument("skeleton", "str", "Folder whose files a new home gets."),
        Argument("shell", "path", "Login shell."),
        Argument("system", "bool", "Take a number of the system's.", default=False),
        Argument("password", "str", "Encrypted password, as in /etc/shadow."),
        Argument("update_password", "str", "", default="always", choices=("always", "on_create")),
        Argument("password_lock", "bool", "Lock the password, or unlock it."),
        Argument("expires", "float", "When the account ends, seconds since 1970; negative: never."),
        Argument("remove", "bool", "With absent: home and mail go, too.", default=False),
        Argument("force", "bool", "With absent: also while logged in.", default=False),
    ),
    unsupported=(
        ("generate_ssh_key", "use `command: ssh-keygen` with `creates`"),
        ("ssh_key_bits", "use `command: ssh-keygen`"),
        ("ssh_key_comment", "use `command: ssh-keygen`"),
        ("ssh_key_file", "use `command: ssh-keygen`"),
        ("ssh_key_passphrase", "use `command: ssh-keygen`"),
        ("ssh_key_type", "use `command: ssh-keygen`"),
        ("local", "users are made in /etc/passwd; leave it out"),
        ("umask", "set UMASK in /etc/login.defs"),
    ),
    returns=(("uid, group, home, shell, comment", "what the user has"),),
)  # fmt: skip

_LEAVES = ("on_create",)


def plan(task: step.Task) -> step.Plan:
    """Make it so."""
    args = task.args
    name = args["name"]
    found = yield step.Account("passwd", name)
    result: Dict[str, Any] = {"name": name, "state": args["state"], "changed": False}
    if args["state"] == "absent":
        if found is not None:
            options = [*(["-f"] if args["force"] else []), *(["-r"] if args["remove"] else [])]
            yield from execute(("userdel", *options, name), (("passwd:" + name, None),))
            result.update(changed=True, force=args["force"], remove=args["remove"])
        return result
    changed = (yield from _add(args)) if found is None else (yield from _change(args, found))
    result["changed"] = bool(changed)
    now = yield step.Account("passwd", name)
    if now is not None:
        for key in ("uid", "comment", "home", "shell"):
            result[key] = now[key]
        result["group"] = now["gid"]
    result.update(append=args["append"], move_home=args["move_home"])
    if args["groups"] is not None:
        result["groups"] = ",".join(args["groups"])
    if args["password"] is not None:
        result["password"] = "NOT_LOGGING_PASSWORD"  # noqa: S105
    return result


def _add(args: Dict[str, Any]) -> step.Steps:
    name = args["name"]
    options: List[str] = []
    if args["system"]:
        options.append("-r")
    options += _number(args)
    own_group = yield step.Account("group", name)
    if args["group"] is not None:
        options += ["-g", args["group"]]
    elif own_group is not None:
        options += ["-N", "-g", name]
    if args["groups"]:
        options += ["-G", ",".join(args["groups"])]
    for key, option in (("comment", "-c"), ("home", "-d"), ("shell", "-s")):
        if args[key] is not None:
            options += [option, args[key]]
    if args["expires"] is not None:
        options += ["-e", _day(args["expires"])]
    if args["create_home"]:
        options.append("-m")
        if args["skeleton"]:
            options += ["-k", args["skeleton"]]
    else:
        options.append("-M")
    entry = {
        "name": name, "uid": args["uid"] or 999, "gid": 999, "comment": args["comment"] or "",
        "home": args["home"] or "/home/" + name, "shell": args["shell"] or "/bin/sh",
        "groups": args["groups"] or [],
    }  # fmt: skip
    implied = [("passwd:" + name, entry)]
    if args["group"] is None and own_group is None:
        implied.append(("group:" + name, {"name": name, "gid": 999, "members": []}))
    yield from execute(("useradd", *options, name), implied)
    yield from _set_password(args, None)
    return True


def _change(args: Dict[str, Any], found: Dict[str, Any]) -> step.Steps:
    options: List[str] = []
    if args["uid"] is not None and args["uid"] != found["uid"]:
        options += _number(args)
    if args["group"] is not None:
        group = yield step.Account("group", args["group"])
        if group is None:
            raise step.Failed("Group {} does not exist".format(args["group"]))
        if group["gid"] != found["gid"]:
            options += ["-g", args["group"]]
    options += _groups(args, found)
    for key, option in (("comment", "-c"), ("shell", "-s")):
        if args[key] is not None and args[key] != found[key]:
            options += [option, args[key]]
    if args["home"] is not None and args["home"] != found["home"]:
        options += ["-d", args["home"], *(["-m"] if args["move_home"] else [])]
    shadow = yield step.Account("shadow", args["name"])
    options += _lock_and_end(args, shadow)
    if options:
        entry = {**found, **{key: args[key] for key in ("uid", "comment", "shell", "home")
                             if args[key] is not None}}  # fmt: skip
        yield from execute(
            ("usermod", *options, args["name"]), (("passwd:" + args["name"], entry),)
        )
    secret = yield from _set_password(args, shadow)
    return bool(options) or secret


def _lock_and_end(args: Dict[str, Any], shadow: Optional[Dict[str, Any]]) -> List[str]:
    if shadow is None:
        return []
    options: List[str] = []
    if args["expires"] is not None and _day(args["expires"]) != shadow["expires"]:
        options += ["-e", _day(args["expires"])]
    locked = shadow["password"].startswith("!")
    if args["password_lock"] not in (None, locked):
        options.append("-L" if args["password_lock"] else "-U")
    return options


def _set_password(args: Dict[str, Any], shadow: Optional[Dict[str, Any]]) -> step.Steps:
    """The password travels on stdin: arguments can be seen by everybody."""
    if args["password"] is None:
        return False
    if shadow is not None:
        there = shadow["password"].lstrip("!")
        if args["update_password"] in _LEAVES or there == args["password"].lstrip("!"):
            return False
    line = "{}:{}\n".format(args["name"], args["password"])
    implied = (
        ("shadow:" + args["name"], {**(shadow or {"expires": ""}), "password": args["password"]}),
    )
    yield from execute(("chpasswd", "-e"), implied, line.encode())
    return True


def _groups(args: Dict[str, Any], found: Dict[str, Any]) -> List[str]:
    if args["groups"] is None:
        return []
    wanted = set(args["groups"]) - {""}
    there = set(found["groups"])
    if args["append"]:
        missing = wanted - there
        return ["-a", "-G", ",".join(sorted(missing))] if missing else []
    return ["-G", ",".join(sorted(wanted))] if wanted != there else []


def _number(args: Dict[str, Any]) -> Tuple[str, ...]:
    if args["uid"] is None:
        return ()
    return ("-u", str(args["uid"]), *(("-o",) if args["non_unique"] else ()))


def _day(seconds: float) -> str:
    """Days since 1970, as shadow has them; empty: never."""
    return "" if seconds < 0 else str(int(seconds // 86400))

"""Makes a user be there, or not, with groups, home, shell and password."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
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
        Argument("password_expire_min", "int", "Days before a password may be changed."),
        Argument("password_expire_max", "int", "Days until it has to be."),
        Argument("password_expire_warn", "int", "Days of warning before."),
        Argument("password_expire_account_disable", "int", "Days after it, until nobody logs in."),
        Argument("generate_ssh_key", "bool", "Make a key for SSH where there is none.",
                 default=False),
        Argument("ssh_key_type", "str", "Its kind.", default="rsa"),
        Argument("ssh_key_bits", "int", "Its length.", default=0),
        Argument("ssh_key_file", "str", "Its file, below the home folder; .ssh/id_TYPE without."),
        Argument("ssh_key_comment", "str", "Its comment."),
        Argument("remove", "bool", "With absent: home and mail go, too.", default=False),
        Argument("force", "bool", "With absent: also while logged in.", default=False),
    ),
    unsupported=(
        ("ssh_key_passphrase", "use `command: ssh-keygen`"),
        ("local", "users are made in /etc/passwd; leave it out"),
        ("umask", "set UMASK in /etc/login.defs"),
    ),
    returns=(("uid, group, home, shell, comment", "what the user has"),
             ("ssh_key_file, ssh_public_key, ssh_fingerprint", "with generate_ssh_key")),
)  # fmt: skip

_LEAVES = ("on_create",)
# Of shadow; the option of chage; the argument.
_AGES = (
    ("min", "-m", "password_expire_min"),
    ("max", "-M", "password_expire_max"),
    ("warn", "-W", "password_expire_warn"),
    ("inactive", "-I", "password_expire_account_disable"),
)
_SKELETON = "/etc/skel"
_UNKNOWN = 65533  # stands in check mode for a number that only useradd chooses


def plan(task: step.Task) -> step.Plan:
    """Make it so."""
    args = task.args
    name = args["name"]
    found = yield step.Account("passwd", name)
    result: Dict[str, Any] = {"name": name, "state": args["state"], "changed": False}
    if args["state"] == "absent":
        if found is not None:
            options = [*(["-f"] if args["force"] else []), *(["-r"] if args["remove"] else [])]
            told = yield from _remove(found, options)
            result.update(changed=True, force=args["force"], remove=args["remove"])
            result.update((key, text) for key, text in told.items() if text)
        return result
    yield from _require_groups(args)
    changed = (yield from _add(args)) if found is None else (yield from _change(args, found))
    aged = yield from _set_age(args)
    changed = changed or aged
    now = yield step.Account("passwd", name)
    if args["create_home"] and found is not None and now is not None:
        home = args["home"] or now["home"]
        if (yield step.Stat(home, True)) is None:
            yield from _make_home(args["skeleton"] or _SKELETON, home, now)
            changed = True
    if args["generate_ssh_key"] and now is not None:
        made, told = yield from _ssh_key(args, now)
        changed = changed or made
        result.update(told)
    result["changed"] = bool(changed)
    if now is not None:
        for key in ("uid", "comment", "home", "shell"):
            result[key] = now[key]
        result["group"] = now["gid"]
    if found is None:
        result.update(create_home=args["create_home"], system=args["system"])
    else:
        result.update(append=args["append"], move_home=args["move_home"])
    if args["groups"] is not None:
        result["groups"] = ",".join(args["groups"])
    if args["password"] is not None:
        result["password"] = "NOT_LOGGING_PASSWORD"  # noqa: S105
    return result


def _remove(found: Dict[str, Any], options: List[str]) -> step.Steps:
    name = found["name"]
    gone = ["passwd:" + name, "shadow:" + name]
    own = yield step.Account("group", name)
    if own is not None and own["gid"] == found["gid"] and not own["members"]:
        gone.append("group:" + name)  # as userdel does with a group of the user alone
    home = (step.Remove(found["home"]),) if "-r" in options else ()
    implied = [(one, None) for one in gone]
    return (yield from execute(("userdel", *options, name), implied, b"", home))


def _set_age(args: Dict[str, Any]) -> step.Steps:
    """Whether the password's ages had to be set."""
    shadow = (yield step.Account("shadow", args["name"])) or {}
    wanted = {key: args[argument] for key, _, argument in _AGES if args[argument] is not None}
    differ = {key: str(days) for key, days in wanted.items() if str(days) != shadow.get(key)}
    if differ:
        options = [
            word for key, option, _ in _AGES if key in differ for word in (option, differ[key])
        ]
        implied = (("shadow:" + args["name"], {"password": "", "expires": "", **shadow, **differ}),)
        yield from execute(("chage", *options, args["name"]), implied)
    return bool(differ)


def _ssh_key(args: Dict[str, Any], account: Dict[str, Any]) -> step.Steps:
    """Whether a key was made, and what the result tells of it.

    The user's own programs make it: in a folder that is theirs, root could be led elsewhere.
    """
    name, kind = args["name"], args["ssh_key_type"]
    path = args["ssh_key_file"] or ".ssh/id_" + kind
    if not path.startswith("/"):
        path = account["home"].rstrip("/") + "/" + path
    is_there = False
    for one in (path, path + ".pub"):
        is_there = is_there or (yield step.Stat(one)) is not None
    as_user = ("runuser", "-u", name, "--")
    if not is_there:
        comment = args["ssh_key_comment"]
        if comment is None:
            comment = "ansible-generated on " + (yield step.Ask(("uname", "-n"))).out.strip()
        bits = ("-b", str(args["ssh_key_bits"])) if args["ssh_key_bits"] else ()
        made = ("ssh-keygen", "-q", "-t", kind, *bits, "-C", comment, "-f", path, "-N", "")
        ids, folder = (account["uid"], account["gid"]), _files.parent_of(path)
        there = yield step.Stat(folder, True)
        folders = () if there is not None else (step.MakeFolder(folder, 0o700, *ids),)
        files = (
            step.WriteFile(path, b"", 0o600, *ids), step.WriteFile(path + ".pub", b"", 0o644, *ids)
        )  # fmt: skip
        making = (*as_user, "mkdir", "-p", "-m", "0700", folder)
        yield from execute(making, amounts_to=folders)
        yield from execute((*as_user, *made), amounts_to=files)
    shown = yield step.Ask((*as_user, "ssh-keygen", "-l", "-f", path))
    public = (yield step.Read(path + ".pub", True)) or b""
    return not is_there, {
        "ssh_key_file": path,
        "ssh_fingerprint": (shown.out or shown.err).strip(),
        "ssh_public_key": public.decode("utf-8", "replace").strip(),
    }


def _make_home(skeleton: str, home: str, account: Dict[str, Any]) -> step.Steps:
    """A home that is missing, with what the skeleton has; the user's own once it is whole."""
    yield from _files.make_folders(_files.parent_of(home), {})
    yield from _copy_folder(skeleton, home, account)
    mode = yield from _home_mode()
    yield step.SetAttributes(home, mode, account["uid"], account["gid"], False)


def _copy_folder(source: str, path: str, account: Dict[str, Any]) -> step.Steps:
    login = yield step.Account("passwd", "")
    yield step.MakeFolder(path, 0o700, login["uid"], login["gid"])
    for name in (yield step.Names(source)) or ():
        inner, copy = source + "/" + name, path + "/" + name
        found = yield step.Stat(inner, False)
        mode: Optional[int] = None
        if found.kind == "directory":
            yield from _copy_folder(inner, copy, account)
            mode = found.mode
        elif found.kind == "link":
            yield step.MakeLink(copy, found.target)
        else:
            yield step.CopyFile(inner, copy)
        yield step.SetAttributes(copy, mode, account["uid"], account["gid"], False)


def _home_mode() -> step.Steps:
    """As useradd gives it."""
    content = (yield step.Read("/etc/login.defs")) or b""
    settings = dict(re.findall(r"^(HOME_MODE|UMASK)\s+(\d+)\s*$", content.decode(), re.MULTILINE))
    if "HOME_MODE" in settings:
        return int(settings["HOME_MODE"], 8)
    return 0o777 & ~int(settings.get("UMASK", "022"), 8)


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
    gid = yield from _primary_group(args, own_group)
    entry = {
        "name": name, "uid": args["uid"] or _UNKNOWN, "gid": gid, "comment": args["comment"] or "",
        "home": args["home"] or "/home/" + name, "shell": args["shell"] or "/bin/sh",
        "groups": sorted(args["groups"] or []),
    }  # fmt: skip
    ends = "" if args["expires"] is None else _day(args["expires"])
    implied = [
        ("passwd:" + name, entry), ("shadow:" + name, {"password": "!", "expires": ends})
    ]  # fmt: skip
    implied.append(("passwd:%d" % entry["uid"], entry))
    if args["group"] is None and own_group is None:
        group = {"name": name, "gid": gid, "members": []}
        implied += [("group:" + name, group), ("group:%d" % gid, group)]
    home: Tuple[Any, ...] = ()
    if args["create_home"] and (yield step.Stat(entry["home"], True)) is None:
        home = (step.MakeFolder(entry["home"], (yield from _home_mode()), entry["uid"], gid),)
    yield from execute(("useradd", *options, name), implied, b"", home)
    yield from _set_password(args, None)
    return True


def _primary_group(args: Dict[str, Any], own_group: Optional[Dict[str, Any]]) -> step.Steps:
    """The number of a new user's group: that asked for, or of the same name."""
    if args["group"] is not None:
        own_group = yield step.Account("group", args["group"])
    if own_group is not None:
        return own_group["gid"]
    return args["uid"] or _UNKNOWN


def _require_groups(args: Dict[str, Any]) -> step.Steps:
    for name in (args["group"], *(args["groups"] or ())):
        if name and (yield step.Account("group", name)) is None:
            raise step.Failed(f"Group {name} does not exist")


def _change(args: Dict[str, Any], found: Dict[str, Any]) -> step.Steps:
    options: List[str] = []
    gid = found["gid"]
    if args["uid"] is not None and args["uid"] != found["uid"]:
        options += _number(args)
    if args["group"] is not None:
        group = yield step.Account("group", args["group"])
        gid = group["gid"]
        if gid != found["gid"]:
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
        entry = {**found, "gid": gid, "groups": _groups_then(args, found)}
        entry.update((key, args[key]) for key in ("uid", "comment", "shell", "home")
                     if args[key] is not None)  # fmt: skip
        implied = [("passwd:" + args["name"], entry)]
        if shadow is not None:
            shadow = _locked_and_ended(args, shadow)
            implied.append(("shadow:" + args["name"], shadow))
        moved = (yield from _moved_home(entry, found)) if "-m" in options else ()
        yield from execute(("usermod", *options, args["name"]), implied, b"", moved)
    secret = yield from _set_password(args, shadow)
    return bool(options) or secret


def _moved_home(entry: Dict[str, Any], found: Dict[str, Any]) -> step.Steps:
    """What `usermod -m` leaves where the homes are."""
    there = yield step.Stat(found["home"], True)
    if there is None or (yield step.Stat(entry["home"], True)) is not None:
        return ()
    made = step.MakeFolder(entry["home"], there.mode, entry["uid"], entry["gid"])
    return (made, step.Remove(found["home"]))


def _locked_and_ended(args: Dict[str, Any], shadow: Dict[str, Any]) -> Dict[str, Any]:
    """The entry as `_lock_and_end` leaves it."""
    password = shadow["password"]
    if args["password_lock"] is not None:
        password = ("!" if args["password_lock"] else "") + password.lstrip("!")
    ends = shadow["expires"] if args["expires"] is None else _day(args["expires"])
    return {**shadow, "password": password, "expires": ends}


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


def _groups_then(args: Dict[str, Any], found: Dict[str, Any]) -> List[str]:
    if args["groups"] is None:
        return list(found["groups"])
    kept = found["groups"] if args["append"] else ()
    return sorted({*kept, *args["groups"]} - {""})


def _number(args: Dict[str, Any]) -> Tuple[str, ...]:
    if args["uid"] is None:
        return ()
    return ("-u", str(args["uid"]), *(("-o",) if args["non_unique"] else ()))


def _day(seconds: float) -> str:
    """Days since 1970, as shadow has them; empty: never."""
    return "" if seconds < 0 else str(int(seconds // 86400))

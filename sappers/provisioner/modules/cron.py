"""Makes an entry be in a crontab, or not."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module

_SPECIAL = ("annually", "daily", "hourly", "monthly", "reboot", "weekly", "yearly")
SPEC = Module(
    "Make an entry be in a crontab, or not.",
    (
        Argument("name", "str", "What it is known by; of a variable its name.", required=True),
        Argument("job", "str", "The command, or the variable's value.", aliases=("value",)),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("minute", "str", "", default="*"),
        Argument("hour", "str", "", default="*"),
        Argument("day", "str", "", default="*", aliases=("dom",)),
        Argument("month", "str", "", default="*"),
        Argument("weekday", "str", "", default="*", aliases=("dow",)),
        Argument("special_time", "str", "Instead of the five.", choices=_SPECIAL),
        Argument("disabled", "bool", "The entry is there, and does nothing.", default=False),
        Argument("env", "bool", "It is a variable, and no entry.", default=False),
        Argument("user", "str", "Whose crontab, or with `cron_file` whom it runs as."),
        Argument("cron_file", "path", "A file of /etc/cron.d instead."),
    ),
    unsupported=(
        ("backup", "keep a copy with copy and remote_src"),
        ("insertafter", "variables are put at the beginning"),
        ("insertbefore", "variables are put at the beginning"),
    ),
    returns=(
        ("jobs", "names of all entries"),
        ("envs", "names of all variables"),
        ("cron_file", "as asked for"),
    ),
)
_MARK = "#Ansible: "


def plan(task: step.Task) -> step.Plan:
    """Change the lines."""
    args = task.args
    if args["state"] == "present" and not args["job"]:
        raise step.Failed("You must specify 'job' to install a new cron job or variable")
    there = yield from _lines(args)
    after = changed_lines(args, there)
    if after != there:
        yield from _store(args, after)
    jobs = [line[len(_MARK) :] for line in after if line.startswith(_MARK)]
    envs = [line.split("=")[0].strip() for line in after if _is_variable(line)]
    shown = {"cron_file": args["cron_file"]} if args["cron_file"] else {}
    return {"changed": after != there, "jobs": jobs, "envs": envs, **shown}


def changed_lines(args: Dict[str, Any], there: List[str]) -> List[str]:
    """The crontab's lines, with the entry as it shall be."""
    if args["env"]:
        return _with_variable(args, there)
    wanted = [_MARK + args["name"], _entry(args)] if args["state"] == "present" else []
    after: List[str] = []
    lines = iter(there)
    for line in lines:
        if line != _MARK + args["name"]:
            after.append(line)
            continue
        next(lines, None)
        after += wanted
        wanted = []
    return [*after, *wanted]


def _with_variable(args: Dict[str, Any], there: List[str]) -> List[str]:
    wanted = '{}="{}"'.format(args["name"], args["job"])
    mine = [number for number, line in enumerate(there) if _variable(line) == args["name"]]
    rest = [line for number, line in enumerate(there) if number not in mine]
    if args["state"] == "absent":
        return rest
    if not mine:
        return [wanted, *there]
    return [wanted if number == mine[0] else line for number, line in enumerate(there)]


def _is_variable(line: str) -> bool:
    return _variable(line) is not None


def _variable(line: str) -> Optional[str]:
    name, sign, _ = line.partition("=")
    return name.strip() if sign and name.strip().isidentifier() else None


def _entry(args: Dict[str, Any]) -> str:
    times = " ".join(str(args[name]) for name in ("minute", "hour", "day", "month", "weekday"))
    if args["special_time"]:
        times = "@" + str(args["special_time"])
    user = str(args["user"] or "root") + " " if args["cron_file"] else ""
    return ("#" if args["disabled"] else "") + times + " " + user + str(args["job"]).strip("\r\n")


def _path(args: Dict[str, Any]) -> str:
    path = str(args["cron_file"])
    return path if path.startswith("/") else "/etc/cron.d/" + path


def _lines(args: Dict[str, Any]) -> step.Steps:
    if args["cron_file"]:
        content = (yield step.Read(_path(args))) or b""
        return content.decode("utf-8", "surrogateescape").splitlines()
    user = ("-u", args["user"]) if args["user"] else ()
    done = yield step.Ask(("crontab", *user, "-l"), topic="crontab:" + (args["user"] or ""))
    if done.code and "no crontab" not in done.err:
        if (yield step.Account("passwd", args["user"] or "")) is not None:  # in check mode
            return []
        raise step.Failed(f"Unable to read crontab: {done.err.strip()}", rc=done.code)
    return [] if done.code else done.out.splitlines()


def _store(args: Dict[str, Any], lines: List[str]) -> step.Steps:
    text = "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")
    if args["cron_file"]:
        if lines:
            yield from _files.ensure_content(_path(args), text, {"mode": None})
        else:
            yield step.Remove(_path(args))
        return
    user = ("-u", args["user"]) if args["user"] else ()
    implied = (("crontab:" + (args["user"] or ""), (0, text, b"")),)
    yield from execute(("crontab", *user, "-"), implied, text)

"""Runs a program, without a shell."""

from __future__ import annotations

import shlex
import time
from typing import Any, Dict, List, Sequence

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

ARGUMENTS = (
    Argument("cmd", "str", "The command line."),
    Argument("argv", "list", "Program and arguments, each as it is."),
    Argument("chdir", "path", "The folder to run it in."),
    Argument("creates", "path", "Do nothing when there is something at this path (a pattern)."),
    Argument("removes", "path", "Do nothing when there is nothing at this path (a pattern)."),
    Argument("stdin", "str", "What it reads."),
    Argument("stdin_add_newline", "bool", "End it with a newline.", default=True),
    Argument("strip_empty_ends", "bool", "Strip newlines at the end of its output.", default=True),
    Argument("expand_argument_vars", "bool", "Expand $VARIABLES and `~`.", default=True),
)
RETURNS = (
    ("rc", "exit code"),
    ("stdout, stderr", "what it wrote; with `_lines` as lists"),
    ("cmd", "what was run"),
    ("start, end, delta", "when, and for how long"),
)
UNSUPPORTED = (("warn", "leave it out: it does nothing since Ansible 2.14"),)
SPEC = Module(
    "Run a program, without a shell.",
    ARGUMENTS,
    free_form="cmd",
    outward=True,
    one_of=(("cmd", "argv"),),
    exclusive=(("cmd", "argv"),),
    returns=RETURNS,
    unsupported=UNSUPPORTED,
    notes=("Check mode skips it, unless `creates` or `removes` tell what it would do.",),
)
_NEWLINES = "\r\n"

_NO_TIMES = {"start": None, "end": None, "delta": None}


def plan(task: step.Task) -> step.Plan:
    """Run the program."""
    args = task.args
    argv = list(args["argv"] or ())
    if args["cmd"] is not None:
        argv = split(args["cmd"])
    if not argv:
        raise step.Failed("no command given", rc=256)
    if args["expand_argument_vars"]:
        argv = list((yield step.Expand(tuple(argv))))
    return (yield from run(task, argv, shown=argv))


def split(text: str) -> List[str]:
    """Words as a shell splits them.

    Raises:
        Failed: A quote has no end.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise step.Failed(f"{error}: {text}") from None


def run(task: step.Task, argv: Sequence[str], shown: Any) -> step.Plan:
    """What `command` and `shell` do once they know what to run."""
    args = task.args
    skipped = yield from reason_to_skip(task, shown)
    if skipped:
        return skipped
    if args["chdir"]:
        found = yield step.Stat(args["chdir"], True)
        if found is None or found.kind != "directory":
            raise step.Failed("there is no folder {}".format(args["chdir"]), cmd=shown, rc=257)
    stdin = b""
    if args["stdin"] is not None:
        stdin = (args["stdin"] + ("\n" if args["stdin_add_newline"] else "")).encode()
    if task.check:
        return _would_run(args, shown)
    done = yield step.Execute(tuple(argv), stdin, args["chdir"])
    if done.code == step.NO_PROGRAM and not done.began:
        denied = b"denied" in done.stderr
        raise step.Failed(done.err, rc=13 if denied else 2, cmd=_line(shown), stdout="", stderr="")
    strip = _NEWLINES if args["strip_empty_ends"] else ""
    out, err = done.out, done.err
    result = {
        "changed": True,
        "cmd": shown,
        "rc": done.code,
        "stdout": out.rstrip(strip) if strip else out,
        "stderr": err.rstrip(strip) if strip else err,
        "start": _moment(done.began),
        "end": _moment(done.ended),
        "delta": _span(done.ended - done.began),
        "msg": "",
    }
    if done.code:
        result.update(failed=True, msg="non-zero return code")
    return result


def reason_to_skip(task: step.Task, shown: Any) -> step.Plan:
    """The result when `creates` or `removes` say that there is nothing to do, else an empty one."""
    args = task.args
    would = "Would" if task.check else "Did"
    for key, wanted, reason in (("creates", True, "exists"), ("removes", False, "does not exist")):
        if args[key] is None:
            continue
        path = args[key]
        if args["chdir"] and not path.startswith("/"):
            path = args["chdir"].rstrip("/") + "/" + path
        found = yield step.Glob(path)
        if bool(found) is wanted:
            return {
                "changed": False,
                "cmd": shown,
                "rc": 0,
                "stdout": f"skipped, since {args[key]} {reason}",
                "stderr": "",
                "msg": f"{would} not run command since '{args[key]}' {reason}",
                **_NO_TIMES,
            }
    return {}


def _would_run(args: Dict[str, Any], shown: Any) -> Dict[str, Any]:
    result = {"changed": True, "cmd": shown, "rc": 0, "stdout": "", "stderr": "", **_NO_TIMES}
    result["msg"] = "Command would have run if not in check mode"
    if args["creates"] is None and args["removes"] is None:
        result.update(changed=False, skipped=True)
    return result


def _line(shown: Any) -> str:
    return shown if isinstance(shown, str) else shlex.join(shown)


def _moment(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return "%s.%06d" % (whole, int(seconds % 1 * 1e6))


def _span(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return "%d:%02d:%09.6f" % (hours, minutes, rest)

"""Runs a script of the control machine on the host."""

from __future__ import annotations

import shlex
from typing import Any, Dict

from sappers.provisioner.modules import command, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Run a script of the control machine on the host.",
    (
        Argument("cmd", "str", "The script and its arguments.", required=True),
        Argument("chdir", "path", "The folder to run it in."),
        Argument("creates", "path", "Do nothing when there is something at this path."),
        Argument("removes", "path", "Do nothing when there is nothing at this path."),
        Argument("executable", "str", "The program that runs it."),
        Argument("decrypt", "bool", "Open files encrypted with Vault.", default=True),
    ),
    free_form="cmd",
    outward=True,
    returns=(("rc, stdout, stderr", "as of `command`"),),
    notes=("It is fed to its interpreter by stdin, and never a file on the host.",),
)


def prepare(args: Dict[str, Any], control: Any) -> Dict[str, Any]:
    """The script's text, and the words behind its name."""
    words = shlex.split(args["cmd"])
    path = control.find(words[0], "files")
    return {"_text": control.text(path), "_words": words[1:]}


def plan(task: step.Task) -> step.Plan:
    """Run its interpreter, which reads it from stdin."""
    args = task.args
    if (yield from command.reason_to_skip(task, args["cmd"])):
        told = "{creates} exists, matching creates option"
        if args["creates"] is None:
            told = "{removes} does not exist, matching removes option"
        return {"changed": False, "skipped": True, "msg": told.format(**args)}
    first = args["_text"].split("\n", 1)[0]
    words = args["executable"].split() if args["executable"] else ["/bin/sh"]
    if not args["executable"] and first.startswith("#!"):
        words = first[2:].split()
    separator = ["-s", "--"] if words[0].rpartition("/")[2] in ("sh", "bash", "dash") else ["-"]
    argv = [*words, *separator, *args["_words"]]
    rest = {"stdin": args["_text"], "stdin_add_newline": False, "strip_empty_ends": False}
    done = yield from command.run(task._replace(args={**args, **rest}), argv, shown=args["cmd"])
    done.pop("cmd", None)
    return done

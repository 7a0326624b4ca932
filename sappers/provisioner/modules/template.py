"""Renders a template and puts it onto the host."""

from __future__ import annotations

from typing import Any, Dict

from sappers.provisioner.modules import copy, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Render a Jinja2 template and put it onto the host.",
    (
        Argument("src", "str", "The template, in `templates/` or beside.", required=True),
        Argument("dest", "path", "Where to put it.", required=True),
        Argument("newline_sequence", "str", "How lines end.", default="\n",
                 choices=("\n", "\r", "\r\n")),
        Argument("trim_blocks", "bool", "Drop the newline after a block.", default=True),
        Argument("lstrip_blocks", "bool", "Drop the blanks before a block.", default=False),
        Argument("block_start_string", "str", "", default="{%"),
        Argument("block_end_string", "str", "", default="%}"),
        Argument("variable_start_string", "str", "", default="{{"),
        Argument("variable_end_string", "str", "", default="}}"),
        Argument("comment_start_string", "str", "", default="{#"),
        Argument("comment_end_string", "str", "", default="#}"),
        Argument("follow", "bool", "Write to what a link in its place points to.", default=False),
        Argument("output_encoding", "str", "", default="utf-8"),
        *copy.WRITE_ARGUMENTS,
        *FILE_ARGUMENTS,
    ),
    unsupported=FILE_UNSUPPORTED,
    returns=(("dest", "where it is"), ("checksum", "SHA-1 of it"),
             ("backup_file", "what was kept")),
)  # fmt: skip
_SETTINGS = [
    "newline_sequence",
    "trim_blocks",
    "lstrip_blocks",
    "block_start_string",
    "block_end_string",
    "variable_start_string",
    "variable_end_string",
    "comment_start_string",
    "comment_end_string",
]


def prepare(args: Dict[str, Any], control: Any) -> Dict[str, Any]:
    """The rendered text."""
    path = control.find(args["src"], "templates")
    given = {name: args[name] for name in _SETTINGS}
    settings = {name: one for name, one in given.items() if one != _DEFAULTS[name]}
    text = control.render(path, settings, args["src"], args["dest"])
    mode = f"{control.mode(path):04o}" if args["mode"] == "preserve" else args["mode"]
    name = path.rpartition("/")[2]
    content = text.encode(args["output_encoding"])
    return {"_blob": control.blob(content), "_name": name, "mode": mode}


_DEFAULTS = {one.name: one.default for one in SPEC.arguments}


def plan(task: step.Task) -> step.Plan:
    """As `copy`."""
    rest = {"content": None, "remote_src": False, "directory_mode": None, "checksum": None}
    return (yield from copy.plan(task._replace(args={**rest, **task.args})))

"""Makes an option be in a section of an INI file, or not."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Make an option be in a section of an INI file, or not.",
    (
        Argument("path", "path", "The file.", required=True, aliases=("dest",)),
        Argument("section", "str", "The section; without one, what stands before the first."),
        Argument("option", "str", "The option; without one, it is about the whole section."),
        Argument("value", "str", "Its value."),
        Argument("values", "list", "Its values, of which each has a line of its own."),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("exclusive", "bool", "No other values stay beside.", default=True),
        Argument("allow_no_value", "bool", "An option may be without `=` and value.",
                 default=False),
        Argument("modify_inactive_option", "bool", "A line that is commented out becomes it.",
                 default=True),
        Argument("no_extra_spaces", "bool", "No spaces around `=`.", default=False),
        Argument("ignore_spaces", "bool", "Lines that differ in spaces only stay.", default=False),
        Argument("create", "bool", "Make the file where there is none.", default=True),
        Argument("follow", "bool", "Write to what a link in its place points to.", default=False),
        Argument("backup", "bool", "Keep what is replaced beside it.", default=False),
        *FILE_ARGUMENTS,
    ),
    exclusive=(("value", "values"),),
    unsupported=(
        ("section_has_values", "name the section otherwise, or use blockinfile"),
        *FILE_UNSUPPORTED,
    ),
    returns=(("path", "the file"), ("msg", "what was done"), ("backup_file", "what was kept")),
)  # fmt: skip
Lines = List[str]


def plan(task: step.Task) -> step.Plan:
    """Change the lines."""
    args = task.args
    wanted = list(args["values"] or ()) if args["value"] is None else [args["value"]]
    if args["state"] == "present" and not args["allow_no_value"] and not wanted:
        raise step.Failed(
            "Parameter 'value(s)' must be defined if state=present and allow_no_value=False."
        )
    path = args["path"]
    yield from _files.refuse_planted_links(path if args["follow"] else _files.parent_of(path))
    found = yield step.Stat(path, True)
    if found is None and not args["create"]:
        raise step.Failed(f"Destination {path} does not exist!", rc=257)
    before = ((yield step.Read(path)) or b"").decode("utf-8-sig", "surrogateescape")
    after, message = changed_text(args, before, list(dict.fromkeys(wanted)))
    result: Dict[str, Any] = {"path": path, "msg": message, "changed": False}
    if after == before and found is not None:
        result["changed"] = yield from _files.ensure_attributes(path, args)
        return {**result, **(yield from _files.describe(path))}
    yield from _files.make_folders(_files.parent_of(path), {})
    content = after.encode("utf-8", "surrogateescape")
    done = yield from _files.ensure_content(path, content, args, args["backup"], args["follow"])
    return {**result, **done, **(yield from _files.describe(path))}


def changed_text(args: Dict[str, Any], text: str, wanted: List[str]) -> Tuple[str, str]:
    """The file as it shall be, and what was done to it, in Ansible's words."""
    lines = text.splitlines(keepends=True) or ["\n"]  # a new file begins so, as Ansible's
    if not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    bounds = _section(lines, args["section"])
    if bounds is None:
        if args["state"] == "absent":
            return "".join(lines) if text else text, "OK"
        return "".join([*lines, *_new_section(args, wanted)]), _new_section_told(args, wanted)
    begin, end = bounds
    body = lines[begin:end]
    if args["state"] == "present":
        after, message = _present(args, body, wanted)
    elif args["option"]:
        after, message = _absent(args, body, wanted)
    else:
        begin = begin - 1 if args["section"] else begin
        after, message = [], "section removed" if begin < end else "OK"
    return "".join([*lines[:begin], *after, *lines[end:]]), message


def _section(lines: Lines, name: Optional[str]) -> Optional[Tuple[int, int]]:
    """Where the lines of a section begin and end, without its heading."""
    begin = 0
    if name:
        heads = [n for n, line in enumerate(lines) if line.startswith(f"[{name}]")]
        if not heads:
            return None
        begin = heads[0] + 1
    ends = (n for n in range(begin, len(lines)) if lines[n].startswith("["))
    return begin, next(ends, len(lines))


def _new_section(args: Dict[str, Any], wanted: List[str]) -> Lines:
    lines = ["[{}]\n".format(args["section"])]
    if args["option"]:
        bare = [None] if args["allow_no_value"] else []
        lines += [_line(args, value) for value in (wanted or bare)]
    return lines


def _new_section_told(args: Dict[str, Any], wanted: List[str]) -> str:
    has_option = args["option"] and (wanted or args["allow_no_value"])
    return "section and option added" if has_option else "only section added"


def _line(args: Dict[str, Any], value: Optional[str]) -> str:
    option: str = args["option"]
    if value is None:
        return option + "\n"
    sign = "=" if args["no_extra_spaces"] else " = "
    return option + sign + value + "\n"


def _matched(args: Dict[str, Any], line: str, active: bool) -> Any:
    """Whether a line is about the option; group 1 says that it is off, 2 is its value."""
    off = "()" if active else "([#;]?)"
    option = re.escape(args["option"])
    return re.match(rf"{off}[ \t]*{option}[ \t]*(?:=|$)[ \t]*(.*)", line)


def _present(args: Dict[str, Any], body: Lines, wanted: List[str]) -> Tuple[Lines, str]:
    if not args["option"]:
        return body, "OK"
    left: List[Optional[str]] = [*wanted] or ([None] if args["allow_no_value"] else [])
    after: List[Optional[str]] = list(body)
    lines = {
        number: match
        for number, line in enumerate(body)
        if (match := _matched(args, line, not args["modify_inactive_option"]))
    }
    changed = False
    for number, match in list(lines.items()):
        value = match.group(2) if wanted else None
        if value in left:
            left.remove(value)
            bare = args["allow_no_value"] and not value
            changed = _replace(args, after, number, match, None if bare else value) or changed
            del lines[number]
    if args["exclusive"] and not args["allow_no_value"]:
        for number, match in lines.items():
            if left:
                changed = _replace(args, after, number, match, left.pop(0)) or changed
            else:
                after[number], changed = None, True
    kept = [line for line in after if line is not None]
    if not left:
        return kept, "option changed" if changed else "OK"
    filled = [n for n, line in enumerate(kept, 1) if not re.match(r"[ \t]*([#;].*)?$", line)]
    at = filled[-1] if filled else 0
    return [*kept[:at], *(_line(args, value) for value in left), *kept[at:]], "option added"


def _replace(
    args: Dict[str, Any], lines: List[Optional[str]], number: int, match: Any, value: Optional[str]
) -> bool:
    """Put the option's line; whether that is a change."""
    new = _line(args, value)
    same = lines[number] == new
    if args["ignore_spaces"] and not match.group(1):
        same = match.group(2) == (value or "")
    if not same:
        lines[number] = new
    return not same


def _absent(args: Dict[str, Any], body: Lines, wanted: List[str]) -> Tuple[Lines, str]:
    kept = []
    for line in body:
        match = _matched(args, line.lstrip(" \t"), True)
        if not match or not (args["exclusive"] or match.group(2) in wanted):
            kept.append(line)
    return kept, "OK" if kept == body else "option changed"

"""Arguments of modules: split from free text, checked against what the module takes, and typed."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sappers.provisioner.inventory.host_values import read_boolean
from sappers.provisioner.modules.spec import Argument, Module
from sappers.provisioner.playbook.language.keywords import instead

_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)
# In `name=value`, whether quoted or not, as in Ansible.
_ESCAPE = re.compile(
    r"\\(?:U[0-9a-fA-F]{8}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|N\{[^}]+\}|[\\'\"abfnrtv])"
)


def split_words(text: str) -> list[tuple[int, int]]:
    """Begin and end of each word: quoted parts and templates are not split.

    Raises:
        ValueError: A quote or a template has no end.
    """
    spans: list[tuple[int, int]] = []
    begin, quote, depth, index = -1, "", 0, 0
    while index < len(text):
        pair, char = text[index : index + 2], text[index]
        if not quote and pair in ("{{", "{%", "{#"):
            depth, begin, index = depth + 1, begin if begin >= 0 else index, index + 2
            continue
        if depth and not quote and pair in ("}}", "%}", "#}"):
            depth, index = depth - 1, index + 2
            continue
        if char == "\\" and quote == '"':
            index += 2
            continue
        if not depth and char in "\"'" and quote in ("", char):
            quote = "" if quote else char
        if char.isspace() and not quote and not depth:
            if begin >= 0:
                spans.append((begin, index))
            begin = -1
        elif begin < 0:
            begin = index
        index += 1
    if quote or depth:
        raise ValueError(f"{'a quote' if quote else 'a template'} has no end")
    if begin >= 0:
        spans.append((begin, len(text)))
    return spans


def refuse_unbalanced(text: str) -> None:
    """Refuse a free form in which a quote or a template has no end, by Ansible's own rule.

    It heeds neither what a shell says of quotes within quotes of the other kind after a backslash,
    nor comments: what it takes is taken here, and no more.

    Raises:
        Unbalanced: With the place of the quote.
    """
    quote, begin = "", 0
    for found in re.finditer(r"(?<!\\)[\"']", text):
        if not quote:
            quote, begin = found[0], found.start()
        elif found[0] == quote:
            quote = ""
    if quote:
        raise Unbalanced(
            f"the quote {quote} has no end", offset=begin,
            hint="end it, write \\ before it, or give the command line as `cmd:`",
        )  # fmt: skip
    for opening, closing in (("{{", "}}"), ("{%", "%}"), ("{#", "#}")):
        depth = 0
        for word in re.split("[ \n]", text):
            depth = max(0, depth + word.count(opening) - word.count(closing))
        if depth:
            raise Unbalanced(
                f"the template {opening} has no {closing}", offset=text.rfind(opening),
                hint="end it; what is no template is given as `cmd:`, in {% raw %} … {% endraw %}",
            )  # fmt: skip


def parse_free_form(text: str, module: Module) -> dict[str, str]:
    """Arguments from `name=value …`; for modules that take one, the rest is their free form.

    Raises:
        ValueError: A word is no assignment, or a quote or a template has no end (`Unbalanced`).
    """
    refuse_unbalanced(text)
    if not module.free_form:
        found: dict[str, str] = {}
        for begin, end in split_words(text):
            match = _ASSIGNMENT.fullmatch(text, begin, end)
            if match is None:
                raise ValueError(f"{text[begin:end]!r} is no name=value")
            found[match[1]] = written_value(match[2])
        return found
    known = {argument.name for argument in module.arguments} - {module.free_form}
    known |= dict(module.unsupported).keys()  # Ansible takes these out, too, and refuses them
    found, rest, last = {}, [], 0
    try:
        spans = split_words(text)
    except ValueError:
        return {module.free_form: text}  # the shell knows more quotes than we do
    for begin, end in spans:
        match = _ASSIGNMENT.fullmatch(text, begin, end)
        if match and match[1] not in known and module.free_form == "file":
            raise ArgumentError(
                f"`{match[1]}` is no argument of it", hint="variables are given by `vars:`"
            )
        if match and match[1] in known:
            found[match[1]] = written_value(match[2])
            rest.append(text[last:begin])
            last = end
    rest.append(text[last:])
    return {module.free_form: "".join(rest).strip(), **found}


def written_value(text: str) -> str:
    r"""What is meant by a value of `name=value`: without its quotes, and with `\n` and others read.

    Raises:
        ValueError: There is no character of a name (`\N{…}`).
    """
    text = _ESCAPE.sub(lambda found: codecs.decode(found[0], "unicode-escape"), text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def canonical(name: str, module: Module) -> str:
    """An argument's own name; raises ValueError (with a `hint`) when the module takes none such."""
    for argument in module.arguments:
        if name == argument.name or name in argument.aliases:
            return argument.name
    if module.any_arguments:
        return name
    for refused, reason in module.unsupported:
        if name == refused:
            raise ArgumentError(f"the argument `{name}` is not supported", hint=reason)
    names = [argument.name for argument in module.arguments]
    raise ArgumentError(
        f"`{name}` is no argument of it", hint=instead(name, names, "its arguments")
    )


class ArgumentError(ValueError):
    """An argument is wrong.

    Attributes:
        name: Which one, where it is one.
        hint: What to write instead.
    """

    def __init__(self, message: str, *, name: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.hint = hint


class Unbalanced(ArgumentError):
    """A quote or a template has no end.

    Attributes:
        offset: Where it begins in the text.
    """

    def __init__(self, message: str, *, offset: int, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset


def typed_arguments(given: Mapping[str, Any], module: Module) -> dict[str, Any]:
    """All arguments of a module by their own names, typed, with defaults; nothing is a template.

    Raises:
        ArgumentError: One is missing, unknown, or not of its kind.
    """
    found = dict(given) if module.any_arguments else {}
    values = {canonical(name, module): value for name, value in given.items()}
    check_presence(values, module)
    for argument in module.arguments:
        value = values.get(argument.name)
        found[argument.name] = typed(value, argument) if value is not None else argument.default
    return found


def check_presence(
    values: Mapping[str, Any], module: Module, sure: Callable[[Any], bool] = lambda _: True
) -> None:
    """Refuse what is missing or given too much; names are canonical.

    Args:
        sure: Whether a value is sure to be given; a template may yield `omit`.

    Raises:
        ArgumentError: Says what.
    """
    given = {name for name, value in values.items() if value is not None}
    for argument in module.arguments:
        if argument.required and argument.name not in given:
            raise ArgumentError(f"it needs the argument `{argument.name}`: {argument.help}")
    for group in module.one_of:
        if not given & set(group):
            raise ArgumentError(f"it needs one of the arguments {', '.join(group)}")
    certain = {name for name in given if sure(values[name])}
    for group in module.exclusive:
        if len(certain & set(group)) > 1:
            raise ArgumentError(f"of the arguments {', '.join(group)} it takes one")


def typed(value: Any, argument: Argument) -> Any:
    """A value as its argument wants it.

    Raises:
        ArgumentError: It cannot be that.
    """
    try:
        value = _KINDS[argument.kind](value)
        if argument.kind == "list" and argument.elements != "raw":
            value = [_KINDS[argument.elements](item) for item in value]
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{argument.name}: {error}", name=argument.name) from None
    for one in value if isinstance(value, list) else [value]:
        if argument.choices and one not in argument.choices:
            raise ArgumentError(
                f"{argument.name}: {one!r} is none of {', '.join(argument.choices)}",
                name=argument.name,
            )
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value)


def _as_boolean(value: Any) -> bool:
    return value if isinstance(value, bool) else read_boolean(value)


def _as_integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
        raise ValueError(f"{value!r} is no whole number")
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no whole number") from None


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no number") from None


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value else []
    if isinstance(value, int | float):
        return [str(value)]
    raise ValueError(f"{value!r} is no list")


def _as_mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        loaded = json.loads(value)
        return dict(loaded)
    if isinstance(value, str):
        pairs = [value[begin:end].strip(",") for begin, end in split_words(value)]
        if all("=" in pair for pair in pairs):
            return dict(pair.split("=", 1) for pair in pairs)
    raise ValueError(f"{value!r} is no mapping")


def _as_mode(value: Any) -> str:
    """Octal digits or a symbolic mode; YAML has read 0644 as a number already."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:04o}"
    text = str(value).strip()
    symbolic = re.fullmatch(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,.*)?", text)
    if text == "preserve" or re.fullmatch("[0-7]{1,5}", text) or symbolic:
        return text
    raise ValueError(f"{value!r} is no mode: '0644', or u=rw,g=r,o=r")


_KINDS: Mapping[str, Any] = {
    "str": _as_text,
    "path": _as_text,
    "bool": _as_boolean,
    "int": _as_integer,
    "float": _as_number,
    "list": _as_list,
    "dict": _as_mapping,
    "mode": _as_mode,
    "raw": lambda value: value,
}

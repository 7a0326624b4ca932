"""Ansible's filters for texts, paths, numbers and time; those for collections are beside."""

from __future__ import annotations

import base64
import datetime
import glob
import hashlib
import json
import math
import ntpath
import os
import posixpath
import random
import re
import shlex
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import jinja2

from sappers.provisioner.inventory.host_values import read_boolean
from sappers.provisioner.playbook.templates.collection_filters import COLLECTION_FILTERS
from sappers.provisioner.playbook.templates.hashing import password_hash
from sappers.provisioner.playbook.templates.values import Undefined, plain

_NAMESPACE = uuid.UUID("361E6D51-FAEC-444A-9079-341386DA8E2E")
# Powers of 1024, the greatest first.
_UNITS: dict[str, int] = {"Y": 8, "Z": 7, "E": 6, "P": 5, "T": 4, "G": 3, "M": 2, "K": 1}
_UNIT_WORDS = {
    "Y": "yotta", "Z": "zeta", "E": "exa", "P": "peta", "T": "tera", "G": "giga", "M": "mega",
    "K": "kilo",
}  # fmt: skip


def _bool(value: Any) -> bool:
    """The filter `bool`: of fewer words than keywords know."""
    if isinstance(value, str):
        return value.lower() in ("yes", "on", "true", "1")
    return bool(value == 1)


def _to_json(value: Any, **settings: Any) -> str:
    settings.setdefault("sort_keys", False)
    return json.dumps(plain(value), default=_json_of, **settings)


def _json_of(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def _to_nice_json(value: Any, indent: int = 4, *, sort_keys: bool = True, **settings: Any) -> str:
    return _to_json(value, indent=indent, sort_keys=sort_keys, separators=(",", ": "), **settings)


# By the library that Ansible uses, so that files are the same byte for byte; few playbooks need it.
def _to_yaml(value: Any, *_: Any, default_flow_style: bool | None = None, **settings: Any) -> str:
    import yaml

    settings |= {"allow_unicode": True, "default_flow_style": default_flow_style}
    return str(yaml.dump(plain(value), Dumper=yaml.CSafeDumper, **settings))


def _to_nice_yaml(
    value: Any, indent: int = 4, *_: Any, default_flow_style: bool = False, **settings: Any
) -> str:
    return _to_yaml(value, indent=indent, default_flow_style=default_flow_style, **settings)


def _from_yaml(text: Any) -> Any:
    import yaml

    return yaml.load(text, yaml.CSafeLoader) if isinstance(text, str) else text


def _from_yaml_all(text: Any) -> Any:
    import yaml

    if isinstance(text, str):
        return list(yaml.load_all(text, yaml.CSafeLoader))
    return [] if text is None else text


def _flags(*, ignorecase: bool, multiline: bool) -> re.RegexFlag:
    flags = re.RegexFlag(0)
    if ignorecase:
        flags |= re.IGNORECASE
    return flags | re.MULTILINE if multiline else flags


def _regex_replace(
    value: Any = "",
    pattern: str = "",
    replacement: str = "",
    ignorecase: Any = False,
    multiline: Any = False,
    count: int = 0,
    mandatory_count: int = 0,
) -> str:
    flags = _flags(ignorecase=bool(ignorecase), multiline=bool(multiline))
    text, done = re.subn(pattern, replacement, str(value), count=count, flags=flags)
    if mandatory_count and done != mandatory_count:
        raise ValueError(f"{pattern!r} was found {done} times, not {mandatory_count}")
    return text


def _regex_search(value: Any, regex: str, *groups: str, **how: Any) -> Any:
    wanted = [_group(one) for one in groups]
    flags = _flags(ignorecase=bool(how.get("ignorecase")), multiline=bool(how.get("multiline")))
    match = re.search(regex, str(value), flags)
    if match is None:
        return None
    return [match.group(one) for one in wanted] if wanted else match.group()


def _group(name: str) -> int | str:
    if match := re.fullmatch(r"\\g<(\S+)>", name):
        return match[1]
    if match := re.fullmatch(r"\\(\d+)", name):
        return int(match[1])
    raise ValueError(f"{name!r} names no group: write '\\\\1' or '\\\\g<name>'")


def _regex_findall(value: Any, regex: str, multiline: Any = False, ignorecase: Any = False) -> Any:
    flags = _flags(ignorecase=bool(ignorecase), multiline=bool(multiline))
    return re.findall(regex, str(value), flags)


def _regex_escape(text: str, re_type: str = "python") -> str:
    if re_type == "python":
        return re.escape(str(text))
    if re_type == "posix_basic":
        return re.sub(r"([].[^$*\\])", r"\\\1", str(text))
    raise ValueError(f"re_type is python or posix_basic, not {re_type!r}")


def _hash(value: Any, name: str = "sha1") -> str:
    return hashlib.new(name, str(value).encode()).hexdigest()


def _quote(value: Any) -> str:
    return shlex.quote("" if value is None else str(value))


def _ternary(value: Any, true: Any, false: Any, none: Any = None) -> Any:
    if value is None and none is not None:
        return none
    return true if bool(value) else false


def _mandatory(value: Any, msg: str | None = None) -> Any:
    if isinstance(value, Undefined):
        name = value._undefined_name or "a variable"  # noqa: SLF001 — Jinja tells it nowhere else
        raise jinja2.UndefinedError(msg or f"Mandatory variable '{name}' not defined.")
    return value


def _b64encode(value: Any, encoding: str = "utf-8", urlsafe: Any = False) -> str:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    return encode(str(value).encode(encoding, "surrogateescape")).decode()


def _b64decode(value: Any, encoding: str = "utf-8", urlsafe: Any = False) -> str:
    decode = base64.urlsafe_b64decode if urlsafe else base64.b64decode
    return decode(str(value)).decode(encoding, "surrogateescape")


def _human_readable(size: float, isbits: Any = False, unit: str | None = None) -> str:
    for letter, power in _UNITS.items():
        if (unit is None and size >= 1024**power) or (unit and letter == unit.upper()):
            text = f"{size / 1024**power:.2f} {letter}"
            return text + ("b" if isbits else "B")
    return f"{size / 1:.2f} {'bits' if isbits else 'Bytes'}"


def _human_to_bytes(text: Any, default_unit: str | None = None, isbits: Any = False) -> int:
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)(?:\s*([A-Za-z]+))?\s*", str(text))
    if match is None:
        raise ValueError(f"{text!r} is no size")
    unit = match[2] or default_unit or "B"
    letter = unit[0].upper()
    if letter not in (*_UNITS, "B"):
        raise ValueError(f"{text!r} has no unit that is known")
    word, short = ("bit", "b") if isbits else ("byte", "B")
    whole = (short, word) if letter == "B" else (letter + short, _UNIT_WORDS[letter] + word)
    if len(unit) > 1 and unit != whole[0] and unit.lower() != whole[1]:
        raise ValueError(f"{unit!r} is no unit of {word}s: {whole[0]} is, and {letter}")
    return round(float(match[1]) * float(1024 ** _UNITS.get(letter, 0)))


def _log(value: float, base: float = math.e) -> float:
    return math.log10(value) if base == 10 else math.log(value, base)


def _root(value: float, base: float = 2) -> float:
    return math.sqrt(value) if base == 2 else math.pow(value, 1.0 / float(base))


def _strftime(form: str, second: Any = None, utc: Any = False) -> str:
    seconds = None if second is None else float(second)
    return time.strftime(form, time.gmtime(seconds) if utc else time.localtime(seconds))


def _to_datetime(text: str, form: str = "%Y-%m-%d %H:%M:%S") -> datetime.datetime:
    return datetime.datetime.strptime(text, form)  # noqa: DTZ007 — naive, as Ansible's


def _random(end: Any, start: int | None = None, step: int | None = None, seed: Any = None) -> Any:
    source = random.Random(seed) if seed is not None else random.SystemRandom()
    if isinstance(end, int):
        return source.randrange(start or 0, end, step or 1)
    if start or step:
        raise ValueError("random takes start and step with a number only")
    return source.choice(end)


def _shuffle(values: Any, seed: Any = None) -> Any:
    source = random.Random(seed) if seed else random.SystemRandom()
    try:
        shuffled = list(values)
    except TypeError:
        return values
    source.shuffle(shuffled)
    return shuffled


def _to_uuid(value: Any, namespace: Any = _NAMESPACE) -> str:
    base = namespace if isinstance(namespace, uuid.UUID) else uuid.UUID(str(namespace))
    return str(uuid.uuid5(base, str(value)))


def _urlsplit(value: str, query: str = "") -> Any:
    split = urlsplit(value)
    names = ("scheme", "netloc", "path", "query", "fragment", "username", "password", "hostname",
             "port")  # fmt: skip
    found = {name: getattr(split, name) for name in names}
    if query and query not in found:
        raise ValueError(f"urlsplit: there is no component {query!r}")
    return found[query] if query else found


_COMMENTS: Mapping[str, tuple[str, str, str]] = {
    "plain": ("", "# ", ""),
    "c": ("", "// ", ""),
    "cblock": ("/*", " * ", " */"),
    "erlang": ("", "% ", ""),
    "xml": ("<!--", " - ", "-->"),
}


def _comment(text: str, style: str = "plain", **settings: Any) -> str:
    names = ("beginning", "decoration", "end")
    given = dict(zip(names, _COMMENTS[style], strict=True)) | {"newline": "\n"} | settings
    beginning, decoration, end, newline = (str(given[name]) for name in (*names, "newline"))
    prefix = str(given.get("prefix", decoration.rstrip()))
    postfix = str(given.get("postfix", decoration.rstrip()))
    before = prefix if prefix == newline else prefix and prefix + newline
    body = decoration + text.replace(newline, newline + decoration)
    body = body.replace(decoration + newline, decoration.rstrip() + newline)
    return (
        (beginning and beginning + newline)
        + before * int(given.get("prefix_count", 1))
        + body
        + (newline + postfix) * int(given.get("postfix_count", 1))
        + (end and newline + end)
    )


def _path_join(paths: Any) -> str:
    return os.path.join(*([paths] if isinstance(paths, str) else paths))  # noqa: PTH118


def _split(value: str, separator: str | None = None, maximum: int = -1) -> list[str]:
    return value.split(separator, maximum)


FILTERS: dict[str, Callable[..., Any]] = {
    **COLLECTION_FILTERS,
    "b64decode": _b64decode,
    "b64encode": _b64encode,
    "basename": posixpath.basename,
    "bool": _bool,
    "checksum": _hash,
    "comment": _comment,
    "commonpath": os.path.commonpath,
    "dirname": posixpath.dirname,
    "expanduser": os.path.expanduser,
    "expandvars": os.path.expandvars,
    "fileglob": lambda pattern: [path for path in glob.glob(pattern) if os.path.isfile(path)],  # noqa: PTH113, PTH207
    "from_json": json.loads,
    "from_yaml": _from_yaml,
    "from_yaml_all": _from_yaml_all,
    "hash": _hash,
    "human_readable": _human_readable,
    "human_to_bytes": _human_to_bytes,
    "log": _log,
    "mandatory": _mandatory,
    "md5": lambda value: _hash(value, "md5"),
    "normpath": os.path.normpath,
    "password_hash": password_hash,
    "path_join": _path_join,
    "pow": lambda value, power: math.pow(value, power),
    "quote": _quote,
    "random": _random,
    "realpath": os.path.realpath,
    "regex_escape": _regex_escape,
    "regex_findall": _regex_findall,
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "relpath": os.path.relpath,
    "root": _root,
    "sha1": _hash,
    "shuffle": _shuffle,
    "split": _split,
    "splitext": lambda path: list(os.path.splitext(path)),  # noqa: PTH122
    "strftime": _strftime,
    "ternary": _ternary,
    "to_datetime": _to_datetime,
    "to_json": _to_json,
    "to_nice_json": _to_nice_json,
    "to_nice_yaml": _to_nice_yaml,
    "to_uuid": _to_uuid,
    "to_yaml": _to_yaml,
    "type_debug": lambda value: type(value).__name__,
    "urldecode": unquote_plus,
    "urlsplit": _urlsplit,
    "win_basename": ntpath.basename,
    "win_dirname": ntpath.dirname,
    "win_splitdrive": lambda path: list(ntpath.splitdrive(path)),
}


def is_truthy(value: Any, *, convert_bool: bool = False) -> bool:
    """The test `truthy`; what is no boolean's word counts as it is."""
    if convert_bool:
        with suppress(ValueError):
            return read_boolean(value)
    return bool(value)

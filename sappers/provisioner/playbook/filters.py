"""Ansible's filters for texts, paths, numbers and time; those for collections are beside."""

from __future__ import annotations

import base64
import datetime
import glob
import hashlib
import io
import json
import math
import ntpath
import os
import posixpath
import random
import re
import shlex
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import jinja2
from ruamel.yaml import YAML

from sappers.provisioner.inventory.host_values import read_boolean
from sappers.provisioner.playbook.collections import COLLECTION_FILTERS
from sappers.provisioner.playbook.hashing import password_hash
from sappers.provisioner.playbook.templating import Undefined, plain

_NAMESPACE = uuid.UUID("361E6D51-FAEC-444A-9079-341386DA8E2E")
# With an indentation Ansible puts mappings and lists in lists under their first key, and scalars
# right behind the dash; the library here does the first with all of them.
_KEY = r"(?:'(?:[^']|'')*'|[^\s'\"\[{-][^:\n]*(?::\S[^:\n]*)*):(?: |$)"
_SCALAR_ITEM = re.compile(rf"^((?: |-(?=   ))*)- +(?!- )(?!{_KEY})(\S.*)$", re.MULTILINE)
_UNITS = ("Y", "Z", "E", "P", "T", "G", "M", "K")


def to_bool(value: Any) -> bool:
    """A boolean from Ansible's words; anything else is false, as there."""
    if isinstance(value, bool):
        return value
    return str(value).strip().lower() in ("yes", "on", "1", "true", "t", "y", "1.0")


def _to_json(value: Any, **settings: Any) -> str:
    settings.setdefault("sort_keys", False)
    return json.dumps(plain(value), default=str, **settings)


def _to_nice_json(value: Any, indent: int = 4, *, sort_keys: bool = True, **settings: Any) -> str:
    return _to_json(value, indent=indent, sort_keys=sort_keys, separators=(",", ": "), **settings)


def _dump_yaml(value: Any, *, indent: int | None, flow: bool | None, **settings: Any) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = flow
    yaml.allow_unicode = True
    yaml.width = int(settings.get("width", 80))
    yaml.sort_base_mapping_type_on_output = settings.get("sort_keys", True)
    if indent:
        yaml.map_indent = yaml.sequence_indent = indent
        yaml.sequence_dash_offset = 0
    stream = io.StringIO()
    yaml.dump(plain(value), stream)
    text = stream.getvalue().removesuffix("...\n")
    return _SCALAR_ITEM.sub(r"\1- \2", text) if indent else text


def _to_yaml(value: Any, **settings: Any) -> str:
    return _dump_yaml(value, indent=None, flow=settings.pop("default_flow_style", None), **settings)


def _to_nice_yaml(value: Any, indent: int = 4, **settings: Any) -> str:
    return _dump_yaml(value, indent=indent, flow=False, **settings)


def _from_yaml(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    return yaml.load(str(text))


def _from_yaml_all(text: str) -> list[Any]:
    yaml = YAML(typ="safe", pure=True)
    return list(yaml.load_all(str(text)))


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
    flags = _flags(ignorecase=bool(how.get("ignorecase")), multiline=bool(how.get("multiline")))
    match = re.search(regex, str(value), flags)
    if match is None:
        return None
    if not groups:
        return match.group()
    return [match.group(_group(one)) for one in groups]


def _group(name: str) -> int | str:
    if match := re.fullmatch(r"\\g<(\S+)>", name):
        return int(match[1]) if match[1].isdigit() else match[1]
    if match := re.fullmatch(r"\\(\d+)", name):
        return int(match[1])
    raise ValueError(f"{name!r} names no group: write '\\\\1' or '\\\\g<name>'")


def _regex_findall(value: Any, regex: str, multiline: Any = False, ignorecase: Any = False) -> Any:
    flags = _flags(ignorecase=bool(ignorecase), multiline=bool(multiline))
    return re.findall(regex, str(value), flags)


def _regex_escape(text: str, re_type: str = "python") -> str:
    if re_type == "python":
        return re.escape(str(text))
    return re.sub(r"([].[^$*\\])", r"\\\1", str(text))


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


def _b64encode(value: Any, encoding: str = "utf-8") -> str:
    return base64.b64encode(str(value).encode(encoding, "surrogateescape")).decode()


def _b64decode(value: Any, encoding: str = "utf-8") -> str:
    return base64.b64decode(str(value)).decode(encoding, "surrogateescape")


def _human_readable(size: Any, isbits: Any = False, unit: str | None = None) -> str:
    number, suffix = float(size), "bits" if isbits else "Bytes"
    for power, letter in zip(range(8, 0, -1), _UNITS, strict=True):
        if (unit is None and number >= 1024**power) or (unit and letter == unit.upper()):
            text = f"{number / 1024**power:.2f} {letter}"
            return text + ("b" if isbits else "B")
    return f"{number:.2f} {suffix}"


def _human_to_bytes(text: Any, default_unit: str | None = None, isbits: Any = False) -> int:
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", str(text))
    if match is None:
        raise ValueError(f"{text!r} is no size")
    unit = (match[2] or default_unit or "B").upper()
    if unit[0] == "B":
        return round(float(match[1]))
    if unit[0] not in _UNITS:
        raise ValueError(f"{text!r} has no unit that is known")
    del isbits
    return round(float(match[1]) * 1024.0 ** (8 - _UNITS.index(unit[0])))


def _log(value: float, base: float = math.e) -> float:
    return math.log10(value) if base == 10 else math.log(value, base)


def _root(value: float, base: float = 2) -> float:
    return math.sqrt(value) if base == 2 else math.pow(value, 1.0 / float(base))


def _strftime(form: str, second: Any = None, utc: Any = False) -> str:
    zone = datetime.UTC if utc else None
    moment = (
        datetime.datetime.now(zone) if second is None
        else datetime.datetime.fromtimestamp(float(second), zone)
    )  # fmt: skip
    return moment.strftime(form)


def _to_datetime(text: str, form: str = "%Y-%m-%d %H:%M:%S") -> datetime.datetime:
    return datetime.datetime.strptime(text, form)  # noqa: DTZ007 — naive, as Ansible's


def _random(end: Any, start: int | None = None, step: int | None = None, seed: Any = None) -> Any:
    source = random.Random(seed) if seed is not None else random.SystemRandom()
    if isinstance(end, int):
        return source.randrange(start or 0, end, step or 1)
    return source.choice(list(end))


def _shuffle(values: Any, seed: Any = None) -> list[Any]:
    source = random.Random(seed) if seed is not None else random.SystemRandom()
    shuffled = list(values)
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
    beginning, decoration, end = _COMMENTS[style]
    decoration = settings.get("decoration", decoration)
    prefix = settings.get("prefix", decoration.rstrip())
    postfix = settings.get("postfix", decoration.rstrip())
    before = [prefix] * int(settings.get("prefix_count", 1)) if prefix else []
    after = [postfix] * int(settings.get("postfix_count", 1))
    body = [(decoration + line).rstrip() for line in str(text).split("\n")]
    lines = [settings.get("beginning", beginning), *before, *body, *after]
    lines.append(settings.get("end", end))
    return "\n".join(lines[0 if lines[0] else 1 : len(lines) if lines[-1] else -1])


def _path_join(paths: Any) -> str:
    return os.path.join(*([paths] if isinstance(paths, str) else paths))  # noqa: PTH118


def _split(value: str, separator: str | None = None, maximum: int = -1) -> list[str]:
    return value.split(separator, maximum)


FILTERS: dict[str, Callable[..., Any]] = {
    **COLLECTION_FILTERS,
    "b64decode": _b64decode,
    "b64encode": _b64encode,
    "basename": lambda path: posixpath.basename(str(path)),
    "bool": to_bool,
    "checksum": _hash,
    "comment": _comment,
    "commonpath": os.path.commonpath,
    "dirname": lambda path: posixpath.dirname(str(path)),
    "expanduser": os.path.expanduser,
    "expandvars": os.path.expandvars,
    "fileglob": lambda pattern: [path for path in glob.glob(pattern) if os.path.isfile(path)],  # noqa: PTH113, PTH207
    "from_json": lambda text: json.loads(str(text)),
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
    """The test `truthy`."""
    return read_boolean(value) if convert_bool else bool(value)

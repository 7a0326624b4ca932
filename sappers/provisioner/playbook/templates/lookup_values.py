"""Ansible's lookups that need nothing but their terms: lists, numbers, passwords, the web."""

from __future__ import annotations

import base64
import copy
import itertools
import os
import random
import re
import secrets
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sappers.provisioner.playbook.templates.collection_filters import subelements
from sappers.provisioner.playbook.templates.filters import is_truthy
from sappers.provisioner.playbook.templates.hashing import password_hash

# Called with its terms as a list, and its options by name. Raises ValueError.
Lookup = Callable[..., list[Any]]
_NUMBER = r"(?:0x)?[0-9a-f]+"
_SHORT_SEQUENCE = re.compile(
    rf"(?:(?P<start>{_NUMBER})-)?(?P<end>{_NUMBER})(?:/(?P<stride>{_NUMBER}))?(?::(?P<format>.+))?",
    re.IGNORECASE,
)
_SEQUENCE_OPTIONS = {"start", "end", "stride", "count", "format"}
_PASSWORD_OPTIONS = {"length", "encrypt", "chars", "ident", "seed"}
_PASSWORD_CHARS = ("ascii_letters", "digits", ".,:-_")
_SALT_CHARS = string.ascii_letters + string.digits + "./"
_SALT_SIZES = {"md5_crypt": 8, "bcrypt": 22, "sha256_crypt": 16, "sha512_crypt": 16}


def as_list(value: Any) -> list[Any]:
    """A list as it is, anything else as the only one of a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def flat(terms: Any) -> list[Any]:
    """With the items of lists in place of the lists."""
    return [one for term in terms for one in as_list(term)]


def flat_deep(terms: list[Any], **_: Any) -> list[Any]:
    """The same at any depth."""
    found: list[Any] = []
    for term in terms:
        found.extend(flat_deep(term) if isinstance(term, list) else [term])
    return found


def options_in(term: str, known: set[str]) -> tuple[str, dict[str, str]]:
    """A term without its `name=value` words, and these.

    Raises:
        ValueError: There is no such option.
    """
    words = term.split(" ")
    options = dict(word.split("=", 1) for word in words if "=" in word)
    if unknown := set(options) - known:
        raise ValueError(f"no such option: {', '.join(sorted(unknown))}")
    return " ".join(word for word in words if word and "=" not in word), options


def dicts(terms: list[Any], **_: Any) -> list[Any]:
    """Pairs of key and value."""
    for term in terms:
        if not isinstance(term, Mapping):
            raise TypeError(f"dict takes mappings, not {term!r}")
    return [{"key": key, "value": value} for term in terms for key, value in term.items()]


def nested(terms: list[Any], **_: Any) -> list[Any]:
    """Each of the first list with each of the others; what are lists in them is flattened."""
    if not terms:
        raise ValueError("nested takes one list at least")
    found = terms[0]
    for term in terms[1:]:
        found = [flat(pair) for pair in itertools.product(found, term)]
    return [flat(one) for one in found]


def together(terms: list[Any], **_: Any) -> list[Any]:
    """The first of each list, then the second; nothing where one is shorter."""
    if not terms:
        raise ValueError("together takes one list at least")
    return [flat(one) for one in itertools.zip_longest(*terms)]


def subelements_of(terms: list[Any], **_: Any) -> list[Any]:
    """Each element, without a list in it, with each item of the list; none of what was skipped."""
    if not 2 <= len(terms) <= 3 or not isinstance(terms[1], str):
        raise ValueError("subelements takes a list, the way to lists in its elements, and flags")
    values, way = terms[0], terms[1]
    flags = terms[2] if len(terms) > 2 else {}
    if isinstance(values, Mapping):
        values = [] if values.get("skipped", False) else values.values()
    skip_missing = is_truthy(flags.get("skip_missing", False), convert_bool=True)
    found: list[Any] = []
    for element in copy.deepcopy(list(values)):
        if isinstance(element, Mapping) and element.get("skipped"):
            continue
        pairs = subelements([element], way, skip_missing=skip_missing)
        if pairs:
            _without(element, way.split("."))
        found += pairs
    return found


def _without(element: Any, way: list[str]) -> None:
    """Take out what a way leads to: its items are told beside."""
    for name in way[:-1]:
        element = element[name]
    del element[way[-1]]


def sequence(terms: list[Any], **given: Any) -> list[Any]:
    """Numbers as texts: `end=3`, `start=1 count=3 format=n%02d`, or `1-9/2:n%02d`."""
    found: list[str] = []
    for term in map(str, terms or [""]):
        if match := _SHORT_SEQUENCE.fullmatch(term):
            options = {name: value for name, value in match.groupdict().items() if value}
        else:
            _, options = options_in(term, _SEQUENCE_OPTIONS)
        found += _numbers(given | options)
    return found


def _numbers(options: Mapping[str, Any]) -> list[str]:
    start, stride = _integer(options.get("start", 1)), _integer(options.get("stride", 1))
    if ("count" in options) == ("end" in options):
        raise ValueError("sequence takes either end or count")
    if "count" in options:
        count = _integer(options["count"])
        end = start + count * stride - 1
    else:
        count, end = 1, _integer(options["end"])
    if count == 0:
        return []
    if (stride > 0 and end < start) or (stride < 0 and end > start):
        raise ValueError(f"sequence cannot count from {start} to {end} by {stride}")
    form = str(options.get("format", "%d"))
    if form.count("%") != 1:
        raise ValueError(f"{form!r} is no format of one number")
    if stride == 0:
        return []
    return [form % number for number in range(start, end + (1 if stride > 0 else -1), stride)]


def _integer(value: Any) -> int:
    text = str(value)
    return int(text, 16 if text.lower().startswith("0x") else 10)


def password(terms: list[Any], folder: Path, **given: Any) -> list[Any]:
    """Passwords that are made once and kept in files below a folder; in `/dev/null` none is."""
    found = []
    chars = given.get("chars")
    given |= {"chars": chars.split(",")} if isinstance(chars, str) else {}
    for term in map(str, terms):
        path, options = options_in(term, _PASSWORD_OPTIONS)
        found.append(_password(folder / path, given | options))
    return found


def _password(file: Path, options: Mapping[str, Any]) -> str:
    kept = file != Path(os.devnull)
    content = file.read_text().rstrip() if kept and file.is_file() else None
    encrypt = options.get("encrypt")
    plain, salt, ident = _parts_of(content or "")
    if content is None:
        plain = _random_text(_password_chars(options), options)
    if encrypt and not salt:
        salt = _random_text(_SALT_CHARS, {"length": _SALT_SIZES.get(encrypt, 8)})
    if not ident:
        ident = options.get("ident") or ("2b" if encrypt == "bcrypt" else None)
    elif options.get("ident", ident) != ident:
        raise ValueError(f"{file} was made with the ident {ident}")
    line = f"{plain} salt={salt}" if encrypt else content or plain
    line += f" ident={ident}" if encrypt and ident else ""
    if kept and line != content:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_text(line + "\n")
    return password_hash(plain, encrypt, salt=salt, ident=ident) if encrypt else plain


def _parts_of(content: str) -> tuple[str, str | None, str | None]:
    plain, has_salt, rest = content.rpartition(" salt=")
    if not has_salt:
        return content, None, None
    salt, _, ident = rest.partition(" ident=")
    return plain, salt, ident or None


def _password_chars(options: Mapping[str, Any]) -> str:
    names = options.get("chars", _PASSWORD_CHARS)
    if isinstance(names, str):
        comma = [","] if ",," in names else []
        names = [*comma, *(name for name in names.replace(",,", ",").split(",") if name)]
    text = "".join(getattr(string, name, name) for name in names)
    return text.replace('"', "").replace("'", "")


def _random_text(chars: str, options: Mapping[str, Any]) -> str:
    seed = options.get("seed")
    source = secrets.SystemRandom() if seed is None else random.Random(seed)
    return "".join(source.choice(chars) for _ in range(int(options.get("length", 20))))


def url(
    terms: list[Any],
    *,
    split_lines: bool = True,
    username: str | None = None,
    password: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10,
    **_: Any,
) -> list[Any]:
    """What servers answer, as lines or as one text each."""
    import urllib.request  # late: it takes a moment, and few playbooks ask the web

    found: list[Any] = []
    for term in map(str, terms):
        if urlsplit(term).scheme not in ("http", "https"):
            raise ValueError(f"{term!r} is no address of the web")
        request = urllib.request.Request(term, headers=dict(headers or {}))  # noqa: S310 — see above
        if username is not None:
            login = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        with urllib.request.urlopen(request, timeout=float(timeout)) as answer:  # noqa: S310
            text = answer.read().decode("utf-8", "surrogateescape")
        found += text.splitlines() if split_lines else [text]
    return found


LOOKUPS: Mapping[str, Lookup] = {
    "cartesian": lambda terms, **_: [list(o) for o in itertools.product(*map(as_list, terms))],
    "dict": dicts,
    "env": lambda terms, default="", **_: [
        os.environ.get(str(one).split()[0], default) for one in terms
    ],
    "flattened": flat_deep,
    "indexed_items": lambda terms, **_: [list(pair) for pair in enumerate(flat(terms))],
    "items": lambda terms, **_: flat(terms),
    "list": lambda terms, **_: list(terms),
    "nested": nested,
    "random_choice": lambda terms, **_: [random.choice(terms)] if terms else [],
    "sequence": sequence,
    "subelements": subelements_of,
    "together": together,
    "url": url,
}

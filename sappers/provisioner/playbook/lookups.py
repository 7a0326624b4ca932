"""Ansible's lookups: they read what is on the control machine, for templates and for `with_…`."""

from __future__ import annotations

import base64
import configparser
import csv
import glob
import itertools
import os
import random
import re
import secrets
import string
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sappers.provisioner.playbook.collections import subelements
from sappers.provisioner.playbook.templating import MISSING
from sappers.provisioner.source import VAULT_HEADER, Decrypt, Place

if TYPE_CHECKING:
    from sappers.provisioner.playbook.variables import Scope


# Called with its terms as a list, and its options by name. Raises ValueError.
Lookup = Callable[..., list[Any]]


class Lookups:
    """The lookups as one task on one host sees them; `more` are those of the run alone."""

    def __init__(
        self,
        scope: Scope,
        more: Mapping[str, Lookup] | None = None,
        decrypt: Decrypt | None = None,
    ) -> None:
        self._scope = scope
        self._decrypt = decrypt
        self._known: dict[str, Lookup] = {
            "csvfile": self._csv,
            "dict": lambda terms, **_: [
                {"key": key, "value": value} for term in terms for key, value in term.items()
            ],
            "env": lambda terms, default="", **_: [os.environ.get(one, default) for one in terms],
            "file": self._file,
            "fileglob": self._fileglob,
            "first_found": self._first_found,
            "indexed_items": lambda terms, **_: [list(p) for p in enumerate(_flat(terms))],
            "ini": self._ini,
            "inventory_hostnames": self._inventory_hostnames,
            "items": lambda terms, **_: _flat(terms),
            "flattened": lambda terms, **_: _flat_deep(terms),
            "lines": self._lines,
            "list": lambda terms, **_: list(terms),
            "nested": lambda terms, **_: [
                list(one) for one in itertools.product(*map(_as_list, terms))
            ],
            "cartesian": lambda terms, **_: [
                list(one) for one in itertools.product(*map(_as_list, terms))
            ],
            "password": self._password,
            "pipe": self._pipe,
            "random_choice": lambda terms, **_: [random.choice(terms)] if terms else [],
            "sequence": self._sequence,
            "subelements": self._subelements,
            "template": self._template,
            "together": lambda terms, **_: [list(one) for one in itertools.zip_longest(*terms)],
            "unvault": lambda terms, **_: self._file(terms, rstrip=False),
            "url": _url,
            "varnames": self._varnames,
            "vars": self._vars,
            **(more or {}),
        }

    def lookup(self, name: str, *terms: Any, wantlist: bool = False, **options: Any) -> Any:
        """The function `lookup`: a text of what is found, or with `wantlist` the list.

        Raises:
            ValueError: There is no such lookup, or it finds nothing.
        """
        errors = str(options.pop("errors", "strict"))
        try:
            found = self._call(name, list(terms), options)
        except (ValueError, OSError, KeyError, TypeError):
            if errors == "strict":
                raise
            return [] if wantlist else None
        if wantlist:
            return found
        if len(found) == 1:
            return found[0]
        return ",".join(map(str, found)) if all(isinstance(one, str) for one in found) else found

    def query(self, name: str, *terms: Any, **options: Any) -> Any:
        """The function `query`: the list of what is found."""
        return self.lookup(name, *terms, wantlist=True, **options)

    def loop_items(self, name: str, terms: Any, place: Place) -> list[Any]:
        """The items of `with_NAME`.

        Raises:
            PlaybookError: There is no such lookup, it finds nothing, or a template is wrong.
        """
        rendered = self._scope.templates.render(terms, self._scope, place)
        if not isinstance(rendered, list):
            rendered = [rendered]
        try:
            return self._call(name, rendered, {})
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise place.error(f"with_{name}: {error}") from error

    def _call(self, name: str, terms: list[Any], options: dict[str, Any]) -> list[Any]:
        short = name.removeprefix("ansible.builtin.").removeprefix("community.general.")
        if short not in self._known:
            raise ValueError(
                f"there is no lookup {name!r}; there are {', '.join(sorted(self._known))}"
            )
        return self._known[short](terms, **options)

    def _find(self, name: str, kind: str) -> Path:
        path = Path(name).expanduser()
        if path.is_absolute():
            candidates = [path]
        else:
            folders = self._scope.folders
            candidates = [
                one for folder in folders for one in (folder / kind / name, folder / name)
            ]
        found = next((one for one in candidates if one.is_file()), None)
        if found is None:
            raise ValueError(f"there is no file {name}")
        return found

    def _file(self, terms: list[Any], *, rstrip: bool = True, lstrip: bool = False) -> list[Any]:
        texts = [self._read(self._find(str(term), "files")) for term in terms]
        texts = [text.rstrip() if rstrip else text for text in texts]
        return [text.lstrip() if lstrip else text for text in texts]

    def _read(self, path: Path) -> str:
        """A file's text; what is encrypted with Vault is opened."""
        text = path.read_text("utf-8")
        if not text.startswith(VAULT_HEADER):
            return text
        if self._decrypt is None:
            raise ValueError(f"{path} is encrypted with Vault, and no password is given")
        return self._decrypt(text)

    def _fileglob(self, terms: list[Any], **_: Any) -> list[Any]:
        found: list[str] = []
        for term in map(str, terms):
            if Path(term).is_absolute():
                folders = [Path("/")]
            else:
                folders = [one for base in self._scope.folders for one in (base / "files", base)]
            for folder in folders:
                paths = sorted(glob.glob(str(folder / term)))  # noqa: PTH207
                if paths:
                    found += [path for path in paths if Path(path).is_file()]
                    break
        return found

    def _first_found(self, terms: list[Any], **options: Any) -> list[Any]:
        skip = bool(options.get("skip", False))
        names: list[Path] = []
        for term in [*terms, *([options] if "files" in options else [])]:
            if isinstance(term, dict):
                skip = skip or bool(term.get("skip", False))
                folders = _as_list(term.get("paths") or [""])
                for folder, name in itertools.product(folders, _as_list(term.get("files") or [""])):
                    names.append(Path(folder) / name)
            else:
                names += [Path(str(one)) for one in _as_list(term)]
        for name in names:
            for kind in ("files", "templates", "vars", "tasks"):
                try:
                    return [str(self._find(str(name), kind))]
                except ValueError:
                    continue
        if skip:
            return []
        raise ValueError(f"none of these files is there: {', '.join(map(str, names))}")

    def _lines(self, terms: list[Any], **_: Any) -> list[Any]:
        return [line for text in self._pipe(terms) for line in text.splitlines()]

    def _pipe(self, terms: list[Any], **_: Any) -> list[Any]:
        found = []
        for term in terms:
            done = subprocess.run(  # noqa: S602 — the lookup is a shell's command line
                str(term), shell=True, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise ValueError(f"`{term}` ended with exit code {done.returncode}")
            found.append(done.stdout.rstrip())
        return found

    def _sequence(self, terms: list[Any], **options: Any) -> list[Any]:
        for term in terms:
            options |= dict(re.findall(r"(\w+)=(\S+)", str(term)))
            if match := re.fullmatch(r"(?:(\d+)-)?(\d+)(?:/(\d+))?(?::(\S+))?", str(term)):
                options |= {"start": match[1] or 1, "end": match[2], "stride": match[3] or 1}
                options |= {"format": match[4]} if match[4] else {}
        start, stride = int(str(options.get("start", 1)), 0), int(options.get("stride", 1))
        if "count" in options:
            end = start + stride * (int(options["count"]) - 1)
        elif "end" in options:
            end = int(str(options["end"]), 0)
        else:
            raise ValueError("sequence takes end or count")
        form = str(options.get("format", "%d"))
        return [form % number for number in range(start, end + (1 if stride > 0 else -1), stride)]

    def _subelements(self, terms: list[Any], **_: Any) -> list[Any]:
        flags = terms[2] if len(terms) > 2 else {}
        return subelements(terms[0], terms[1], skip_missing=bool(flags.get("skip_missing", False)))

    def _template(self, terms: list[Any], **options: Any) -> list[Any]:
        found = []
        scope = self._scope.under(options.pop("template_vars", {}))
        for term in terms:
            path = self._find(str(term), "templates")
            content = self._read(path)
            found.append(scope.templates.render_file(content, scope, Place(str(path)), {}))
        return found

    def _vars(self, terms: list[Any], **options: Any) -> list[Any]:
        found = []
        for term in terms:
            value = self._scope.find(str(term))
            if value is MISSING and "default" not in options:
                raise ValueError(f"there is no variable {term!r}")
            found.append(options["default"] if value is MISSING else value)
        return found

    def _varnames(self, terms: list[Any], **_: Any) -> list[Any]:
        return [
            name for term in terms for name in self._scope.names() if re.search(str(term), name)
        ]

    def _inventory_hostnames(self, terms: list[Any], **_: Any) -> list[Any]:
        groups = self._scope.find("groups")
        return list(dict.fromkeys(host for term in terms for host in groups.get(str(term), ())))

    def _csv(self, terms: list[Any], **options: Any) -> list[Any]:
        found = []
        for term in terms:
            key, *pairs = str(term).split()
            given = {**options, **dict(pair.split("=", 1) for pair in pairs)}
            delimiter = str(given.get("delimiter", "TAB"))
            delimiter = "\t" if delimiter in ("TAB", "\\t") else delimiter
            path = self._find(str(given.get("file", "ansible.csv")), "files")
            with path.open(encoding=str(given.get("encoding", "utf-8")), newline="") as file:
                rows = list(csv.reader(file, delimiter=delimiter))
            hits = [row[int(given.get("col", 1))] for row in rows if row and row[0] == key]
            found.append(hits[0] if hits else given.get("default", []))
        return found

    def _ini(self, terms: list[Any], **options: Any) -> list[Any]:
        parser = configparser.ConfigParser(interpolation=None)
        path = self._find(str(options.get("file", "ansible.ini")), "files")
        text = path.read_text("utf-8")
        section = str(options.get("section", "global"))
        if options.get("type") == "properties":
            section, text = "java_properties", "[java_properties]\n" + text
        parser.read_string(text)
        default = str(options.get("default", ""))
        return [parser.get(section, str(term), fallback=default) for term in terms]

    def _password(self, terms: list[Any], **options: Any) -> list[Any]:
        found = []
        for term in terms:
            path, *pairs = str(term).split()
            given = {**options, **dict(pair.split("=", 1) for pair in pairs)}
            file = Path(path)
            if path != "/dev/null" and not file.is_absolute():
                file = self._scope.folders[-1] / path
            found.append(_stored_password(file, given))
        return found


def _url(
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


def _stored_password(file: Path, given: dict[str, Any]) -> str:
    if str(file) != "/dev/null" and file.is_file():
        return file.read_text().split("\n", 1)[0].split(" salt=")[0]
    chars = given.get("chars", "ascii_letters,digits,.,:,-,_")
    names = chars.split(",") if isinstance(chars, str) else chars
    alphabet = "".join(getattr(string, name, name) for name in names if name)
    password = "".join(secrets.choice(alphabet) for _ in range(int(given.get("length", 20))))
    if str(file) != "/dev/null":
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
        file.write_text(password + "\n")
    return password


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _flat(terms: list[Any]) -> list[Any]:
    return [one for term in terms for one in _as_list(term)]


def _flat_deep(terms: list[Any]) -> list[Any]:
    found: list[Any] = []
    for term in terms:
        found.extend(_flat_deep(term) if isinstance(term, list) else [term])
    return found

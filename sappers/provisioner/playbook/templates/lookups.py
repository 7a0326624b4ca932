"""Ansible's lookups: they read what is on the control machine, for templates and for `with_…`."""

from __future__ import annotations

import csv
import glob
import re
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sappers.provisioner.inventory.patterns import select_hosts
from sappers.provisioner.playbook import unsupported
from sappers.provisioner.playbook.templates import lookup_values
from sappers.provisioner.playbook.templates.filters import is_truthy
from sappers.provisioner.playbook.templates.lookup_calls import short_name
from sappers.provisioner.playbook.templates.lookup_values import (
    Lookup,
    as_list,
    flat_deep,
    options_in,
)
from sappers.provisioner.playbook.templates.origin import origin_of
from sappers.provisioner.playbook.templates.search_path import candidates, search_path
from sappers.provisioner.playbook.templates.templates import Templates
from sappers.provisioner.playbook.templates.values import (
    MISSING,
    Undefined,
    UndefinedVariable,
    Variables,
)
from sappers.provisioner.source import VAULT_HEADER, Decrypt, Place

_FAILURES = (AttributeError, LookupError, OSError, TypeError, ValueError)
_TEMPLATE_SETTINGS = (
    "variable_start_string", "variable_end_string", "comment_start_string", "comment_end_string",
    "trim_blocks",
)  # fmt: skip
_CSV_OPTIONS = {"col", "keycol", "default", "delimiter", "file", "encoding"}
_INI_OPTIONS = {
    *("type", "file", "section", "re", "encoding", "default", "case_sensitive"),
    *("allow_no_value", "allow_none", "interpolation"),
}


class LookupScope(Variables, Protocol):
    """What lookups ask of the variables of a task on a host."""

    @property
    def templates(self) -> Templates:
        """What renders."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the task looks for files."""

    def under(self, layer: Mapping[str, Any]) -> LookupScope:
        """With more variables, over all."""

    def names(self) -> list[str]:
        """All names, sorted."""


class Lookups:
    """The lookups as one task on one host sees them; `more` are those of the run alone."""

    def __init__(
        self,
        scope: LookupScope,
        more: Mapping[str, Lookup] | None = None,
        decrypt: Decrypt | None = None,
    ) -> None:
        self._scope = scope
        self._decrypt = decrypt
        self._more = more or {}

    def lookup(self, name: str, *terms: Any, wantlist: bool = False, **options: Any) -> Any:
        """The function `lookup`: a text of what is found, or with `wantlist` the list.

        Raises:
            ValueError: There is no such lookup, or it finds nothing.
        """
        errors = str(options.pop("errors", "strict"))
        undefined = [one for one in terms if isinstance(one, Undefined)]
        if undefined:
            return undefined[0]
        try:
            found = self._call(name, list(terms), options)
        except _FAILURES:
            if errors == "strict":
                raise
            return [] if wantlist else None
        if wantlist or not found:
            return found
        if len(found) == 1:
            return found[0]
        return ",".join(map(str, found)) if all(isinstance(one, str) for one in found) else found

    def query(self, name: str, *terms: Any, **options: Any) -> Any:
        """The function `query`: the list of what is found."""
        return self.lookup(name, *terms, wantlist=True, **options)

    def loop_items(self, name: str, terms: Any, place: Place, module: str = "") -> list[Any]:
        """The items of `with_NAME`, in a task of a module.

        Raises:
            PlaybookError: There is no such lookup, it finds nothing, or a template is wrong.
        """
        options: dict[str, Any] = {}
        if short_name(name) == "first_found":
            rendered = self._defined(terms, place)
            options["kind"] = next((f"{w}s" for w in ("template", "var") if w in module), "files")
        else:
            rendered = self._scope.templates.render(terms, self._scope, place)
        if not isinstance(rendered, list):
            rendered = [rendered]
        try:
            return self._call(name, rendered, options)
        except _FAILURES as error:
            raise place.error(f"with_{name}: {error}") from error

    def _defined(self, terms: Any, place: Place) -> Any:
        """What is not undefined of it, at any depth; `MISSING`: nothing is."""
        if isinstance(terms, dict):
            pairs = ((key, self._defined(one, place)) for key, one in terms.items())
            return {key: one for key, one in pairs if one is not MISSING}
        if isinstance(terms, list):
            return [o for o in (self._defined(one, place) for one in terms) if o is not MISSING]
        try:
            return self._scope.templates.render(terms, self._scope, place)
        except UndefinedVariable:
            return MISSING

    def _call(self, name: str, terms: list[Any], options: dict[str, Any]) -> list[Any]:
        short = short_name(name)
        if short in self._more:
            return self._more[short](terms, **options)
        if short not in LOOKUPS:
            hint = unsupported.hint_in_templates("lookup", name, [*LOOKUPS, *self._more])
            raise ValueError(f"there is no lookup {name!r} ({hint})")
        return LOOKUPS[short](self, terms, **options)

    def _find(self, name: str, kind: str) -> Path:
        paths = candidates(name, kind, self._scope.folders)
        found = next((one for one in paths if one.is_file()), None)
        if found is None:
            raise ValueError(f"there is no file {name}")
        return found

    def _file(self, terms: list[Any], *, rstrip: bool = True, lstrip: bool = False) -> list[Any]:
        texts = [self._read(self._find(str(term), "files")) for term in terms]
        texts = [text.rstrip() if rstrip else text for text in texts]
        return [text.lstrip() if lstrip else text for text in texts]

    def _unvault(self, terms: list[Any], **_: Any) -> list[Any]:
        return self._file(terms, rstrip=False)

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
                folders = search_path("files", map(Path.absolute, self._scope.folders))
            for folder in folders:
                paths = sorted(glob.glob(str(folder / term)))  # noqa: PTH207
                if paths:
                    found += [path for path in paths if Path(path).is_file()]
                    break
        return found

    def _first_found(self, terms: list[Any], kind: str = "", **options: Any) -> list[Any]:
        names: list[Path] = []
        for term in flat_deep(terms or as_list(options.get("files") or [])):
            if isinstance(term, Mapping):
                options = dict(term)
            files = _split(options.get("files") if isinstance(term, Mapping) else term, ",;")
            folders = _split(options.get("paths"), ",:;") or [""]
            names += [Path(folder) / name for folder in folders for name in files]
        skip = is_truthy(options.get("skip", False), convert_bool=True)
        for name in names:
            with suppress(ValueError):
                return [str(self._find(str(name), kind).absolute())]
        if skip:
            return []
        raise ValueError(f"none of these files is there: {', '.join(map(str, names))}")

    def _lines(self, terms: list[Any], **_: Any) -> list[Any]:
        return [line for term in terms for line in self._printed(str(term)).splitlines()]

    def _pipe(self, terms: list[Any], **_: Any) -> list[Any]:
        return [self._printed(str(term)).rstrip() for term in terms]

    def _printed(self, command: str) -> str:
        """What a shell's command line prints, run in the playbook's folder."""
        folder = self._scope.folders[-1] if self._scope.folders else None
        done = subprocess.run(  # noqa: S602 — the lookup is a shell's command line
            command, shell=True, cwd=folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(f"`{command}` ended with exit code {done.returncode}")
        return done.stdout

    def _template(self, terms: list[Any], **options: Any) -> list[Any]:
        found = []
        is_set = "ansible_managed" in self._scope.names()
        managed = None if is_set else self._scope.templates.managed
        given = options.pop("template_vars", {})
        settings = {name: options[name] for name in _TEMPLATE_SETTINGS if name in options}
        for term in terms:
            path = self._find(str(term), "templates")
            content = self._read(path)
            place = Place(str(path))
            own = origin_of(path, str(term), None, managed)
            scope = self._scope.under({**own, **given})
            found.append(
                scope.templates.render_value(content, scope, place, settings, scope.folders)
            )
        return found

    def _vars(self, terms: list[Any], **options: Any) -> list[Any]:
        found = []
        for term in terms:
            if not isinstance(term, str):
                raise TypeError(f"a variable's name is a text, not {term!r}")
            otherwise = options.get("default", Undefined(name=term))
            value = self._scope.find(term)
            found.append(otherwise if value is MISSING else value)
        return found

    def _varnames(self, terms: list[Any], **_: Any) -> list[Any]:
        return [name for term in terms for name in self._scope.names() if re.search(term, name)]

    def _inventory_hostnames(self, terms: list[Any], **_: Any) -> list[Any]:
        groups = self._scope.find("groups")
        try:
            return list(select_hosts(",".join(map(str, terms)), groups["all"], groups))
        except ValueError:
            return []

    def _csv(self, terms: list[Any], **options: Any) -> list[Any]:
        if not terms:
            raise ValueError("csvfile takes what to look for")
        found: list[Any] = []
        for term in terms:
            key, given = options_in(str(term), _CSV_OPTIONS)
            row = self._csv_row(key, options := options | given)
            value = options.get("default") if row is None else row[int(options.get("col", 1))]
            found += [] if value is None else as_list(value)
        return found

    def _csv_row(self, key: str, options: Mapping[str, Any]) -> list[str] | None:
        delimiter = str(options.get("delimiter", "TAB"))
        delimiter = "\t" if delimiter in ("TAB", "\\t") else delimiter
        column = int(options.get("keycol", 0))
        path = self._find(str(options.get("file", "ansible.csv")), "files")
        with path.open(encoding=str(options.get("encoding", "utf-8")), newline="") as file:
            rows = csv.reader(file, delimiter=delimiter)
            return next((row for row in rows if row and row[column] == key), None)

    def _ini(self, terms: list[Any], **options: Any) -> list[Any]:
        found: list[Any] = []
        for term in terms:
            key, given = options_in(str(term), _INI_OPTIONS)
            options |= given
            value = self._ini_value(key, options)
            found += [] if value is None else as_list(value)
        return found

    def _ini_value(self, key: str, options: Mapping[str, Any]) -> Any:
        import configparser  # few look into such a file

        def is_set(name: str, *, otherwise: bool = False) -> bool:
            return is_truthy(options.get(name, otherwise), convert_bool=True)

        parser = configparser.ConfigParser(
            allow_no_value=is_set("allow_no_value") or is_set("allow_none"),
            interpolation=configparser.BasicInterpolation()
            if is_set("interpolation", otherwise=True)
            else None,
        )
        if is_set("case_sensitive"):
            parser.optionxform = str  # type: ignore[method-assign,assignment] # as its manual says
        path = self._find(str(options.get("file", "ansible.ini")), "files")
        text, section = self._read(path), str(options.get("section", "global"))
        if options.get("type") == "properties":
            section, text = "java_properties", "[java_properties]\n" + text
        try:
            parser.read_string(text)
            if is_set("re"):
                return [value for name, value in parser.items(section) if re.match(key, name)]
            return parser.get(section, key)
        except configparser.NoOptionError:
            return options.get("default", "")
        except configparser.Error as error:
            raise ValueError(f"{path}: {error}") from error

    def _password(self, terms: list[Any], **options: Any) -> list[Any]:
        return lookup_values.password(terms, self._scope.folders[-1], **options)

    OF_SCOPE: ClassVar[Mapping[str, Callable[..., list[Any]]]] = {
        "csvfile": _csv,
        "file": _file,
        "fileglob": _fileglob,
        "first_found": _first_found,
        "ini": _ini,
        "inventory_hostnames": _inventory_hostnames,
        "lines": _lines,
        "password": _password,
        "pipe": _pipe,
        "template": _template,
        "unvault": _unvault,
        "varnames": _varnames,
        "vars": _vars,
    }


def _free(lookup: Lookup) -> Callable[..., list[Any]]:
    """One that needs nothing but its terms."""
    return lambda _, terms, **options: lookup(terms, **options)


# What `bootstrap` gives its playbook beside, so that others can list and check that, too.
OF_BOOTSTRAP = ("sappers_certificate", "sappers_secret")
# Each called with `Lookups`, then as `Lookup`.
LOOKUPS: Mapping[str, Callable[..., list[Any]]] = {
    **Lookups.OF_SCOPE,
    **{name: _free(lookup) for name, lookup in lookup_values.LOOKUPS.items()},
}


def _split(names: Any, signs: str) -> list[str]:
    """Names, also where several are one text."""
    each = as_list(names) if names else []
    return [part for name in each for part in re.split(f"[{signs}]", str(name))]

"""The inventory: which hosts there are, in which groups, with which variables."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sappers.errors import InventoryError
from sappers.provisioner.inventory.host import LOCALHOST, Host, build_host, local_host
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.inventory.ini import read_ini
from sappers.provisioner.inventory.patterns import select_hosts
from sappers.provisioner.inventory.ranges import expand_host_pattern
from sappers.provisioner.inventory.ssh_options import SshOptions
from sappers.provisioner.inventory.tree import (
    Origin,
    Setting,
    Settings,
    WrittenGroup,
    WrittenInventory,
    as_inventory_error,
)
from sappers.provisioner.inventory.variable_files import read_settings
from sappers.provisioner.inventory.yaml import read_yaml
from sappers.provisioner.source import VAULT_HEADER, Decrypt, Place, opened

__all__ = ["Group", "Host", "Inventory", "Secret", "SshOptions", "load_inventory"]

STDIN = "-"
_NAMES_SHOWN_MAX = 40
# Of a folder, what Ansible leaves out, too.
_NO_SOURCES = (
    *(".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg"),
    ".retry",
)
_OF_VARIABLES = ("group_vars", "host_vars")
_YAML_SUFFIXES = (".yml", ".yaml", ".json")
_YAML_KEY = re.compile(r"[\w.\"'-]+:(\s+\S.*)?")


class Group(msgspec.Struct, frozen=True):
    """A named set of hosts.

    Attributes:
        hosts: Names of its own hosts and of its children's, in inventory order.
        variables: What its own `vars` and `group_vars/` say, without the parents', as written.
    """

    name: str
    hosts: tuple[str, ...]
    children: tuple[str, ...]
    variables: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Group({self.name!r})"  # as a host's


class _Source(msgspec.Struct, frozen=True):
    """What an inventory is made of, to make it again with what is beside a playbook.

    Attributes:
        named_in: By host the first source that names it; none for those that tasks add.
    """

    path: Path
    given: tuple[str, ...]
    folders: tuple[Path, ...]
    written: WrittenInventory
    decrypt: Decrypt | None
    over: Settings
    named_in: Mapping[str, Path]


class Inventory(msgspec.Struct, frozen=True):
    """All hosts and groups of one inventory, `all` and `ungrouped` included."""

    hosts: tuple[Host, ...]
    groups: Mapping[str, Group]
    source: _Source

    def __repr__(self) -> str:
        return f"Inventory({str(self.path)!r})"  # as a host's

    @property
    def path(self) -> Path:
        """Its file; else what it is called."""
        return self.source.path

    @property
    def sources(self) -> list[str]:
        """What it is read from: absolute paths, lists of hosts."""
        return [one if "," in one else str(Path(one).absolute()) for one in self.source.given]

    def named_in(self, host: str) -> Path | None:
        """The first source that names a host: a file, or a list; None if a task added it."""
        return self.source.named_in.get(host)

    @property
    def written(self) -> WrittenInventory:
        """What the source itself says."""
        return self.source.written

    def beside(self, playbook: Path) -> Inventory:
        """With the `group_vars/` and `host_vars/` of a playbook's folder over its own.

        Raises:
            InventoryError: A file there is wrong.
        """
        there = any((playbook / name).is_dir() for name in _OF_VARIABLES)
        own = playbook.absolute() in [one.absolute() for one in self.source.folders]
        if not there or own:
            return self
        return _built(self.source, playbook)

    def read_again(self) -> Inventory:
        """As its sources are now; what came by stdin stays. Raises as `load_inventory`."""
        if STDIN in self.source.given or not self.source.given:
            return self
        return _loaded(self.source.given, self.source.decrypt, self.source.over)

    def rewritten(self, written: WrittenInventory) -> Inventory:
        """With other hosts and groups.

        Raises:
            InventoryError: A host's variables make no sense.
        """
        return _built(replace(self.source, written=written))

    def select(self, limit: str | None) -> tuple[Host, ...]:
        """The hosts that Ansible's host pattern names, in inventory order; None: all.

        Raises:
            InventoryError: A part of the pattern names nothing; says which names exist.
        """
        if limit is None:
            return self.hosts
        chosen = self._chosen(limit)
        return tuple(host for host in self.hosts if host.name in chosen)

    def in_order_of(self, pattern: str) -> tuple[Host, ...]:
        """The same in the pattern's order, as a play goes through them, with this machine where it
        is named. Raises as `select`.
        """
        by_name = {host.name: host for host in self.hosts}
        return tuple(
            by_name.get(name) or local_host(name) for name in self._chosen(pattern, LOCALHOST)
        )

    def _chosen(self, pattern: str, here: Sequence[str] = ()) -> tuple[str, ...]:
        names = list(self.written.hosts)
        groups = {name: group.hosts for name, group in self.groups.items()}
        try:
            return select_hosts(pattern, names, groups, here)
        except ValueError as error:
            raise InventoryError(
                f"host pattern {pattern!r}: {error}",
                path=str(self.path),
                hint=f"hosts: {_listed(names)}; groups: {_listed(list(self.groups))}",
            ) from error


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN_MAX])
    return f"{shown}, …" if len(names) > _NAMES_SHOWN_MAX else shown or "none"


def load_inventory(
    source: Path | str | Sequence[str],
    decrypt: Decrypt | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Inventory:
    """Read an inventory as Ansible does, with `group_vars/` and `host_vars/` beside it.

    Args:
        source: A file, INI or YAML; a folder of such; or `host1,host2,`; or `-`, which is read from
            stdin. Or a list of them, of which the later count more.
        decrypt: Opens Vault's envelopes in YAML; raises ValueError.
        extra: Variables of `-e`: those of connections (`ansible_…`) are over all others.

    Raises:
        InventoryError: It cannot be read as meant; carries file, line and column.
    """
    over = {
        name: Setting(value, Origin("(-e)"))
        for name, value in (extra or {}).items()
        if name.startswith("ansible_")
    }
    sources = [str(source)] if isinstance(source, str | Path) else list(source)
    return _loaded(sources, decrypt, over)


def _loaded(sources: Sequence[str], decrypt: Decrypt | None, over: Settings) -> Inventory:
    folders: dict[Path, None] = {}
    parts = []
    for one in sources:
        path = Path(one)
        if path.is_dir():
            folders[path] = None
            files = _files_of(path)
            if not files:
                raise Origin(one).error("the inventory cannot be read: nothing is in this folder")
            parts += [(_read_written(file, decrypt), file) for file in files]
        elif one == STDIN:
            content = _decoded(sys.stdin.buffer.read(), Origin("(stdin)"))
            content = _opened(content, "(stdin)", decrypt)
            parts.append((_read_plain(content, "(stdin)", decrypt), Path("(stdin)")))
        elif "," in one and not path.exists():
            parts.append((_listed_hosts(one), path))
        else:
            folders[path.parent] = None
            parts.append((_read_written(path, decrypt), path))
    written = _joined(parts)
    name = Path("(stdin)" if tuple(sources) == (STDIN,) else ", ".join(sources) or "(no -i)")
    named_in = {host: path for part, path in reversed(parts) for host in part.hosts}
    return _built(_Source(name, tuple(sources), tuple(folders), written, decrypt, over, named_in))


def _files_of(folder: Path) -> list[Path]:
    """The inventories in a folder, and in those below it, by name."""
    found: list[Path] = []
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        if path.name.startswith(".") or path.name in _OF_VARIABLES:
            continue
        if path.is_dir():
            found += _files_of(path)
        elif not path.name.endswith(_NO_SOURCES):
            found.append(path)
    return found


def _joined(parts: list[tuple[WrittenInventory, Path]]) -> WrittenInventory:
    """What all sources say together; later ones count more."""
    whole = WrittenInventory()
    for written, path in parts:
        whole.add(written, Origin(str(path)))
    whole.put_in_order()
    return whole


def parse_inventory(
    text: str, decrypt: Decrypt | None = None, over: Settings | None = None
) -> Inventory:
    """An inventory of a text, INI, YAML or JSON. Raises as `load_inventory`."""
    path = Path("(stdin)")
    written = _joined([(_read_plain(text, str(path), decrypt), path)])
    return _built(_Source(path, (str(path),), (), written, decrypt, over or {}, {}))


def _read_plain(text: str, path: str, decrypt: Decrypt | None) -> WrittenInventory:
    read = read_yaml if looks_like_yaml(text) else _read_ini
    return read(text, path, decrypt)


def looks_like_yaml(text: str) -> bool:
    """Whether a text whose name tells nothing is YAML (or JSON), by its first line with words."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    return first.startswith(("---", "{", "%YAML")) or bool(_YAML_KEY.fullmatch(first))


def _opened(text: str, path: str, decrypt: Decrypt | None) -> str:
    """The text of an inventory, that of a whole file of Vault's, too."""
    if not text.startswith(VAULT_HEADER):
        return text
    with as_inventory_error(path):
        return opened(text, Place(path), decrypt)


def _read_written(path: Path, decrypt: Decrypt | None) -> WrittenInventory:
    text = _opened(_read_text(path), str(path), decrypt)
    if text.startswith("#!") and os.access(path, os.X_OK):
        raise Origin(str(path), 1, 1).error(
            "it is a program, and programs are not run for inventories",
            hint=f"{path} --list | sappers-deploy … -i -",
        )
    is_yaml = path.suffix in _YAML_SUFFIXES or (not path.suffix and looks_like_yaml(text))
    return read_yaml(text, str(path), decrypt) if is_yaml else read_ini(text, str(path))


def _read_ini(text: str, path: str, decrypt: Decrypt | None) -> WrittenInventory:
    del decrypt  # no single value in an INI file is encrypted
    return read_ini(text, path)


def _listed_hosts(text: str) -> WrittenInventory:
    written = WrittenInventory()
    for pattern in filter(None, (part.strip() for part in text.split(","))):
        origin = Origin(text)
        try:
            names, port = expand_host_pattern(pattern)
        except ValueError as error:
            raise origin.error(str(error)) from error
        written.add_hosts("ungrouped", names, port, {}, origin)
    return written


def _built(source: _Source, playbook: Path | None = None) -> Inventory:
    """The inventory with the variables beside it, and beside a playbook."""
    written, decrypt = source.written, source.decrypt
    folders = [*source.folders, *([playbook] if playbook is not None else [])]
    beside = [
        {name: read_settings(one / "group_vars", name, decrypt) for name in written.groups}
        for one in folders
    ]
    members = {name: _hosts_of(written, name) for name in written.groups}
    ranks = _ranks(written)

    def settings_of(host: str) -> Settings:
        groups = sorted((one for one in members if host in members[one]), key=ranks.__getitem__)
        merged: Settings = {}
        for group in groups:
            merged |= written.groups[group].settings
        for group in groups[:1]:  # `all`
            for files in beside:
                merged |= files[group]
        for files in beside:
            for group in groups[1:]:
                merged |= files[group]
        merged |= written.hosts[host]
        for one in folders:
            merged |= read_settings(one / "host_vars", host, decrypt)
        return merged | source.over

    hosts = tuple(
        build_host(
            name,
            tuple(one for one in members if name in members[one]),
            settings_of(name),
            source.named_in.get(name, source.path),
        )
        for name in members["all"]
    )

    def group_of(name: str, group: WrittenGroup) -> Group:
        settings = dict(group.settings)
        for files in beside:
            settings |= files[name]
        variables = {key: setting.value for key, setting in settings.items()}
        return Group(name, tuple(members[name]), tuple(group.children), variables)

    groups = {name: group_of(name, group) for name, group in written.groups.items()}
    return Inventory(hosts, groups, source)


def _hosts_of(written: WrittenInventory, group: str) -> dict[str, None]:
    return {
        host: None for name in written.descendants(group) for host in written.groups[name].hosts
    }


def _ranks(written: WrittenInventory) -> dict[str, tuple[int, int, str]]:
    """What groups are sorted by: distance from `all` by the longest way, priority, name."""
    depths = dict.fromkeys(written.groups, 0)
    pending = ["all"]
    for parent in pending:
        for child in written.groups[parent].children:
            if depths[child] <= depths[parent]:
                depths[child] = depths[parent] + 1
                pending.append(child)
    return {name: (depths[name], group.priority, name) for name, group in written.groups.items()}


def _read_text(path: Path) -> str:
    origin = Origin(str(path))
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise origin.error(
            f"the inventory cannot be read: {error.strerror}",
            hint="give the path of an INI or YAML file, or names: `host1,host2,`",
        ) from error
    return _decoded(raw, origin)


def _decoded(raw: bytes, origin: Origin) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _decode_lines(raw, origin)


def _decode_lines(raw: bytes, origin: Origin) -> str:
    """Only comments may hold other bytes than UTF-8."""
    lines = []
    for number, line in enumerate(raw.splitlines(), start=1):
        try:
            lines.append("" if line[:1] in (b"#", b";") else line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise Origin(origin.path, number, error.start + 1).error("no UTF-8 text") from error
    return "\n".join(lines)

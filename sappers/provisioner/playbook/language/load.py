"""Loads playbooks: their plays and those that they import, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sappers.provisioner.playbook.language import keywords
from sappers.provisioner.playbook.language.files import PlaybookFiles, Reading
from sappers.provisioner.playbook.language.import_names import import_name
from sappers.provisioner.playbook.language.load_inherited import inherit
from sappers.provisioner.playbook.language.load_play import IMPORTS_MAX, PlayLoader
from sappers.provisioner.playbook.language.model import Inherited, Node, Play, Task
from sappers.provisioner.source import Decrypt, Items, Mapping, Place, place_of

_PLAYBOOK_IMPORTS = ("import_playbook", "ansible.builtin.import_playbook")


def load_playbook(
    path: Path,
    decrypt: Decrypt | None = None,
    roles_path: Sequence[Path] = (),
    collections_path: Sequence[Path] = (),
    extra: AnyMapping[str, Any] | None = None,
) -> tuple[Play, ...]:
    """The plays of a playbook and of those it imports, in order.

    Args:
        roles_path: Folders of roles beside the usual ones.
        collections_path: Folders of collections instead of the usual ones.
        extra: The variables of `-e`, which names of what is imported may ask for.

    Raises:
        PlaybookError: Something in it, or in a file it imports, is wrong; at its place.
    """
    files = PlaybookFiles(decrypt)
    how = Reading(files, tuple(roles_path), tuple(collections_path), extra or {})
    return _load_file(path, how, ())


def _load_file(path: Path, how: Reading, above: tuple[Path, ...]) -> tuple[Play, ...]:
    content = how.files.read(path)
    place = Place(str(path), 1, 1)
    if not isinstance(content, Items) or not content:
        raise place.error("a playbook is a list of plays", hint="begin each with `- hosts: …`")
    if path in above or len(above) > IMPORTS_MAX:
        raise place.error("it imports itself")
    return _load_plays(content, path, how, above)


def load_plays(content: Items, folder: Path, decrypt: Decrypt | None = None) -> tuple[Play, ...]:
    """The plays of a list that was read already. Raises as `load_playbook`."""
    return _load_plays(content, folder / "(plays)", Reading(PlaybookFiles(decrypt)), ())


def _load_plays(
    content: Items, path: Path, how: Reading, above: tuple[Path, ...]
) -> tuple[Play, ...]:
    plays: list[Play] = []
    for item, at in zip(content, content.places, strict=True):
        if not isinstance(item, Mapping):
            raise at.error("expected a play: a mapping with `hosts`")
        imported = next((key for key in _PLAYBOOK_IMPORTS if key in item), None)
        if imported:
            plays.extend(_import_plays(item, imported, path, how, above))
        else:
            plays.append(PlayLoader(path.parent, how).load(item))
    return tuple(plays)


def _import_plays(
    item: Mapping, key: str, path: Path, how: Reading, above: tuple[Path, ...]
) -> tuple[Play, ...]:
    keywords.refuse_unknown(item, {key, "name", "tags", "vars", "when"}, "imported playbook")
    handed = inherit(Inherited(), item)
    name = import_name(
        item[key], item.at(key), extra=how.extra, inherited=handed, roles=(),
        play={"playbook_dir": str(path.parent.absolute())}, instead="give it with -e",
    )  # fmt: skip
    if not (path.parent / name).is_file():
        raise place_of(item[key], item.at(key)).error(
            f"there is no playbook {name}", hint=f"looked for: {path.parent / name}"
        )
    return tuple(
        replace(play, inherited=_under(handed, play.inherited),
                sections=tuple(_nodes_under(handed, nodes) for nodes in play.sections))
        for play in _load_file(path.parent / name, how, (*above, path))
    )  # fmt: skip


def _under(outer: Inherited, inner: Inherited) -> Inherited:
    return replace(
        inner,
        when=(*outer.when, *inner.when),
        tags=outer.tags | inner.tags,
        vars=(*outer.vars, *inner.vars),
    )


def _nodes_under(outer: Inherited, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    return tuple(
        replace(
            node,
            inherited=_under(outer, node.inherited),
            around=_under(outer, node.around),
        )
        if isinstance(node, Task)
        else replace(
            node,
            body=_nodes_under(outer, node.body),
            rescue=_nodes_under(outer, node.rescue),
            always=_nodes_under(outer, node.always),
        )
        for node in nodes
    )

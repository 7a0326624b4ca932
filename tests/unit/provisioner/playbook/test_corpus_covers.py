"""The corpus has a playbook for every module and every keyword that there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sappers.provisioner.playbook import catalog, keywords
from tests.corpus.case import HERE

# By data alone: what works on machines that no lab here has.
NOT_THERE = {"dnf"}


def cases() -> list[Path]:
    folders = ("cases", "host_cases")
    return [path for folder in folders for path in sorted((HERE / folder).rglob("*.yml"))]


def keys(node: Any) -> Iterator[str]:
    """All keys of a document, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from keys(value)
    elif isinstance(node, list):
        for one in node:
            yield from keys(one)


def used() -> set[str]:
    yaml = YAML(typ="safe", pure=True)
    yaml.constructor.add_multi_constructor("!", lambda *_: None)
    found = {key for path in cases() for key in keys(yaml.load(path))}
    return found | {catalog.short_name(key) for key in found}


def test_there_are_enough() -> None:
    assert len([path for path in cases() if path.parent.name.endswith("cases")]) >= 60


def test_every_module_has_a_playbook() -> None:
    assert set(catalog.names()) - used() == NOT_THERE


def test_every_keyword_has_a_playbook() -> None:
    known = keywords.PLAY | keywords.BLOCK | keywords.HANDLER | keywords.LOOP_CONTROL
    assert known | keywords.PROMPT | keywords.ROLE | catalog.FLOW <= used()

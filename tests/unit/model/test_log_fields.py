"""What entries and states are made of, and the format of the log that brought it.

`log_fields.toml` has it, a section for each format: what is in the code and not there is new.
Members of before would skip a new field and refuse a new command, so their states would differ
unless it is of a new format (docs/adr/0067-formats-of-the-log.md).
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command, Proposal
from sappers.model.event import Event
from sappers.model.log_format import FORMAT

RECORDED = Path(__file__).with_name("log_fields.toml")
HOW = f"""
Members of earlier versions know nothing of it: their states would differ from those of others.
 1. sappers/model/log_format.py says how to bring a new format: FORMAT, `since_format`, the step.
 2. Then write it down in {RECORDED.name}, in the section of that format.
"""
GONE = f"""
Journals and snapshots of members have it, and members of earlier versions go on saying it.
Keep it; or, if it is new since the last release, change {RECORDED.name}, too.
"""

Parts = dict[str, list[str]]  # of commands, structs and enumerations, by name


def recorded() -> dict[int, Parts]:
    """What each format brought."""
    return {int(number): parts for number, parts in tomllib.loads(RECORDED.read_text()).items()}


def kinds_in(hint: Any) -> Iterator[type]:
    """Structs and enumerations that a type is made of, itself too."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        yield hint
    elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
        for name, inner in typing.get_type_hints(hint).items():
            if name in hint.__struct_fields__:
                yield from kinds_in(inner)
    for inner in typing.get_args(hint):
        yield from kinds_in(inner)


def name_of(kind: Any) -> str:
    """A command's as in the log, else the class's."""
    return getattr(getattr(kind, "__struct_config__", None), "tag", None) or kind.__name__


def parts_of(kind: Any) -> list[str]:
    """Of a struct its fields, of an enumeration its values."""
    if issubclass(kind, Enum):
        return [one.value for one in kind]
    return [f"{name}: {kind.__annotations__[name]}" for name in kind.__struct_fields__]


def new_and_gone(kinds: Mapping[str, type], formats: Mapping[int, Parts]) -> tuple[str, str]:
    """What is in the code and not recorded, and the other way round, a line each."""
    here = {f"{name}: {part}" for name, kind in kinds.items() for part in ["", *parts_of(kind)]}
    there = {
        f"{name}: {part}"
        for parts in formats.values()
        for name, some in parts.items()
        for part in ["", *some]
    }
    return "\n".join(sorted(here - there)), "\n".join(sorted(there - here))


def needed_by(kind: type, formats: Mapping[int, Parts]) -> int:
    """The newest format that brought something that a command may have."""
    names = {name_of(one) for one in kinds_in(kind)}
    return max((number for number, parts in formats.items() if names & {*parts}), default=0)


def test_what_is_new_in_the_log_is_of_a_new_format() -> None:
    roots = (Proposal, ClusterState, Event)
    kinds = {name_of(kind): kind for root in roots for kind in kinds_in(root)}
    new, gone = new_and_gone(kinds, recorded())
    assert not new, f"new in the log:\n{new}\n{HOW}"
    assert not gone, f"no more in the log:\n{gone}\n{GONE}"


def test_each_format_is_recorded() -> None:
    assert sorted(recorded()) == [*range(FORMAT + 1)]


@pytest.mark.parametrize("command", typing.get_args(Command), ids=name_of)
def test_a_command_says_which_format_it_needs(command: type) -> None:
    wrong = wrong_since(command, recorded())
    assert not wrong, wrong


def wrong_since(command: Any, formats: Mapping[int, Parts]) -> str:
    """What is wrong with a command's `since_format`, or nothing."""
    said, needed = getattr(command, "since_format", 0), needed_by(command, formats)
    if isinstance(said, property) or said == needed:  # a property looks at what the command has
        return ""
    return (
        f"{name_of(command)} has what came with format {needed}, and since_format says {said}: "
        "see sappers/model/log_format.py"
    )


# That it would notice


class Known(msgspec.Struct, frozen=True, tag="known"):
    name: str


class Inner(msgspec.Struct, frozen=True):
    size: int = 0


class Late(msgspec.Struct, frozen=True, tag="late"):
    since_format: ClassVar[int] = 2

    inner: tuple[Inner, ...]


BEFORE: Parts = {"known": ["name: str"], "Inner": ["size: int"]}
LATE: Parts = {"late": ["inner: tuple[Inner, ...]"]}


def kinds_by_name(*kinds: type) -> dict[str, type]:
    return {name_of(one): one for kind in kinds for one in kinds_in(kind)}


def test_a_new_command_or_field_is_named() -> None:
    assert new_and_gone(kinds_by_name(Known, Late), {0: BEFORE, 2: LATE}) == ("", "")
    new, gone = new_and_gone(kinds_by_name(Known, Late), {0: BEFORE})
    assert (new, gone) == ("late: \nlate: inner: tuple[Inner, ...]", "")
    new, gone = new_and_gone(kinds_by_name(Known, Inner), {0: {**BEFORE, "Inner": []}})
    assert (new, gone) == ("Inner: size: int", "")
    new, gone = new_and_gone(kinds_by_name(Inner), {0: BEFORE})
    assert (new, gone) == ("", "known: \nknown: name: str")


def test_a_format_that_a_command_does_not_say_is_told() -> None:
    assert wrong_since(Late, {0: BEFORE, 2: LATE}) == ""
    assert wrong_since(Known, {0: BEFORE, 2: LATE}) == ""
    assert "format 3, and since_format says 0" in wrong_since(Known, {3: {"known": ["more: int"]}})
    assert "format 3, and since_format says 2" in wrong_since(Late, {2: LATE, 3: {"Inner": []}})

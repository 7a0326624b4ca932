"""A `Record` is what `NamedTuple` would have made of the same class."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.modules.record import Record


class Ours(Record):
    path: str
    mode: int = 0o644
    more: Any = None


class Theirs(NamedTuple):
    path: str
    mode: int = 0o644
    more: Any = None


VALUES = st.lists(st.integers(), max_size=4)
NAMED = st.dictionaries(st.sampled_from(["path", "mode", "more", "other"]), st.integers())


@given(VALUES, NAMED)
def test_it_is_made_of_the_same_arguments(values: list[Any], named: dict[str, Any]) -> None:
    try:
        theirs = Theirs(*values, **named)
    except TypeError:
        with pytest.raises(TypeError):
            Ours(*values, **named)
        return
    ours = Ours(*values, **named)
    assert tuple(ours) == tuple(theirs)
    assert (ours.path, ours.mode, ours.more) == (theirs.path, theirs.mode, theirs.more)
    assert ours._asdict() == theirs._asdict()
    assert tuple(ours._replace(mode=5)) == tuple(theirs._replace(mode=5))
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")


def test_its_items_are_not_set_anew() -> None:
    with pytest.raises(AttributeError):
        Ours("/a").path = "/b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Ours("/a")._replace(other=1)

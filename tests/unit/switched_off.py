"""Fixtures of tests that run twice: with what mends a hole of the library, and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest


@pytest.fixture(params=[True, False], ids=["mended", "as the library has it"])
def mended(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def without(mended: bool) -> Iterator[Callable[..., None]]:
    """`without(where, name, stand_in)` switches a mend off where the test is to run without it."""
    patches: list[Any] = []

    def switch_off(target: Any, name: str, stand_in: Any) -> None:
        if not mended:
            patches.append(patch.object(target, name, stand_in))
            patches[-1].start()

    yield switch_off
    for one in patches:
        one.stop()

"""Expressions are worth what they are in Ansible (recorded, with ansible-core 2.19)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.corpus.expressions import ENVIRONMENT, expressions, is_same, ours, recorded


@pytest.fixture
def somewhere() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("somewhere")
def test_expressions_are_worth_what_they_are_in_ansible() -> None:
    """Where we mean to differ we do: docs/playbooks.md has the reasons."""
    wanted = recorded()
    wrong = {
        expression: (wanted[expression], ours(expression))
        for expression, is_meant in expressions().items()
        if is_same(ours(expression), wanted[expression]) is is_meant
    }
    assert wrong == {}

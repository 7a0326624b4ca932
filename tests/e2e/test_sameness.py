"""Playbooks of the corpus by Ansible and by us, on two hosts that are the same; twice each.

Some that tell most in little time; `make sameness` compares all of them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from sappers.config import ControlHome
from tests.corpus.ansible import ensure_ansible
from tests.e2e.conftest import LAB_NAME
from tests.sameness.compare import QUICK, Sameness


@pytest.fixture(scope="module")
def sameness(home: ControlHome) -> Iterator[Sameness]:
    try:
        ensure_ansible(home.cache)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"Ansible cannot be installed from the package index: {error}")
    with Sameness.open(f"{LAB_NAME}-same", home, print, QUICK) as sameness:
        yield sameness


@pytest.mark.parametrize("case", QUICK)
def test_ansible_and_we_do_the_same(sameness: Sameness, case: str) -> None:
    found = sameness.compare(case).differs
    assert not found, "\n".join(found)

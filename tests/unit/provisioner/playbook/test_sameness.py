"""How runs of Ansible and of ours are compared (tests/sameness), and what of it is meant."""

from __future__ import annotations

import pytest

from tests.corpus.case import Outcomes
from tests.sameness.compare import told_differently
from tests.sameness.meant import MEANT


def said(*messages: object) -> Outcomes:
    return Outcomes([["debug", "h1", "ok", message] for message in messages])


@pytest.mark.parametrize(
    ("by_ansible", "by_us"),
    [("it is hush", "it is ********"), (42, "********"), ([42, "x"], ["********", "x"])],
)
def test_what_is_covered_is_meant_where_vault_is_and_nowhere_else(
    by_ansible: object, by_us: object
) -> None:
    compared = told_differently(said(by_ansible), said(by_us), MEANT["vault"])
    assert (compared.differs, len(compared.meant)) == ([], 1)
    compared = told_differently(said(by_ansible), said(by_us))
    assert (len(compared.differs), compared.meant) == (1, [])


@pytest.mark.parametrize("by_us", ["it was ********", "it is", None])
def test_what_differs_beside_is_not_meant(by_us: object) -> None:
    compared = told_differently(said("it is hush"), said(by_us), MEANT["vault"])
    assert (len(compared.differs), compared.meant) == (1, [])


def test_another_recap_is_never_meant() -> None:
    one, other = Outcomes(recap={"h1": {"ok": 1}}), Outcomes(recap={"h1": {"ok": 2}})
    assert told_differently(one, other, MEANT["vault"]).differs

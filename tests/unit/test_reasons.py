"""A reason is new once, until another one comes or all was well."""

from __future__ import annotations

from sappers.reasons import Reasons


def test_a_reason_is_new_until_it_comes_again() -> None:
    reasons = Reasons()
    told = [reasons.is_new("web", reason) for reason in ("full", "full", "slow", "slow", "full")]
    assert told == [True, False, True, False, True]
    assert reasons.is_new("db", "full"), "of another subject"
    reasons.forget("web")
    reasons.forget("never heard of")
    assert reasons.is_new("web", "full")
    assert not reasons.is_new("db", "full")
    reasons.keep_only({"web"})
    assert reasons.is_new("db", "full")
    assert not reasons.is_new("web", "full")

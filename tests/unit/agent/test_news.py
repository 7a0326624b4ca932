"""A reason is new once, until another one comes or all was well."""

from __future__ import annotations

from sappers.agent.news import News


def test_a_reason_is_new_until_it_comes_again() -> None:
    news = News()
    told = [news.is_new("web", reason) for reason in ("full", "full", "slow", "slow", "full")]
    assert told == [True, False, True, False, True]
    assert news.is_new("db", "full"), "of another subject"
    news.forget("web")
    news.forget("never heard of")
    assert news.is_new("web", "full")
    assert not news.is_new("db", "full")
    news.keep_only({"web"})
    assert news.is_new("db", "full")
    assert not news.is_new("web", "full")

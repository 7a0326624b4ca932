"""What is told of an answer."""

from __future__ import annotations

import pytest

from sappers.provisioner.modules import step, uri


@pytest.mark.parametrize(
    ("said", "told"),
    [("/b", "http://a/b"), ("https://c/d", "https://c/d"), ("//[", "//[")],
)
def test_a_location_is_a_whole_address_where_it_is_one(said: str, told: str) -> None:
    answer = step.Response(201, "OK", "http://a/x", (("Location", said),))
    assert uri._described({"url": "http://a/x"}, answer)["location"] == told

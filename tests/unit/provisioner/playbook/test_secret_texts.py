from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.playbook.secret_texts import COVER, SecretTexts


def knowing(*texts: str) -> SecretTexts:
    secrets = SecretTexts()
    for text in texts:
        secrets.add(text)
    return secrets


def test_the_values_of_a_file_out_of_vault_are_secret_and_its_names_are_not() -> None:
    secrets = knowing("db:\n  password: open sesame\n  port: 54321\n")
    assert secrets.hidden_text("-p open sesame") == f"-p {COVER}"
    assert secrets.hidden({"port": 54321, "x": [True, None, 5]}) == {
        "port": COVER, "x": [True, None, 5],
    }  # fmt: skip
    assert secrets.are_in({"a": ["say: open sesame"]})
    assert not secrets.are_in({"a": ["sesame"]})


def test_lines_of_a_key_are_secret_each() -> None:
    secrets = knowing("-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----\n")
    assert secrets.hidden_text("line abcdefgh") == f"line {COVER}"


def test_what_is_short_is_covered_where_it_stands_alone() -> None:
    secrets = knowing("x1")
    assert secrets.hidden({"a": "x1", "b": "max1mum"}) == {"a": COVER, "b": "max1mum"}


@pytest.mark.parametrize("secret", ['with "quotes"', "back\\slash", "grüße dich"])
def test_a_secret_is_covered_as_json_writes_it_too(secret: str) -> None:
    secrets = knowing(secret)
    for ascii_only in (True, False):
        told = json.dumps({"cmd": f"say {secret}"}, ensure_ascii=ascii_only)
        assert secrets.hidden_text(told) == json.dumps({"cmd": f"say {COVER}"})


@given(st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4), st.text())
def test_what_was_hidden_holds_the_secret_no_more(secret: str, text: str) -> None:
    secrets = knowing(secret)
    if secret.strip() not in COVER:
        assert secret.strip() not in secrets.hidden_text(f"{text}{secret}{text}")
    assert secrets.are_in(secret.strip())

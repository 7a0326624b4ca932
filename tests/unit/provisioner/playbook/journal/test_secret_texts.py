from __future__ import annotations

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.playbook.journal.secret_texts import COVER, SecretTexts


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


def test_what_is_short_is_covered_as_a_line_of_its_own() -> None:
    secrets = knowing("x1")
    assert secrets.hidden_text("is:\n x1\nmax1mum x1\n") == f"is:\n {COVER}\nmax1mum x1\n"


def test_names_that_are_covered_stay_apart() -> None:
    secrets = knowing("x1", "x2")
    assert secrets.hidden({"x1": 1, "x2": "x2", "x": 3}) == {COVER: 1, f"{COVER}*": COVER, "x": 3}


def test_of_results_no_names_of_fields_and_no_counted_numbers_are_covered() -> None:
    secrets = knowing("rc", "0", "msg", "2")
    result = {"rc": 0, "attempts": 2, "msg": "2", "port": 2, "changed": False, "failed": True}
    shown = {**result, "msg": COVER, "port": COVER}
    assert secrets.hidden_result("command", result) == shown
    looped = {"results": [result, result], "changed": True}
    assert secrets.hidden_result("command", looped) == {"results": [shown] * 2, "changed": True}


def test_a_variable_that_is_called_like_a_counted_number_is_covered() -> None:
    assert knowing("2").hidden_result("debug", {"rc": 2}) == {"rc": COVER}


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


@given(
    st.binary(max_size=9),
    st.text(string.ascii_letters + string.digits, min_size=6, max_size=30),
    st.binary(max_size=9),
)
def test_what_is_encoded_with_others_is_covered(before: bytes, secret: str, after: bytes) -> None:
    text = base64.b64encode(before + secret.encode() + after).decode()
    shown = knowing(secret).hidden_text(f"is {text}.")
    assert shown != f"is {text}."
    left = shown.removeprefix("is ").removesuffix(".").split(COVER)
    assert all(one in text for one in left)
    assert max(map(len, left)) <= (9 * 8 // 6) + 4


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("to http://me:pass@host/a?b@c", "to http://me:********@host/a?b@c"),
        ("git+ssh://me:p:a%40ss@host:22/x", "git+ssh://me:********@host:22/x"),
        ("http://me@host/ http://host:80/a@b", "http://me@host/ http://host:80/a@b"),
        ("https://:token@host", "https://:********@host"),
    ],
)
def test_passwords_in_addresses_are_covered_whoever_says_them(said: str, shown: str) -> None:
    assert SecretTexts().hidden({"url": [said]}) == {"url": [shown]}
    assert SecretTexts().are_in(said) is (said != shown)

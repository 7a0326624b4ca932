"""What ansible-vault has encrypted opens with its password, and with no other."""

from __future__ import annotations

import pytest

from sappers.security.vault import open_vault

# By ansible-vault 2.19, with the password "secret pass".
ENVELOPE = """\
$ANSIBLE_VAULT;1.1;AES256
30623932643961306638636531323761333861396162356438353837633039633162336530376336
3730306163653963636133363463323133653664613763350a346330663765336130313030626366
30323762303037613430316539386231353735633462653736643433656235643035643634343031
6630303864363831340a613433303164353765633039373865333564653138623733653731656630
35383032376132366531643662346339663966313433336362353838353866373036
"""


def test_opens_with_the_password_that_fits() -> None:
    assert open_vault(ENVELOPE, ["wrong", "secret pass"]) == "a: hidden ü\nb: 2\n"
    labelled = ENVELOPE.replace("1.1;AES256", "1.2;AES256;prod")
    assert open_vault(labelled, ["secret pass"]) == "a: hidden ü\nb: 2\n"


@pytest.mark.parametrize(
    ("text", "passwords", "message"),
    [
        (ENVELOPE, [], "no password"),
        (ENVELOPE, ["Secret pass"], "no password that is given fits"),
        (ENVELOPE[:-20], ["secret pass"], "damaged|no password"),
        ("a: 1\n", ["secret pass"], "does not begin"),
        ("$ANSIBLE_VAULT;1.0;AES\n00\n", ["x"], "not known"),
        ("$ANSIBLE_VAULT;1.1;AES256\nzz\n", ["x"], "damaged"),
    ],
)
def test_says_why_it_does_not_open(text: str, passwords: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_vault(text, passwords)

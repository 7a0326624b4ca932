from __future__ import annotations

import base64
import json
import re

import msgspec
import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import HubError
from sappers.hub.credentials import (
    AgentCredentials,
    TrustedAccounts,
    create_hub_account,
    create_hub_key,
    read_accounts,
)
from sappers.model.guest_scope import GuestScope
from sappers.model.hub import BY_SEED, HubAccess


def decode(part: str) -> dict:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def claims(jwt: str) -> dict:
    return decode(jwt.split(".")[1])


def user_jwt(credentials: str) -> str:
    return re.search(r"BEGIN NATS USER JWT-----\n(\S+)\n", credentials)[1]


SCOPE = GuestScope("hello-1", "hello")


@pytest.fixture(scope="module")
def minter() -> AgentCredentials:
    return AgentCredentials(create_hub_account("lab").account_seed)


def test_the_operator_signs_the_account_and_is_forgotten() -> None:
    account = create_hub_account("lab")
    operator, own = claims(account.operator_jwt), claims(account.account_jwt)
    assert operator["iss"] == operator["sub"] == own["iss"]
    assert own["sub"] == read_accounts(account.account_jwt).account
    assert nkeys.from_seed(account.account_seed.encode()).public_key.decode() == own["sub"]
    assert account.account_seed not in repr(account)
    assert account.account_seed not in account.operator_jwt + account.account_jwt


def test_every_user_is_signed_by_the_account_and_new(minter: AgentCredentials) -> None:
    jwts = [user_jwt(text) for text in (minter.agent("n1"), minter.agent("n1"))]
    first, second = map(claims, jwts)
    assert first["iss"] == second["iss"]
    assert first["sub"] != second["sub"]
    signed, _, signature = jwts[0].rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    assert minter._account.verify(signed.encode(), raw)
    assert decode(jwts[0].split(".")[0]) == {"typ": "JWT", "alg": "ed25519-nkey"}


def test_a_guest_says_and_hears_what_is_its_own_and_what_it_is_linked_to(
    minter: AgentCredentials,
) -> None:
    scope = GuestScope("shop-1", "shop", links=("billing",))
    guest = claims(user_jwt(minter.mint(scope, 1234.9)))
    assert guest["exp"] == 1234
    assert guest["nats"]["pub"] == {
        "allow": [
            "sappers.guest.shop-1.>",
            "sappers.inbox.>",
            "sappers.app.shop.>",
            "sappers.app.billing.>",
        ],
        "deny": ["sappers.app.*.durable.>", "sappers.app.billing.events.>"],
    }
    assert guest["nats"]["sub"]["allow"] == [
        "sappers.guest.shop-1.>",
        "sappers.inbox.shop-1.>",
        "sappers.app.shop.>",
        "sappers.app.billing.events.>",
    ]
    assert guest["nats"]["subs"] == 32
    assert guest["nats"]["payload"] == 68 * 1024


def test_a_monitor_hears_all_health_and_events_and_raises_alerts(minter: AgentCredentials) -> None:
    scope = GuestScope("monitor-1", "monitor", role="monitor")
    permissions = claims(user_jwt(minter.mint(scope, 1.0)))["nats"]
    assert "sappers.alerts.>" in permissions["pub"]["allow"]
    assert permissions["sub"]["allow"][-2:] == ["sappers.guest.*.health", "sappers.events.>"]


def test_the_servers_have_an_account_of_their_own_to_which_nobody_is_admitted() -> None:
    account = create_hub_account("lab")
    accounts = read_accounts(account.account_jwt)
    assert set(accounts.jwts) == {accounts.account, accounts.system}
    assert claims(accounts.jwts[accounts.system])["iss"] == claims(account.operator_jwt)["sub"]
    before_jetstream = read_accounts(account.account_jwt.splitlines()[0])
    assert before_jetstream.account == accounts.account
    assert not before_jetstream.system


def test_an_operator_says_nothing(minter: AgentCredentials) -> None:
    permissions = claims(user_jwt(minter.operator()))["nats"]
    assert permissions["pub"] == {"deny": [">"]}
    assert permissions["sub"] == {"allow": [">"]}


@given(
    st.text(max_size=8).filter(lambda text: re.search(r"[^A-Za-z0-9_-]", text) or not text),
    st.sampled_from(["allocation_id", "workload", "links"]),
)
def test_a_name_that_could_widen_a_subject_is_refused(text: str, where: str) -> None:
    minter = AgentCredentials(create_hub_account("lab").account_seed)
    scope = GuestScope("a-1", "a", links=("b",))
    wider = msgspec.structs.replace(scope, **{where: (text,) if where == "links" else text})
    with pytest.raises(HubError):
        minter.mint(wider, 1.0)


@pytest.mark.parametrize("seed", ["", "garbage", "SUAGNKC24", "\udcff"])
def test_a_damaged_seed_is_refused_without_showing_it(seed: str) -> None:
    with pytest.raises(HubError) as caught:
        AgentCredentials(seed)
    assert not seed or seed not in caught.value.message


def test_a_seed_of_another_kind_is_refused() -> None:
    user = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode()
    with pytest.raises(HubError, match="another kind"):
        AgentCredentials(user)


@pytest.mark.parametrize("jwt", ["", "a.b.c", "a.e30.c", "a"])
def test_an_account_that_is_no_jwt_is_refused(jwt: str) -> None:
    with pytest.raises(HubError):
        read_accounts(jwt)


@given(names=st.lists(st.from_regex(r"\A[a-z0-9-]{1,20}\Z"), unique=True, max_size=5))
def test_any_member_can_have_the_guests_of_any_other_refused(names: list[str]) -> None:
    made = create_hub_account("lab")
    here, there = AgentCredentials(made.account_seed), AgentCredentials(made.account_seed)
    users = {
        claims(user_jwt(there.mint(GuestScope(name, "hello"), 2_000_000_000.0)))["sub"]
        for name in names
    }
    found = here.accounts(made.account_jwt, names, BY_SEED)
    assert found == here.accounts(made.account_jwt, list(reversed(names)), BY_SEED)
    assert set(said_of(found)["nats"].get("revocations", {})) == users
    assert "revocations" not in claims(found.jwts[found.system])["nats"]
    nothing_else = {"jti", "iss"}
    before, after = claims(made.account_jwt.split()[0]), said_of(found)
    after["nats"] = {
        key: value
        for key, value in after["nats"].items()
        if key not in ("revocations", "signing_keys")
    }
    assert {key: before[key] for key in before.keys() - nothing_else} == {
        key: after[key] for key in after.keys() - nothing_else
    }


def said_of(accounts: TrustedAccounts) -> dict:
    return claims(accounts.jwts[accounts.account])


def test_an_account_that_an_operator_of_before_signed_is_signed_anew() -> None:
    made, other = create_hub_account("lab"), create_hub_account("lab")
    credentials = AgentCredentials(other.account_seed, create_hub_key())
    found = credentials.accounts(made.account_jwt, ["hello-1"], BY_SEED)
    assert said_of(found)["sub"] == claims(made.account_jwt.split()[0])["sub"]
    assert said_of(found)["iss"] in claims(credentials.operator_jwt())["nats"]["signing_keys"]
    with pytest.raises(HubError):
        credentials.accounts("x", ["hello-1"], BY_SEED)


@given(seed_signs=st.booleans())
def test_an_account_lets_in_whom_the_named_keys_signed_and_nobody_else(seed_signs: bool) -> None:
    made, keys = create_hub_account("lab"), [create_hub_key() for _ in range(3)]
    one, two, _ = (AgentCredentials(made.account_seed, key) for key in keys)
    access = HubAccess((one.signs, two.signs), seed_signs=seed_signs)
    found = one.accounts(made.account_jwt, (), access)
    for name, jwt in found.jwts.items():
        signs = {one.signs, two.signs, *((name,) if seed_signs else ())}
        assert set(claims(jwt)["nats"]["signing_keys"]) == signs
    operator = claims(one.operator_jwt())["nats"]
    assert operator["strict_signing_key_usage"]
    assert {claims(jwt)["iss"] for jwt in found.jwts.values()} == set(operator["signing_keys"])
    elsewhere = said_of(two.accounts(made.account_jwt, (), access))
    assert elsewhere["iss"] not in operator["signing_keys"]  # each server trusts its own member


@pytest.mark.parametrize("uses_own", [True, False])
def test_a_member_signs_with_its_own_key_once_the_servers_know_it(uses_own: bool) -> None:
    made = create_hub_account("lab")
    accounts = read_accounts(made.account_jwt)
    minter = AgentCredentials(made.account_seed, create_hub_key(), lambda: uses_own)
    made_of = {
        accounts.account: (minter.agent("n1"), minter.operator(), minter.mint(SCOPE, 2e9)),
        accounts.system: (minter.system("n1"),),
    }
    for account, texts in made_of.items():
        for said in map(claims, map(user_jwt, texts)):
            assert said["iss"] == (minter.signs if uses_own else account)
            assert said["nats"].get("issuer_account") == (account if uses_own else None)

"""Members' keys for the hub: said once in the log, and believed by their certificate alone."""

from __future__ import annotations

from pathlib import Path

import immutables
import msgspec
import pytest

from sappers.agent.hub.hub_keys import STATED_AS, HubKeys
from sappers.model import subjects
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import RevokeMember
from sappers.model.hub import BY_SEED, HubKey
from sappers.security.messages import MessageSigner
from tests.identities import make_cluster_identities
from tests.unit.clocks import FixedClock
from tests.unit.worlds import commit, founded, member

ALL_NEW = [member(number, has_hub_key=True) for number in (1, 2, 3)]


def key(letter: str) -> HubKey:
    return HubKey("A" + letter * 55, letter.lower() * 64)


class Members:
    """Three members' keys, each with its own certificate."""

    def __init__(self, folder: Path) -> None:
        ids = ["m1", "m2", "m3"]
        identities = make_cluster_identities(folder, ids)
        self.signers = {name: MessageSigner(identities[name]) for name in ids}
        self.keys = {
            name: HubKeys(
                name,
                lambda letter=letter: key(letter),
                self.signers[name],
                FixedClock(),
            )
            for name, letter in zip(ids, "ABC", strict=True)
        }

    def statement(self, member_id: str, said: bytes, subject: str = STATED_AS) -> bytes:
        return self.signers[member_id].sign(subject, said)


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path)


def said(state: ClusterState, **statements: bytes) -> ClusterState:
    return msgspec.structs.replace(state, hub_keys=immutables.Map(statements))


def test_each_says_its_key_once_and_all_servers_let_these_in(members: Members) -> None:
    state = msgspec.structs.replace(founded(3), hub_servers=("m1", "m2"))
    for name, keys in members.keys.items():
        assert not keys.may_connect(state, ALL_NEW)
        commands = keys.plan(state, ALL_NEW)
        state, done = commit(state, *commands)
        assert not done.refused
        assert keys.plan(state, ALL_NEW) == ()
        assert state.hub_keys[name] == commands[0].statement
    assert all(keys.may_connect(state, ALL_NEW) for keys in members.keys.values())
    access = members.keys["m1"].access(state)
    assert access.signers == tuple(key(letter).signs for letter in "ABC")
    assert access.servers_show == tuple(key(letter).shows for letter in "AB")
    assert not access.seed_signs
    assert members.keys["m2"].access(state) == access
    assert members.keys["m3"].access(state) == BY_SEED  # it has no server
    state, _ = commit(state, RevokeMember("m3"))
    assert members.keys["m1"].access(state).signers == (key("A").signs, key("B").signs)
    assert members.keys["m3"].plan(state, ALL_NEW) == ()


def test_with_another_certificate_it_is_said_anew(members: Members) -> None:
    mine, state = members.keys["m1"], founded(3)
    state, _ = commit(state, *mine.plan(state, ALL_NEW))
    mine.renew()
    (again,) = mine.plan(state, ALL_NEW)
    assert again.statement != state.hub_keys["m1"]


def test_nothing_is_said_while_members_of_before_would_forget_it(members: Members) -> None:
    mixed = [*ALL_NEW[:2], member(3)]
    assert members.keys["m1"].plan(founded(3), mixed) == ()
    assert members.keys["m1"].may_connect(founded(3), mixed)
    assert members.keys["m1"].plan(ClusterState(), ALL_NEW) == ()  # nobody knows it yet


def test_what_another_one_says_of_it_counts_for_nothing(members: Members) -> None:
    state = msgspec.structs.replace(founded(3), hub_servers=("m1",))
    mine, its = members.keys["m1"], msgspec.json.encode(key("D"))
    forged = {
        "another's word": members.statement("m3", its),
        "for another purpose": members.statement("m2", its, subjects.HEARTBEAT),
        "no key": members.statement("m2", b'{"signs": "X", "shows": ""}'),
        "no text": members.statement("m2", b'{"signs": "\xff", "shows": ""}'),
        "no end": members.statement("m2", b'{"more": ' + b"[" * 100_000),
        "nothing": b"",
    }
    for what, statement in forged.items():
        assert mine.access(said(state, m2=statement)).signers == (), what
    good = members.statement("m2", its)
    assert mine.access(said(state, m2=good)).signers == (key("D").signs,)
    # Who finds another key in its place says its own again.
    assert members.keys["m2"].plan(said(state, m2=forged["another's word"]), ALL_NEW)

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from sappers.membership.known_members import load_known_members, save_known_members
from sappers.membership.table import MemberTable, Sighting, gossip_name, join_address
from sappers.model.member import Accelerator, Member, MemberState, Ports, Resources

ALIVE, SUSPECT, DEAD, LEFT = MemberState


def member(id: str, address: str = "10.0.0.1", state: MemberState = ALIVE) -> Member:
    return Member(
        id, id, address, Ports(), Resources(1, 512), Accelerator("tcg", ""), "1", state=state
    )


def seen(one: Member, epoch: int) -> Sighting:
    name = gossip_name(one.id, one.address, one.ports.gossip)
    return Sighting(name, join_address(one), epoch, one)


def test_a_member_is_remembered_when_it_dies() -> None:
    table = MemberTable()
    assert table.see(seen(member("a"), 1))
    assert not table.see(seen(member("a"), 1))
    assert table.see(seen(member("a", state=DEAD), 1))
    assert table.members() == (member("a", state=DEAD),)
    assert table.names() == ()


def test_a_member_at_a_new_address_is_itself_at_once() -> None:
    table = MemberTable()
    table.see(seen(member("a", "10.0.0.1"), 1))
    table.see(seen(member("a", "10.0.0.2"), 2))
    assert table.members() == (member("a", "10.0.0.2"),)
    assert not table.see(seen(member("a", "10.0.0.1", DEAD), 1))
    assert table.members() == (member("a", "10.0.0.2"),)


def test_a_member_whose_clock_went_back_is_itself_once_the_old_run_is_gone() -> None:
    table = MemberTable()
    table.see(seen(member("a", "10.0.0.1"), 9))
    table.see(seen(member("a", "10.0.0.2"), 2))
    assert table.members() == (member("a", "10.0.0.1"),)
    table.see(seen(member("a", "10.0.0.1", SUSPECT), 9))
    assert table.members() == (member("a", "10.0.0.2"),)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_two_live_ones_everybody_takes_the_same(order: tuple[int, int]) -> None:
    table = MemberTable()
    for epoch in order:
        table.see(seen(member("a", f"10.0.0.{epoch}"), epoch))
    assert table.members() == (member("a", "10.0.0.2"),)


def test_the_last_word_of_the_last_run_counts() -> None:
    table = MemberTable()
    table.see(seen(member("a", "10.0.0.1"), 1))
    table.see(seen(member("a", "10.0.0.2", LEFT), 2))
    table.see(seen(member("a", "10.0.0.1", DEAD), 1))
    assert table.members() == (member("a", "10.0.0.2", LEFT),)


def test_who_is_forgotten_is_met_again_alive_alone() -> None:
    table = MemberTable([member("b", state=LEFT)])
    table.see(seen(member("a"), 1))
    assert not table.forget("a"), "it lives"
    table.see(seen(member("a", state=DEAD), 1))
    assert table.forget("a")
    assert table.forget("b")
    assert not table.see(seen(member("a", state=DEAD), 1)), "gossip remembers it for a while"
    assert table.members() == ()
    assert table.see(seen(member("a", "10.0.0.3"), 2))
    assert table.see(seen(member("a", "10.0.0.3", DEAD), 2))
    assert table.members() == (member("a", "10.0.0.3", DEAD),)


def test_those_of_an_earlier_run_are_suspect_first_and_dead_when_nobody_sees_them() -> None:
    table = MemberTable([member("a"), member("b", state=LEFT), member("c", state=DEAD)])
    assert [one.state for one in table.members()] == [SUSPECT, LEFT, SUSPECT]
    table.see(seen(member("a"), 1))
    assert table.give_up_unseen()
    assert [one.state for one in table.members()] == [ALIVE, LEFT, DEAD]
    assert not table.give_up_unseen()
    table.see(seen(member("c", "10.0.0.7"), 1))
    assert table.members()[2] == member("c", "10.0.0.7")


def test_losing_a_name_nobody_knows_changes_nothing() -> None:
    assert not MemberTable().lose("x", DEAD)


def test_gossip_names_fit() -> None:
    long = "n" * 63
    assert len(gossip_name(long, "10.0.0.1", 7946).encode()) <= 64
    assert gossip_name(long + "1", "10.0.0.1", 1) != gossip_name(long + "2", "10.0.0.1", 1)


def test_known_members_survive_and_are_private(tmp_path: Path) -> None:
    path = tmp_path / "known-members.json"
    assert load_known_members(path) == ()
    known = (member("a"), member("b", state=LEFT))
    save_known_members(path, known)
    assert load_known_members(path) == known
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"{}", b'[{"id": 1}]', b"[" * 10])
def test_a_damaged_file_is_put_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "known-members.json"
    path.write_bytes(content)
    assert load_known_members(path) == ()
    assert not path.exists()
    assert (tmp_path / "known-members.json.damaged").read_bytes() == content


def test_a_later_version_may_know_more_of_a_member(tmp_path: Path) -> None:
    path = tmp_path / "known-members.json"
    more = msgspec.to_builtins(member("a")) | {"colour": "red"}
    path.write_bytes(msgspec.json.encode([more]))
    assert load_known_members(path) == (member("a"),)

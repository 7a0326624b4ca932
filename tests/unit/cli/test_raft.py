from __future__ import annotations

import io

import pytest
from rich.console import Console

from sappers.api import raft as api_raft
from sappers.api.raft_wire import RaftReport
from sappers.cli import raft
from sappers.cli.raft_view import (
    given_up,
    heirs_of,
    newest_voter,
    render_peers,
    render_status,
    summary_of,
)
from sappers.config import LEASE_SECONDS
from sappers.decisions.fencing import certain_after_seconds
from sappers.errors import ConfigError
from sappers.model.observation import RaftRole, RaftStatus

VOTERS = ("m1", "m2", "m3")


def report(
    name: str, role: RaftRole, last: int = 100, trouble: str = "", **changes: object
) -> RaftReport:
    leader = "m1" if role is not RaftRole.CANDIDATE else None
    facts = {"electorate": VOTERS, "last_index": last, "last_term": 7, **changes}
    return RaftReport(
        name, f"host-{name}", "c", RaftStatus(role, 7, leader, 90, 90, **facts), trouble
    )


LEADER = report("m1", RaftRole.LEADER, unheard={"m3": 12}, snapshot_index=50)
FOLLOWER = report("m2", RaftRole.FOLLOWER)
ASKING = report("m3", RaftRole.CANDIDATE, last=120)
NO_VOTE = report("m4", RaftRole.NONE, last=0)


def shown(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_quorum_is_a_leader_and_a_majority_that_answers() -> None:
    whole = summary_of([LEADER, FOLLOWER, NO_VOTE])
    assert (whole.has_quorum, whole.leader_id, whole.answering) == (True, "m1", ("m1", "m2"))
    assert not summary_of([LEADER, NO_VOTE]).has_quorum, "it does not know yet"
    assert not summary_of([FOLLOWER, ASKING]).has_quorum, "nobody leads"
    damaged = report("m3", RaftRole.NONE, trouble="raft/journal does not match its checksum")
    assert summary_of([LEADER, FOLLOWER, damaged]).answering == ("m1", "m2")
    with pytest.raises(ConfigError):
        summary_of([])


def test_the_newest_log_goes_on() -> None:
    assert newest_voter([FOLLOWER, ASKING, NO_VOTE], None) is ASKING
    assert newest_voter([FOLLOWER, ASKING], "host-m2") is FOLLOWER
    older_term = report("m9", RaftRole.FOLLOWER, last=500, last_term=6)
    assert newest_voter([older_term, FOLLOWER], None) is FOLLOWER, "terms come first"
    with pytest.raises(ConfigError, match="no voter"):
        newest_voter([NO_VOTE], None)


def test_what_others_have_and_the_chosen_has_not_is_said() -> None:
    ahead = RaftReport("m4", "host-m4", "c", RaftStatus(RaftRole.NONE, 7, None, 130, 130))
    assert given_up(FOLLOWER, [FOLLOWER, ASKING, NO_VOTE, ahead]) == [
        "host-m3's log reaches entry 120 of term 7",
        "host-m4 follows, and has applied entry 130",
    ]
    assert given_up(ASKING, [FOLLOWER, ASKING, NO_VOTE]) == []


def test_leadership_goes_to_voters_that_are_well_and_to_cordoned_ones_last() -> None:
    damaged = report("m5", RaftRole.FOLLOWER, trouble="its journal is damaged")
    found = [LEADER, FOLLOWER, report("m3", RaftRole.FOLLOWER, last=120), NO_VOTE, damaged]
    assert heirs_of("m1", found, {}) == ["m3", "m2"]
    assert heirs_of("m1", found, {"m3"}) == ["m2", "m3"]


def test_it_is_shown_in_eighty_columns() -> None:
    damaged = report("m3", RaftRole.NONE, trouble="raft/journal does not match its checksum")
    text = shown(render_peers([LEADER, FOLLOWER, damaged, NO_VOTE]))
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split() == ["MEMBER", "ROLE", "TERM", "LOG", "APPLIED", "SNAPSHOT", "HEARD"]
    assert "12 s ago" in lines[3]
    assert lines[4].split()[1] == "follows"
    down = report("m3", RaftRole.NONE, trouble="the disk is full", down="the disk is full")
    assert shown(render_peers([LEADER, FOLLOWER, down])).splitlines()[3].split()[1] == "down"
    assert "host-m3: raft/journal does not match its checksum" in text
    text = shown(render_status(summary_of([FOLLOWER])))
    assert "nobody" in text
    assert "lost: 1 of 3 voters answer" in text


def test_a_recovery_is_waited_for_however_long_leases_may_be() -> None:
    served = certain_after_seconds(LEASE_SECONDS[1]) + api_raft.RECOVERY_SECONDS
    assert served < raft.RECOVERY_SECONDS

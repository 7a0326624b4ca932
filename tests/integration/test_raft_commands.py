"""What `sappers-deploy raft` does, to real agents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sappers.api.wire import RaftReport, WantedRecovery
from sappers.cli.cordon import find_member
from sappers.cli.raft import reseed_voter
from sappers.cli.raft_view import newest_voter, summary_of
from sappers.errors import ApiError, SappersError
from tests.integration.agents import WHOLE_SECONDS, Agents
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    with Agents(tmp_path, ["n1", "n2", "n3"]) as cluster:
        yield cluster


def report_of(cluster: Agents, name: str) -> RaftReport | None:
    try:
        answer = cluster.client_at(name).call("GET", "/v1/raft")
    except SappersError:
        return None
    return msgspec.json.decode(answer, type=RaftReport)


def recover(cluster: Agents, name: str) -> None:
    report = report_of(cluster, name)
    assert report is not None
    content = msgspec.json.encode(WantedRecovery(report.member_id, report.cluster_id))
    client = cluster.client_at(name)
    client.call("POST", "/v1/raft/recovery", content=content, timeout_seconds=60.0)


def test_a_damaged_voter_is_reseeded_and_a_lost_quorum_is_recovered(agents: Agents) -> None:
    wait_until("three members with a hub", agents.is_whole, WHOLE_SECONDS)
    view = agents.view()
    assert view is not None
    damaged, *others = sorted(agents.names, key=lambda one: one == view.leader_id)
    agents.kill(damaged)
    (journal,) = agents.folder.glob(f"{damaged}/**/raft/journal")
    content = bytearray(journal.read_bytes())
    content[64] ^= 1  # in the first record: those after the first sync say that it was on disk
    journal.write_bytes(content)
    agents.start(damaged)

    def says_so() -> bool:
        report = report_of(agents, damaged)
        return report is not None and "journal" in report.trouble

    wait_until("it refuses, and says which file", says_so, WHOLE_SECONDS)
    reseed_voter(agents.client, find_member(agents.client.view(), damaged), WHOLE_SECONDS)
    reports = [report for name in agents.names if (report := report_of(agents, name))]
    assert all(report.votes_here and not report.trouble for report in reports)
    assert summary_of(reports).has_quorum

    with pytest.raises(ApiError, match="not lost"):
        recover(agents, damaged)
    for name in others:
        agents.kill(name)

    def nobody_leads() -> bool:
        report = report_of(agents, damaged)
        return report is not None and report.status.leader_id is None

    wait_until("the survivor knows that it is alone", nobody_leads)
    alone = report_of(agents, damaged)
    assert alone is not None
    assert newest_voter([alone], None) is alone
    recover(agents, damaged)
    # Only a leader can have that committed.
    agents.insist("it leads", lambda: agents.client_at(damaged).uncordon(damaged))
    after = report_of(agents, damaged)
    assert after is not None
    assert after.status.electorate == (damaged,)

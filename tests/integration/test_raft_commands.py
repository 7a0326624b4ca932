"""What `sappers-deploy raft` does, to real agents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from sappers.api.raft_wire import RaftReport, WantedRecovery
from sappers.cli import raft
from sappers.cli.cordon import find_member
from sappers.cli.raft import reseed_voter
from sappers.cli.raft_view import newest_voter, summary_of
from sappers.errors import ApiError, SappersError
from sappers.model.event import EventFilter
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


def ask(cluster: Agents, *command: str, said: str = "") -> Result:
    """What a person does; exceptions are those that the entry point prints."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(raft, "open_cluster", lambda *_: nullcontext(cluster.client))
        return CliRunner().invoke(raft.raft_app, command, input=said)


def test_leadership_is_handed_over_and_a_vote_is_taken_and_given_back(agents: Agents) -> None:
    wait_until("three members with a hub", agents.is_whole, WHOLE_SECONDS)
    view = agents.view()
    assert view is not None
    (other, *_) = [name for name in agents.names if name != view.leader_id]
    assert ask(agents, "transfer", other).exit_code == 0
    assert ask(agents, "remove", other, said="n\n").exit_code != 0, "it asks first"
    assert other in summary_of(reports_of(agents)).electorate
    removed = ask(agents, "remove", other, "--yes")
    assert removed.exit_code == 0, removed.output
    assert "votes no more" in removed.stderr

    def told_by() -> str:
        wanted = EventFilter(subject=other, kind="voter.removed")
        (event,) = agents.client.events(limit=1, wanted=wanted).events
        return event.by

    said = wait_until("the event, which is written down a moment later", told_by)
    assert said.startswith("operator/"), "not the leader that was asked"

    def has_it_back() -> bool:
        return len(summary_of(reports_of(agents)).electorate) == 3

    wait_until("the electorate's rules give it back", has_it_back, WHOLE_SECONDS)
    the_leader_is_revoked(agents)


def the_leader_is_revoked(cluster: Agents) -> None:
    """Not before its vote was taken, which the command does: the two others go on."""
    view = cluster.view()
    assert view is not None
    assert view.leader_id is not None
    with pytest.raises(ApiError, match="has a vote"):
        cluster.client.call("PUT", f"/v1/members/{view.leader_id}/revocation")
    keys = str(cluster.folder)  # of the control machine; there are none of healers in it
    revoked = ask(cluster, "revoke", view.leader_id, "--yes", "--addr", "any", "--cluster", keys)
    assert revoked.exit_code == 0, revoked.output
    others = [name for name in cluster.names if name != view.leader_id]

    def go_on() -> bool:
        """One of them may have its vote back for a moment only, and begin to use it now."""
        reports = [report for name in others if (report := report_of(cluster, name))]
        found = summary_of(reports)
        return sorted(found.electorate) == others and found.has_quorum

    wait_until("the two others go on", go_on, WHOLE_SECONDS)


def reports_of(cluster: Agents) -> list[RaftReport]:
    return [report for name in cluster.names if (report := report_of(cluster, name))]


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
    reports = reports_of(agents)
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
    refused = ask(agents, "recover", said="y\nanother\n")
    assert refused.exit_code != 0
    assert "It will be the only voter" in refused.stderr
    assert "gone for good?" in refused.stderr
    assert "'another' is not" in str(refused.exception)
    assert ask(agents, "recover", said=f"y\n{damaged}\n").exit_code == 0
    # Only a leader can have that committed.
    agents.insist("it leads", lambda: agents.client_at(damaged).uncordon(damaged))
    after = report_of(agents, damaged)
    assert after is not None
    assert after.status.electorate == (damaged,)

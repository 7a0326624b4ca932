"""`sappers-deploy raft`: who votes and leads, and what to do when that is not well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.api.operator_client import OperatorClient
from sappers.api.problems import decoded
from sappers.api.raft_wire import RaftReport, WantedLeader, WantedRecovery
from sappers.api.ways import Reached, at_once
from sappers.cli.asking import answer_to, confirm
from sappers.cli.cordon import Named, find_member
from sappers.cli.exit_codes import ExitCode
from sappers.cli.output import Form, Output
from sappers.cli.raft_view import (
    given_up,
    heirs_of,
    newest_voter,
    render_peers,
    render_status,
    summary_of,
)
from sappers.cli.rekey import replace_gossip_key
from sappers.cli.session import (
    Address,
    Cluster,
    WaitSeconds,
    cluster_folder,
    open_cluster,
)
from sappers.cli.waiting import POLL_SECONDS, wait_until
from sappers.config import LEASE_SECONDS
from sappers.decisions.fencing import certain_after_seconds
from sappers.errors import ApiError, ConfigError, NoQuorum
from sappers.model.member import Member
from sappers.model.observation import RaftRole
from sappers.provisioner.bootstrap.repair_key import KEY_FILE

# However long the leases are that are waited for.
RECOVERY_SECONDS = certain_after_seconds(LEASE_SECONDS[1]) + 30.0
SETTLING_SECONDS = 15.0  # in which a new leader comes, and applies an entry of its own
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]
_YES, _AT_A_TERMINAL = "--yes asks nothing", "run it at a terminal"

raft_app = typer.Typer(
    help="Who votes and leads; change it, repair it, recover from a lost quorum.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@raft_app.command()
def status(*, cluster: Cluster = None, addr: Address = None, output: Form = Output.TEXT) -> None:
    """Print leader, term, voters and whether a majority answers; exit code 5 if none does."""
    with open_cluster(cluster, addr) as client:
        found = summary_of(_reports(client))
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        Console().print(render_status(found))
    if not found.has_quorum:
        raise typer.Exit(ExitCode.NO_QUORUM)


@raft_app.command()
def peers(*, cluster: Cluster = None, addr: Address = None, output: Form = Output.TEXT) -> None:
    """Print each member's own word: role, term, how far its log is."""
    with open_cluster(cluster, addr) as client:
        found = _reports(client)
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        Console().print(render_peers(found))


@raft_app.command()
def transfer(member: Named, *, cluster: Cluster = None, addr: Address = None) -> None:
    """Make another voter the leader."""
    with open_cluster(cluster, addr) as client:
        found = find_member(client.view(), member)
        _at_leader(client, "PUT", "/v1/raft/leader", WantedLeader(found.id))
    _say(f"{found.name} leads")


@raft_app.command()
def remove(
    member: Named, *, yes: Yes = False, cluster: Cluster = None, addr: Address = None
) -> None:
    """Take a member's vote; the electorate's rules may give it to another, or back.

    To keep a member from voting, cordon it.
    """
    with open_cluster(cluster, addr) as client:
        found = find_member(client.view(), member)
        if not yes:
            confirm(f"Take the vote of {found.name} ({found.id})?", hint=_YES)
        _remove(client, found)
    _say(f"{found.name} votes no more")


@raft_app.command()
def revoke(
    member: Named, *, yes: Yes = False, cluster: Cluster = None, addr: Address = None
) -> None:
    """Refuse a member's certificate for good: take its vote, drain it, cut its connections.

    All others get another gossip key, as by `sappers-deploy rekey`.
    """
    with open_cluster(cluster, addr) as client:
        found = find_member(client.view(), member)
        if not yes:
            confirm(f"Refuse {found.name} ({found.id}) for good?", hint=_YES)
        _revoke(client, found)
        _say(f"{found.name} is out; emptied and bootstrapped, its host joins under a new id")
        if addr is None:
            count = replace_gossip_key(client, cluster_folder(cluster))
            _say(f"{count} members have a new gossip key, and {found.name} has not")
        else:
            _say(f"{found.name} has the gossip key: sappers-deploy rekey gives the others another")
        repair_key = cluster_folder(cluster) / KEY_FILE
        if repair_key.exists():
            _say(
                f"{found.name} may have opened the healers' authority: to replace it on the "
                f"others' hosts, move {repair_key} away and bootstrap them"
            )


@raft_app.command()
def reseed(
    member: Named,
    *,
    timeout: WaitSeconds = 120.0,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Let a voter whose files are damaged or lost begin again, from its peers' snapshot."""
    with open_cluster(cluster, addr) as client:
        found = find_member(client.view(), member)
        reseed_voter(client, found, timeout)
    _say(f"{found.name} votes again, with what its peers gave it")


@raft_app.command()
def recover(
    *,
    member: Annotated[
        str | None,
        typer.Option(metavar="MEMBER", help="The voter to go on with; the newest log's if absent."),
    ] = None,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Go on with one voter when the majority is lost for good. Asks twice."""
    with open_cluster(cluster, addr) as client:
        found = _reached_reports(client, silent=True)
        everyone = {report.member_id: one for one, report in found}
        reports = [report for _, report in found]
        if summary_of(reports).has_quorum:
            raise ConfigError(
                "a majority of the voters answers: nothing is lost",
                hint="sappers-deploy raft reseed MEMBER replaces a damaged voter",
            )
        chosen = newest_voter(reports, member)
        screen = Console(stderr=True)
        screen.print(render_peers(reports))
        screen.print(_consequences(client, chosen, reports), highlight=False)
        confirm("Are the hosts that do not answer gone for good?", hint=_AT_A_TERMINAL)
        typed = answer_to(f"Type {chosen.name} to go on", hint=_AT_A_TERMINAL)
        if typed != chosen.name:
            raise ConfigError(f"{typed!r} is not {chosen.name}: nothing was done")
        wanted = WantedRecovery(chosen.member_id, chosen.cluster_id)
        client.call_at(
            everyone[chosen.member_id],
            "POST",
            "/v1/raft/recovery",
            content=msgspec.json.encode(wanted),
            timeout_seconds=RECOVERY_SECONDS,
        )
    _say(f"{chosen.name} goes on alone; other members get votes as they are well")


def _consequences(client: OperatorClient, chosen: RaftReport, reports: Sequence[RaftReport]) -> str:
    """What it means that this voter goes on alone."""
    status, answering = chosen.status, {one.member_id for one in reports}
    members = {one.member.id: one for one in client.view().members}
    missing = [
        members[voter].member.name if voter in members else voter
        for voter in status.electorate
        if voter not in answering
    ]
    said = [
        f"{chosen.name}'s log reaches entry {status.last_index} of term {status.last_term}."
        " It will be the only voter.",
        f"What only {', '.join(missing) or 'nobody'} had is lost. Their disks must never come"
        " back: two clusters would write.",
        "It begins once the leases of exclusive guests have ended, wherever they run.",
    ]
    if lost := given_up(chosen, reports):
        said.append("Given up is, too, what others have and it has not: " + "; ".join(lost) + ".")
    heard = [
        one.member.name
        for one in members.values()
        if one.member.id not in answering and one.member.lives
    ]
    if heard:
        said.append(
            f"{', '.join(heard)}: gossip hears of them, and they do not answer here. Look at them"
            " first: one may have a newer log, or lead."
        )
    return "\n".join(said)


def reseed_voter(client: OperatorClient, member: Member, timeout_seconds: float) -> None:
    """Take a member's vote, wait until it has put its old files away, and give it a new one.

    Raises:
        StillWaiting, ApiError: Not done; it can be asked for again.
    """
    if member.id in _voters(client):
        _remove(client, member)
    _wait(client, member, timeout_seconds, _is_ready, "its old files are in use still")
    # The leader may have been first: whoever is well gets a vote from it.
    if member.id not in _voters(client):
        _at_leader(client, "PUT", f"/v1/raft/voters/{member.id}")
    _wait(client, member, timeout_seconds, lambda mine, _: mine.votes_here, "it does not vote yet")


def _is_ready(mine: RaftReport, reports: Sequence[RaftReport]) -> bool:
    """Whether a member has done with the vote that it lost.

    Whoever has a vote again had put its files away: the leader gives none before.
    """
    again = any(mine.member_id in one.status.electorate for one in reports if _leads(one))
    return again or not mine.votes_here


def _wait(
    client: OperatorClient,
    member: Member,
    timeout_seconds: float,
    is_done: Callable[[RaftReport, Sequence[RaftReport]], bool],
    until_then: str,
) -> None:
    """Until this is so by a member's own report and all of them, and it is in no trouble."""

    def look() -> tuple[bool, str]:
        reports = _reports(client)
        mine = next((one for one in reports if one.member_id == member.id), None)
        if mine is None:
            return False, "it does not answer"
        return is_done(mine, reports) and not mine.trouble, mine.trouble or until_then

    wait_until(
        look,
        what=member.name,
        timeout_seconds=timeout_seconds,
        hint=f"see its log: journalctl -u sappers on {member.name}",
        console=Console(stderr=True),
    )


def _remove(client: OperatorClient, member: Member) -> None:
    """Take a vote; a leader hands over first."""
    reports = _reports(client)
    if summary_of(reports).leader_id == member.id:
        heirs = heirs_of(member.id, reports, client.view().cordons)
        if not heirs:
            raise ConfigError(f"{member.name} is the only voter that answers and is well")
        _hand_over(client, heirs)
    _at_leader(client, "DELETE", f"/v1/raft/voters/{member.id}")


def _revoke(client: OperatorClient, member: Member) -> None:
    """Take its vote, and refuse it before the electorate's rules give it back."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        if member.id in _voters(client):
            _remove(client, member)
        try:
            client.call("PUT", f"/v1/members/{member.id}/revocation")
        except ApiError as error:
            if error.status != 409 or time.monotonic() > deadline:
                raise
        else:
            return


def _hand_over(client: OperatorClient, heirs: Sequence[str]) -> None:
    for heir in heirs:
        try:
            _at_leader(client, "PUT", "/v1/raft/leader", WantedLeader(heir))
        except ApiError:
            if heir == heirs[-1]:
                raise
        else:
            return


def _at_leader(
    client: OperatorClient, method: str, path: str, body: msgspec.Struct | None = None
) -> None:
    """Ask the leader; a new one needs a moment before it takes a change."""
    content = msgspec.json.encode(body) if body is not None else None
    deadline = time.monotonic() + SETTLING_SECONDS
    asked_before = False
    while True:
        try:
            client.call_at(_leader(client), method, path, content=content, timeout_seconds=20.0)
        except ApiError as error:
            if asked_before and method == "DELETE" and error.status == 404:
                return  # done, and the answer was lost
            asked_before = asked_before or error.status == 0
            if error.status not in (0, 503) or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


def _leader(client: OperatorClient) -> Reached:
    return _leaders_report(client)[0]


def _voters(client: OperatorClient) -> tuple[str, ...]:
    """Who votes, by the leader's word: a member that has just started may not know of it yet."""
    return _leaders_report(client)[1].status.electorate


def _leaders_report(client: OperatorClient) -> tuple[Reached, RaftReport]:
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        for reached, report in _reached_reports(client):
            if _leads(report):
                return reached, report
        if time.monotonic() > deadline:
            hint = "sappers-deploy raft status"
            raise NoQuorum("no member that answers leads", status=503, hint=hint)
        time.sleep(POLL_SECONDS)


def _leads(report: RaftReport) -> bool:
    return report.status.role is RaftRole.LEADER


def _reports(client: OperatorClient) -> list[RaftReport]:
    return [report for _, report in _reached_reports(client)]


def _reached_reports(
    client: OperatorClient, *, silent: bool = False
) -> Sequence[tuple[Reached, RaftReport]]:
    def ask(reached: Reached) -> tuple[Reached, RaftReport] | None:
        try:
            answer = client.call_at(reached, "GET", "/v1/raft")
            return reached, decoded(answer, RaftReport)
        except ApiError:
            return None

    found = [one for one in at_once(ask, client.everyone(silent=silent)) if one]
    return sorted(found, key=lambda one: one[1].name)


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False)

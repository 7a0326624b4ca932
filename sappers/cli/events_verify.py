"""`sappers-deploy events verify`: whether the past is as it was, on every member."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Reached, ask_all
from sappers.cli.backup import ranges
from sappers.cli.event_compare import (
    Dispute,
    Finding,
    find_disputes,
    find_edges,
    first_difference,
    head_findings,
    nowhere,
    own_findings,
)
from sappers.cli.exit_codes import ExitCode
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.errors import ApiError, ConfigError
from sappers.model.event import EventCheck, EventFilter, event_digest
from sappers.model.member import MemberState

NEWEST = 1000
_HEAD = re.compile(r"([1-9][0-9]{0,15}):([0-9a-f]{64})")


class Head(msgspec.Struct, frozen=True):
    """An event's number, and the digest that stands for it and for all before it."""

    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


class Verified(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        unanswered: Members that live and did not answer, with the reason.
        head: The newest event now, by most members.
        nowhere: Ranges of events that no member that answered has, though it has older ones.
    """

    members: dict[str, EventCheck]
    unanswered: dict[str, str]
    findings: list[Finding]
    head: Head | None
    nowhere: list[tuple[int, int]]


def verify(
    *,
    head: Annotated[
        str | None,
        typer.Option(metavar="NUMBER:DIGEST", help="An earlier head, that must be in the chain."),
    ] = None,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
) -> None:
    """Find a changed past: in each member's files, among members, against the replicated state."""
    earlier = parse_head(head) if head is not None else None
    with open_cluster(cluster, addr) as client:
        found = _verify(client, earlier)
        if addr is None:
            found.unanswered.update(_absent(client, found))
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        _show(found)
    if found.findings:
        raise typer.Exit(ExitCode.ERROR)


def parse_head(text: str) -> Head:
    """A head as `verify` prints it.

    Raises:
        ConfigError: It is none.
    """
    if (match := _HEAD.fullmatch(text)) is None:
        raise ConfigError(
            f"--head {text[:80]}: it is NUMBER:DIGEST, of 64 hex digits",
            hint="events verify prints the head of the chain",
        )
    return Head(int(match[1]), match[2])


def _verify(client: OperatorClient, earlier: Head | None) -> Verified:
    members = {one.name: one for one in client.everyone()}
    checks: dict[str, EventCheck] = {}
    unanswered: dict[str, str] = {}
    for one, answer in ask_all(tuple(members.values()), client.check_events_at).items():
        if isinstance(answer, ApiError):
            unanswered[one.name] = answer.message
        else:
            checks[one.name] = answer
    findings = own_findings(checks)
    for dispute in find_disputes(checks):
        reason = f"its events up to here are not those of {dispute.other}"
        differs = Finding(dispute.member, dispute.last, "its files", reason)
        findings.append(_settle(client, members, dispute) or differs)
    edges = [_settle(client, members, one) for one in find_edges(checks)]
    findings += [found for found in edges if found is not None]
    told = {finding.member for finding in findings}
    newest = client.events(limit=NEWEST).events
    findings += [one for one in head_findings(checks, newest) if one.member not in told]
    if earlier is not None:
        findings += _look_for(client, members, checks, earlier)
    good = [check for name, check in checks.items() if name not in {one.member for one in findings}]
    top = max(good, key=lambda check: check.state_count, default=None)
    at = Head(top.state_count, top.state_head) if top and top.state_count else None
    return Verified(checks, unanswered, findings, at, nowhere(checks))


def _absent(client: OperatorClient, found: Verified) -> dict[str, str]:
    """Members that there are, and that could not be asked."""
    asked = {*found.members, *found.unanswered}
    members = [one.member for one in client.view().members if one.member.name not in asked]
    return {
        member.name: f"it is {member.state}"
        if member.state is not MemberState.ALIVE
        else "it cannot be reached from here"
        for member in members
        if member.state is not MemberState.LEFT
    }


def _settle(
    client: OperatorClient, members: Mapping[str, Reached], dispute: Dispute
) -> Finding | None:
    wanted = EventFilter(first=dispute.first)
    limit = min(1000, dispute.last - dispute.first + 1)
    mine = client.events_at(members[dispute.member], wanted, limit).events
    others = client.events_at(members[dispute.other], wanted, limit).events
    return first_difference(dispute, mine, others)


def _look_for(
    client: OperatorClient,
    members: Mapping[str, Reached],
    checks: Mapping[str, EventCheck],
    earlier: Head,
) -> list[Finding]:
    """Members that have an event of an earlier head's number, and another digest."""
    found: list[Finding] = []
    asked = [name for name, check in checks.items() if check.first <= earlier.number <= check.last]
    if not asked:
        raise ConfigError(
            f"--head {earlier.number}: no member keeps that event any more, or yet",
            hint="events verify shows which ones they keep",
        )
    for name in asked:
        events = client.events_at(members[name], EventFilter(first=earlier.number), 1).events
        at = next((one for one in events if one.number == earlier.number), None)
        if at is not None and event_digest(at) != earlier.digest:
            reason = "this event, or one before it, is not what it was when the head was noted"
            found.append(Finding(name, earlier.number, "its files", reason))
    return found


def _show(found: Verified) -> None:
    console = Console()

    def say(text: str, style: str = "") -> None:
        console.print(plain(text, style), soft_wrap=True)

    bad = {finding.member for finding in found.findings}
    for name, check in found.members.items():
        kept = f"events {check.first} to {check.last}" if check.last else "no events"
        gaps = "".join(f", without {first} to {last}" for first, last in check.missing)
        files = f"{check.set_aside} file{'s' * (check.set_aside != 1)}"
        aside = f", {files} of another chain set aside" if check.set_aside else ""
        style = "red" if name in bad else "green"
        say(f"{name}: {kept}{gaps}{aside}: {'CHANGED' if name in bad else 'as it was'}", style)
    for name, reason in found.unanswered.items():
        say(f"{name}: not asked: {reason}", "yellow")
    for finding in found.findings:
        at = f"event {finding.number}" if finding.number else "an event"
        say(f"{finding.member}: {at} differs, in {finding.place}: {finding.reason}", "bold red")
    if found.nowhere:
        say(f"no member that answered has {ranges(found.nowhere)}", "yellow")
    if found.head is not None:
        say(f"head {found.head}")
    say(_verdict(found))


def _verdict(found: Verified) -> str:
    bad = len({finding.member for finding in found.findings})
    if bad:
        return (
            f"the past was changed on {_count(bad)}; the other members' records say what happened"
        )
    return f"the past is as it was on {_count(len(found.members))}"


def _count(members: int) -> str:
    return f"{members} member{'s' * (members != 1)}"

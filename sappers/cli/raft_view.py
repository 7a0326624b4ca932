"""How consensus looks: reports in, rich renderables out. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sappers.api.raft_wire import RaftReport
from sappers.cli.status_view import plain
from sappers.errors import ConfigError
from sappers.model.observation import RaftRole


class RaftSummary(msgspec.Struct, frozen=True):
    """What the members that answer say together.

    Attributes:
        leader_id: The leader of the highest term that says so itself; None without one.
        answering: Voters that answer and use their vote, sorted.
        has_quorum: A leader is there, and a majority of its electorate answers.
    """

    cluster_id: str
    leader_id: str | None
    term: int
    commit_index: int
    electorate: tuple[str, ...]
    answering: tuple[str, ...]
    has_quorum: bool
    names: dict[str, str]


def summary_of(reports: Sequence[RaftReport]) -> RaftSummary:
    """One picture of all the reports.

    Raises:
        ConfigError: There is none.
    """
    if not reports:
        raise ConfigError("no member says how its log is", hint="sappers-deploy status")
    leading = [one for one in reports if one.status.role is RaftRole.LEADER]
    best = max(leading or reports, key=lambda one: (one.status.term, one.status.applied_index))
    electorate = best.status.electorate
    voting = sorted(
        one.member_id for one in reports if one.votes_here and one.member_id in electorate
    )
    return RaftSummary(
        cluster_id=best.cluster_id,
        leader_id=best.member_id if leading else None,
        term=best.status.term,
        commit_index=best.status.commit_index,
        electorate=electorate,
        answering=tuple(voting),
        has_quorum=bool(leading) and 2 * len(voting) > len(electorate),
        names={one.member_id: one.name for one in reports},
    )


def newest_voter(reports: Sequence[RaftReport], named: str | None) -> RaftReport:
    """The voter with the newest log, or the one that is named, by name or id.

    Raises:
        ConfigError: None votes, or the one named does not.
    """
    voters = [
        one
        for one in reports
        if one.votes_here and (named is None or named in (one.name, one.member_id))
    ]
    if not voters:
        what = "no voter answers" if named is None else f"{named} is no voter that answers"
        raise ConfigError(what, hint="sappers-deploy raft peers lists who answers")
    return max(voters, key=_log_end)


def _log_end(report: RaftReport) -> tuple[int, int]:
    """How new a voter's log is."""
    return report.status.last_term, report.status.last_index


def heirs_of(leader_id: str, reports: Sequence[RaftReport], cordoned: Collection[str]) -> list[str]:
    """Voters that answer and are well, by id: whom to hand leadership to, the best first."""
    heirs = [one for one in reports if one.votes_here and not one.trouble]
    heirs.sort(key=lambda one: (one.member_id in cordoned, -one.status.last_index, one.member_id))
    return [one.member_id for one in heirs if one.member_id != leader_id]


def given_up(chosen: RaftReport, reports: Sequence[RaftReport]) -> list[str]:
    """What others that answer have and the voter that goes on alone has not, in words."""
    status = chosen.status
    said = [
        f"{one.name}'s log reaches entry {one.status.last_index} of term {one.status.last_term}"
        for one in reports
        if one.votes_here and _log_end(one) > _log_end(chosen)
    ]
    return said + [
        f"{one.name} follows, and has applied entry {one.status.applied_index}"
        for one in reports
        if not one.votes_here and one.status.applied_index > status.last_index
    ]


def render_status(found: RaftSummary) -> RenderableType:
    """What `raft status` shows."""
    table = Table.grid(padding=(0, 2))
    leader = found.names.get(found.leader_id or "", found.leader_id) or "nobody"
    answers = f"{len(found.answering)} of {len(found.electorate)} voters answer"
    style = "green" if found.has_quorum else "bold red"
    table.add_row("leader", plain(leader, "" if found.leader_id else "bold red"))
    table.add_row("quorum", plain(answers if found.has_quorum else f"lost: {answers}", style))
    table.add_row("term", str(found.term))
    table.add_row("commit", str(found.commit_index))
    names = ", ".join(found.names.get(voter, voter) for voter in found.electorate)
    table.add_row("voters", plain(names))
    return table


def render_peers(reports: Sequence[RaftReport]) -> RenderableType:
    """What `raft peers` shows: one line a member."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("MEMBER", "ROLE", "TERM", "LOG", "APPLIED", "SNAPSHOT", "HEARD"):
        words = title in ("MEMBER", "ROLE")
        table.add_column(title, justify="left" if words else "right", no_wrap=title != "MEMBER")
    unheard = {
        voter: seconds
        for one in reports
        if one.status.role is RaftRole.LEADER
        for voter, seconds in one.status.unheard.items()
    }
    for one in reports:
        status = one.status
        role = str(status.role) if one.votes_here else "down" if status.down else "follows"
        silent = unheard.get(one.member_id)
        table.add_row(
            plain(one.name),
            plain(role, "bold" if status.role is RaftRole.LEADER else ""),
            str(status.term),
            str(status.last_index) if one.votes_here else "-",
            str(status.applied_index),
            str(status.snapshot_index) if status.snapshot_index else "-",
            Text(f"{silent} s ago", "red") if silent else Text("-" if not unheard else "now"),
        )
    trouble = [plain(f"{one.name}: {one.trouble}", "red") for one in reports if one.trouble]
    return Group(table, *trouble)

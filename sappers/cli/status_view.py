"""How a cluster looks: view in, rich renderables out. No I/O.

Whatever came from outside (names, reasons of guests) goes through `plain`: it is shown, never
interpreted, neither as rich's markup nor as the terminal's control codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sappers.cli.harmless import CONTROL_CODES
from sappers.model.alert import Alert
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cordon import Cordon
from sappers.model.member import MemberState
from sappers.model.repair import Repair
from sappers.model.view import ClusterView, MemberView
from sappers.model.workload import Workload

ALERTS_SHOWN = 8
OLD_SECONDS = 5.0

_MEMBER_STYLE = {
    MemberState.ALIVE: "green",
    MemberState.SUSPECT: "yellow",
    MemberState.DEAD: "bold red",
    MemberState.LEFT: "dim",
}
_GUEST_STYLE = {
    AllocationStatus.PENDING: "yellow",
    AllocationStatus.STARTING: "yellow",
    AllocationStatus.HEALTHY: "green",
    AllocationStatus.UNHEALTHY: "red",
    AllocationStatus.FAILED: "bold red",
    AllocationStatus.LOST: "red",
    AllocationStatus.STOPPED: "dim",
}
_HUB_STYLE = {"running": "green", "down": "bold red"}
_CONSUL_STYLE = {"ok": "green", "down": "red"}


def plain(text: object, style: str = "") -> Text:
    """Text from outside, harmless to the terminal."""
    return Text(str(text).translate(CONTROL_CODES), style=style)


def render_status(view: ClusterView) -> RenderableType:
    """Everything that `status` shows."""
    parts: list[RenderableType] = [
        _headline(view),
        _facts(view),
        Text(),
        _members_table(view),
    ]
    guests = shown_guests(view)
    if view.workloads or guests:
        parts += [Text(), guests_table(view, guests)]
    if view.alerts:
        parts += [Text(), _alerts(view.alerts)]
    parts += [_repair(view, one) for one in view.repairs if not one.status.is_terminal]
    parts += [Text(), _attention(view.attention)]
    return Group(*parts)


def _headline(view: ClusterView) -> Text:
    names = _names(view)
    line = Text.assemble("cluster ", plain(view.cluster, "bold"), " · ")
    if view.leader_id is None:
        line.append("no leader", "bold red")
    else:
        line.append_text(Text.assemble("leader ", plain(names.get(view.leader_id, view.leader_id))))
    line.append(f" · term {view.term} · ")
    votes = f"{view.voters_alive} of {len(view.electorate)} voters alive"
    if not view.electorate:
        line.append("not founded yet", "yellow")
    elif view.has_quorum:
        line.append(f"quorum: {votes}", "green")
    else:
        line.append(f"NO QUORUM: {votes}", "bold red")
    return line


def _facts(view: ClusterView) -> Group:
    running = [one.member.name for one in view.members if one.hub == "running"]
    hub = Text("hub: ")
    if not view.hub_servers:
        hub.append("not running yet", "yellow")
    else:
        whole = len(running) >= len(view.hub_servers)
        hub.append(
            f"{len(running)} of {len(view.hub_servers)} servers run", "green" if whole else "red"
        )
        hub.append_text(plain(f" ({', '.join(running)})" if running else ""))
    lines = [hub]
    for kind, reason, members in _accelerators(view.members):
        lines.append(plain(f"accelerator: {kind} on {members}: {reason}"))
    versions = sorted({one.member.version for one in view.members if one.member.lives})
    answer = f"commit index {view.commit_index}, {as_answered(view)}"
    lines.append(plain(f"agents: version {', '.join(versions)} · {answer}"))
    return Group(*lines)


def as_answered(view: ClusterView) -> str:
    """Who says so, and how old it is where it may be old."""
    said = f"as {_names(view).get(view.answered_by, view.answered_by)} answers"
    if not is_old(view):
        return said
    age = view.age_seconds
    return f"{said}, {'of unknown age' if age is None else f'{age:.0f} s old'}"


def is_old(view: ClusterView) -> bool:
    """Whether it may be other than it is now. Agents of an earlier version say no age."""
    if view.age_seconds is None:
        return not view.has_quorum
    return view.age_seconds >= OLD_SECONDS


def _accelerators(members: Iterable[MemberView]) -> list[tuple[str, str, str]]:
    """(kind, reason, on which members), members that are here only."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in members:
        if one.member.lives:
            accelerator = one.member.accelerator
            found.setdefault((accelerator.kind, accelerator.reason), []).append(one.member.name)
    return [(kind, reason, ", ".join(names)) for (kind, reason), names in sorted(found.items())]


def _members_table(view: ClusterView) -> Table:
    table = _table("MEMBER", "STATE", "ROLE", "ADDRESS")
    table.add_column("CPU", justify="right")
    table.add_column("MEMORY", justify="right")
    mixed = len({one.member.version for one in view.members if one.member.lives}) > 1
    if mixed:
        table.add_column("VERSION", overflow="fold")
    table.add_column("GUESTS", justify="right")
    table.add_column("HUB")
    consul = any(one.consul != "-" for one in view.members)
    if consul:
        table.add_column("CONSUL")
    table.add_column("INDEX", justify="right")
    for one in view.members:
        member = one.member
        memory = f"{_gib(one.memory_used_mib)}/{_gib(member.resources.memory_mib)} GiB"
        table.add_row(
            plain(member.name, "bold" if one.role == "leader" else ""),
            _state(one, view.cordons.get(one.member.id)),
            _role(view, one),
            plain(member.address),
            str(member.resources.cpus),
            memory,
            *([plain(member.version)] if mixed else []),
            str(one.guests),
            Text(one.hub, _HUB_STYLE.get(one.hub, "")),
            *([Text(one.consul, _CONSUL_STYLE.get(one.consul, ""))] if consul else []),
            _index(view, one),
        )
    return table


def _state(one: MemberView, cordon: Cordon | None) -> Text:
    state = one.member.state
    text = Text(state.value, _MEMBER_STYLE[state])
    if cordon is not None:
        text.append(f", {cordon.word}", "yellow")
    others = [source for source in one.suspected_by if source != "gossip"]
    if others:
        text.append(f", suspected by {', '.join(others)}", "yellow")
    return text


def _role(view: ClusterView, one: MemberView) -> Text:
    if one.role == "none":
        return Text("voter", "red") if one.member.id in view.electorate else Text("-")
    return plain(one.role, "bold" if one.role == "leader" else "")


def _index(view: ClusterView, one: MemberView) -> Text:
    if one.applied_index is None:
        return Text("?", "red" if one.member.lives else "dim")
    behind = one.applied_index < view.commit_index
    return Text(str(one.applied_index), "yellow" if behind else "")


def shown_guests(view: ClusterView, *, all_of_them: bool = False) -> tuple[Allocation, ...]:
    """Guests that run or should, and of each workload that lacks copies the newest failure."""
    if all_of_them:
        return view.allocations
    failures = {
        workload.name: newest_failure(view.allocations, workload)
        for workload in view.workloads
        if _lacking(view, workload) > 0
    }
    return tuple(
        one
        for one in view.allocations
        if not one.status.is_terminal or one == failures.get(one.workload)
    )


def newest_failure(allocations: Iterable[Allocation], workload: Workload) -> Allocation | None:
    """The copy of this revision that failed last, if any did."""
    failed = [
        one
        for one in allocations
        if one.workload == workload.name
        and one.revision == workload.revision
        and one.status is AllocationStatus.FAILED
    ]
    return max(failed, key=lambda one: (one.changed_at, one.id), default=None)


def guests_table(view: ClusterView, guests: Iterable[Allocation]) -> RenderableType:
    """Guests with health and why; workloads that lack copies have a row that says so."""
    names = _names(view)
    members = {one.member.id: one.member for one in view.members}
    rows: list[_GuestRow] = []
    for one in guests:
        status, style = _guest_status(one)
        why = one.reason
        if one.restarts and not one.status.is_terminal:
            why += f" ({one.restarts} restarts)"
        home = members.get(one.member_id)
        if not one.status.is_terminal and home is not None and not home.lives:
            # What was committed last of a guest on a host that is gone says nothing of now.
            status, style = "unknown", "yellow"
            why = f"{home.name} is {home.state}; was {one.status}"
        address = home.address if home is not None else "?"
        port = f"{address}:{one.public_port}" if one.public_port else "-"
        cells = (
            plain(one.id),
            plain(names.get(one.member_id, one.member_id)),
            Text(status, style),
            Text(f"{one.memory_mib} MiB"),
            plain(port),
        )
        rows.append((cells, plain(why)))
    for workload in view.workloads:
        if (missing := _lacking(view, workload)) > 0:
            cells = (plain(workload.name), Text("-"), Text("waiting", "yellow"), Text(), Text("-"))
            rows.append((cells, Text(f"{missing} of {workload.count} copies not placed")))
    return _GuestsTable(rows)


def _guest_status(one: Allocation) -> tuple[str, str]:
    """The word for it, and its style."""
    stopping = not one.wanted and not one.status.is_terminal
    return "stopping" if stopping else one.status.value, _GUEST_STYLE[one.status]


_GuestRow = tuple[Sequence[Text], Text]


class _GuestsTable:
    """Rows whose reason stands beside them if it fits there, else below, over the whole width."""

    _HEADER = tuple(
        Text(word, "dim") for word in ("GUEST", "MEMBER", "STATUS", "MEMORY", "ADDRESS")
    )

    def __init__(self, rows: Sequence[_GuestRow]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [self._HEADER, *(cells for cells, _ in self._rows)]
        widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]
        room = options.max_width - sum(widths) - len(widths)
        whole = [reason.cell_len <= max(room, len("WHY")) for _, reason in self._rows]
        yield self._line(widths, self._HEADER, Text("WHY" if any(whole) else "", "dim"))
        for (cells, reason), fits in zip(self._rows, whole, strict=True):
            yield self._line(widths, cells, reason if fits else Text())
            if not fits:
                yield Padding(reason, (0, 0, 0, 2))

    @staticmethod
    def _line(widths: Sequence[int], cells: Sequence[Text], reason: Text) -> Table:
        """Rich narrows the columns, and folds what is in them, where there is no room for all."""
        grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        for width in widths:
            grid.add_column(overflow="fold", min_width=1, max_width=width)
        grid.add_column(overflow="fold")
        padded = [
            Text.assemble(c, " " * (w - c.cell_len)) for c, w in zip(cells, widths, strict=True)
        ]
        grid.add_row(*padded, reason)
        return grid


def _lacking(view: ClusterView, workload: Workload) -> int:
    """How many copies neither run nor are about to."""
    return workload.count - sum(
        one.workload == workload.name and one.wanted and not one.status.is_terminal
        for one in view.allocations
    )


def _alerts(alerts: Sequence[Alert]) -> RenderableType:
    """The newest first; of many the rest as a number."""
    table = _table("ALERT", "ABOUT", "WHAT")
    for one in list(reversed(alerts))[:ALERTS_SHOWN]:
        table.add_row(plain(one.kind, "yellow"), plain(one.subject), plain(one.text))
    if (more := len(alerts) - ALERTS_SHOWN) > 0:
        table.add_row(Text(f"{more} more"), Text(), Text("see sappers-deploy events"))
    return table


def _repair(view: ClusterView, repair: Repair) -> Text:
    """One line of a repair that goes on."""
    name = _names(view).get(repair.member_id, repair.member_id)
    line = Text.assemble("repair of ", plain(name, "bold"), ": ", Text(repair.status, "yellow"))
    if repair.attempt:
        line.append(f", attempt {repair.attempt}")
    if repair.allocation_id:
        line.append_text(plain(f" by {repair.allocation_id}"))
    line.append_text(plain(f"; {repair.trouble or repair.reason}"))
    if repair.refused:
        line.append(f"; its credential was refused {repair.refused} times", "red")
    return line


def _attention(sentences: Sequence[str]) -> RenderableType:
    if not sentences:
        return Text("nothing needs a person", "green")
    grid = Table.grid(padding=(0, 1))
    for one in sentences:
        grid.add_row(Text("!", "bold red"), plain(one, "red"))
    return grid


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for column in table.columns:
        column.overflow = "fold"
    return table


def _names(view: ClusterView) -> dict[str, str]:
    return {one.member.id: one.member.name for one in view.members}


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f}"

"""Where the time of a run went: a table of tasks and hosts, and bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sappers.cli.harmless import harmless
from sappers.provisioner.playbook.run.engine import RunReport

TASKS_SHOWN_MAX = 20
HOSTS_IN_TABLE_MAX = 4
BAR_WIDTH = 20
_PARTS = (("connecting", "▒", "cyan"), ("tasks", "█", "green"), ("waiting", "░", "dim"))


def render_profile(
    tasks: Mapping[tuple[int, str], Mapping[str, float]],
    report: RunReport,
    hide: Callable[[str], str] = str,
) -> RenderableType:
    """The tasks that took longest, in the order in which they were run; then the hosts.

    Args:
        hide: Covers the secrets in a name.
    """

    def shown_name(name: str) -> str:
        return harmless(hide(name))

    longest = sorted(tasks, key=lambda one: -max(tasks[one].values(), default=0.0))
    shown = sorted(longest[:TASKS_SHOWN_MAX])
    table = _tasks_table({one: tasks[one] for one in shown}, report, shown_name)
    parts: list[RenderableType] = [table]
    left_out = len(tasks) - len(shown)
    if left_out:
        rest = sum(max(tasks[one].values(), default=0.0) for one in longest[TASKS_SHOWN_MAX:])
        parts.append(Text(f"and {left_out} shorter tasks, {rest:.2f} s together", "dim"))
    return Group(Text(), *parts, Text(), _hosts_table(tasks, report, shown_name))


def _tasks_table(
    tasks: Mapping[tuple[int, str], Mapping[str, float]],
    report: RunReport,
    shown_name: Callable[[str], str],
) -> RenderableType:
    hosts = list(report.counts)
    in_columns = len(hosts) <= HOSTS_IN_TABLE_MAX
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("task", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in hosts if in_columns else ("slowest host",):
        table.add_column(Text(shown_name(name)), justify="right", no_wrap=True, max_width=12)
    if not in_columns:
        table.add_column("seconds", justify="right")
    table.add_column("", width=BAR_WIDTH)
    most = max((max(one.values(), default=0.0) for one in tasks.values()), default=0.0)
    for (_, name), seconds in tasks.items():
        slowest = max(seconds, key=lambda host: seconds[host], default="")
        took = seconds.get(slowest, 0.0)
        cells: list[RenderableType] = [_seconds(seconds.get(host)) for host in hosts]
        if not in_columns:
            cells = [Text(shown_name(slowest)), _seconds(took)]
        bar = Bar(most or 1.0, 0, took, width=BAR_WIDTH, color="green")
        table.add_row(Text(shown_name(name)), *cells, bar)
    return table


def _hosts_table(
    tasks: Mapping[tuple[int, str], Mapping[str, float]],
    report: RunReport,
    shown_name: Callable[[str], str],
) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("host", ratio=1, no_wrap=True, overflow="ellipsis")
    for name, sign, style in _PARTS:
        table.add_column(Text.assemble((sign, style), f" {name}"), justify="right", no_wrap=True)
    table.add_column("", width=BAR_WIDTH)
    for host in report.counts:
        connecting = report.connect_seconds.get(host, 0.0)
        working = sum(one.get(host, 0.0) for one in tasks.values())
        waiting = max(0.0, report.seconds - connecting - working)
        numbers = (connecting, working, waiting)
        bar = _stacked(numbers, report.seconds)
        table.add_row(Text(shown_name(host)), *map(_seconds, numbers), bar)
    table.add_row("all", "", "", Text(f"{report.seconds:.2f}", "bold"), "")
    return table


def _stacked(numbers: tuple[float, ...], whole: float) -> Text:
    """Parts of a whole as one bar."""
    bar = Text()
    reached = 0.0
    for number, (_, sign, style) in zip(numbers, _PARTS, strict=True):
        before = round(reached / whole * BAR_WIDTH) if whole else 0
        reached += number
        after = round(reached / whole * BAR_WIDTH) if whole else 0
        bar.append(sign * max(0, min(after, BAR_WIDTH) - before), style)
    return bar


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

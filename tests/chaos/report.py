"""What a run shows in the end."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.chaos.run import Outcome


def show(console: Console, outcome: Outcome) -> None:
    """The run as a table, and what was wrong with it."""
    table = Table(box=None)
    for name in ("fault", "times", "longest until whole"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for fault in sorted({name for name, *_ in outcome.struck}):
        until_whole = [mended for name, _, _, mended in outcome.struck if name == fault]
        table.add_row(fault, str(len(until_whole)), f"{max(until_whole):.1f} s")
    console.print(table, highlight=False)
    record = outcome.record
    console.print(
        f"writes: {len(record.acknowledged)} acknowledged, {record.refused} refused, "
        f"{record.unknown} unknown; reads: {record.reads}; longest time without an acknowledged "
        f"write: {outcome.longest_silence:.1f} s; the exclusive guest moved {outcome.moves} times",
        highlight=False,
    )
    for problem in outcome.wrong:
        console.print(problem, style="bold red", highlight=False)
    if not outcome.wrong:
        console.print(
            "Nothing acknowledged was lost, no linearizable read was stale, and the exclusive "
            "guest never ran twice.",
            style="green",
        )

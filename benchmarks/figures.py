"""What was measured, and how it is shown: on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        value: With its unit.
        aim: What was aimed at, or empty.
        met: Whether it was; None without an aim.
        number: The same as `value`, for machines and for bars.
        unit: Of `number`.
    """

    what: str
    value: str
    aim: str = ""
    met: bool | None = None
    number: float | None = None
    unit: str = ""

    @property
    def verdict(self) -> str:
        """The aim and whether it was met, for people."""
        return "" if self.met is None else f"{self.aim}: {'yes' if self.met else 'NO'}"


@dataclass(frozen=True)
class Section:
    """One subject's figures, with what one must know to read them.

    Attributes:
        bars: Figures of one unit that are worth seeing beside each other.
    """

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=tuple)
    bars: Sequence[Row] = field(default_factory=tuple)


def figure(what: str, value: float, unit: str, digits: int = 1) -> Row:
    """A figure without an aim."""
    return Row(what, f"{value:.{digits}f} {unit}", number=value, unit=unit)


def at_most(what: str, value: float, limit: float, unit: str, digits: int = 1) -> Row:
    """A figure that should not exceed a limit."""
    aim, met = f"≤ {limit:g} {unit}", value <= limit
    return Row(what, f"{value:.{digits}f} {unit}", aim, met, value, unit)


def at_least(what: str, value: float, limit: float, unit: str, digits: int = 1) -> Row:
    """A figure that should reach a limit."""
    aim, met = f"≥ {limit:g} {unit}", value >= limit
    return Row(what, f"{value:.{digits}f} {unit}", aim, met, value, unit)


def spread(values: Iterable[float], unit: str = "s", digits: int = 2) -> str:
    """Smallest, middle and largest of several runs."""
    kept = sorted(values)
    low, middle, high = (f"{value:.{digits}f}" for value in (kept[0], median(kept), kept[-1]))
    return f"{low} / {middle} / {high} {unit}"


def show(console: Console, section: Section) -> None:
    """A table on the terminal."""
    table = Table(title=section.title, title_justify="left", title_style="bold", box=None)
    table.add_column("what", overflow="fold")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("aim", overflow="fold")
    for row in section.rows:
        style = "" if row.met is None else "green" if row.met else "bold red"
        table.add_row(row.what, row.value, Text(row.verdict, style))
    console.print()
    console.print(table, highlight=False)
    for line in bars(section.bars):
        console.print(f"  {line}", highlight=False)
    for note in section.notes:
        console.print(f"  {note}", style="dim", highlight=False)


def markdown(section: Section) -> str:
    """The same, for a document."""
    lines = [f"## {section.title}", "", "| what | measured | aim |", "|---|---:|---|"]
    lines += [f"| {row.what} | {row.value} | {row.verdict} |" for row in section.rows]
    if section.bars:
        lines += ["", "```text", *bars(section.bars), "```"]
    if section.notes:
        lines += ["", *(f"{note}  " for note in section.notes[:-1]), section.notes[-1]]
    return "\n".join(lines) + "\n"


def bars(rows: Sequence[Row], width: int = 40) -> list[str]:
    """Figures as bars of text, the longest `width` characters long."""
    shown = [(row, row.number) for row in rows if row.number is not None]
    longest = max((number for _, number in shown), default=0.0) or 1.0
    room = max((len(row.what) for row, _ in shown), default=0)
    return [
        f"{row.what:<{room}} {'█' * max(1, round(number / longest * width))} {row.value}"
        for row, number in shown
    ]


def any_missed(sections: Iterable[Section]) -> bool:
    """Whether an aim was not met."""
    return any(row.met is False for section in sections for row in section.rows)


def write_data(path: Path, facts: Sequence[str], sections: Iterable[Section]) -> None:
    """Write the same as JSON, for machines."""
    data = {
        "facts": list(facts),
        "sections": [
            {"title": one.title, "rows": [asdict(row) for row in one.rows]} for one in sections
        ],
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n")

"""How a run over hosts is shown: a live table on a terminal, lines elsewhere, then the recap."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol, Self

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sappers.cli.harmless import harmless
from sappers.errors import SappersError
from sappers.provisioner.bootstrap.recap import Outcome, PhaseResult, Recap

_MARKS = {
    Outcome.OK: ("✓", "green"),
    Outcome.CHANGED: ("●", "yellow"),
    Outcome.SKIPPED: ("–", "cyan"),
    Outcome.FAILED: ("✗", "bold red"),
    Outcome.UNREACHABLE: ("⚡", "bold red"),
}
_REFRESHES_PER_SECOND = 8


class Display(Protocol):
    """A watcher that is put up for the time of a run."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def started(self, host: str, title: str) -> None:
        """A phase begins on a host."""

    def ended(self, host: str, result: PhaseResult) -> None:
        """A phase ended on a host."""

    def note(self, host: str, text: str) -> None:
        """What is going on; host is empty when it is about the whole run, text when it is over."""


def open_display(
    console: Console, hosts: Sequence[str], titles: Sequence[str], *, verbose: bool
) -> Display:
    """The live table on a terminal; lines where output is kept or every detail is wanted."""
    if console.is_terminal and not verbose:
        return LiveTable(console, hosts, titles)
    return Lines(console, verbose=verbose)


class Lines:
    """One line for each phase that ended; with `verbose` for what changed and went on, too."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        self._console = console
        self._verbose = verbose

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, host: str, title: str) -> None:
        """Nothing: a line follows when it has ended."""

    def ended(self, host: str, result: PhaseResult) -> None:
        """Print how it ended, and with `verbose` what it changed."""
        _, style = _MARKS[result.outcome]
        line = Text.assemble(
            f"{host} : {result.title:<10} ",
            (result.outcome.value, style),
            f" ({result.seconds:.1f} s)",
        )
        self._print(line)
        if self._verbose:
            for change in result.changes:
                self._print(Text(harmless(f"{host} :   {change}"), style="dim"))

    def note(self, host: str, text: str) -> None:
        """Print what concerns the whole run; the rest with `verbose` only."""
        if text and (self._verbose or not host):
            line = harmless(f"{host} : {text}" if host else text)
            self._print(Text(line, style="dim"))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True, highlight=False)


class LiveTable:
    """Hosts down, phases across, and below what is going on."""

    def __init__(self, console: Console, hosts: Sequence[str], titles: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._titles = titles
        self._cells: dict[str, dict[str, RenderableType]] = {host: {} for host in hosts}
        self._notes: dict[str, str] = {}
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._notes.clear()
        self._live.stop()

    def started(self, host: str, title: str) -> None:
        """Turn a wheel in the phase's cell."""
        with self._lock:
            self._cells[host][title] = Spinner("dots", style="cyan")
            self._notes.pop(host, None)

    def ended(self, host: str, result: PhaseResult) -> None:
        """Put the mark of how it ended into the cell."""
        mark, style = _MARKS[result.outcome]
        with self._lock:
            self._cells[host][result.title] = Text(mark, style=style)
            self._notes.pop(host, None)

    def note(self, host: str, text: str) -> None:
        """Show it below the table until the host goes on."""
        with self._lock:
            self._notes[host] = harmless(text)

    def _render(self) -> RenderableType:
        table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("host", no_wrap=True, max_width=20)
        for title in self._titles:
            table.add_column(title, justify="center", no_wrap=True)
        with self._lock:
            for host, cells in self._cells.items():
                row = (cells.get(title, Text("·", style="dim")) for title in self._titles)
                table.add_row(host, *row)
            notes = [
                Text(f"{host}: {text}" if host else text, style="dim", no_wrap=True,
                     overflow="ellipsis")
                for host, text in self._notes.items()
            ]  # fmt: skip
        return Group(table, *notes)


def show_problems(console: Console, problems: Sequence[SappersError]) -> None:
    """Every problem of every host in one panel, each with what to do."""
    if not problems:
        return
    text = Text()
    for index, problem in enumerate(problems):
        text.append("\n" if index else "")
        text.append(harmless(problem.message))
        if problem.hint:
            text.append("\n  → ", style="bold").append(harmless(problem.hint))
    title = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    console.print(Panel(text, title=title, border_style="red"))


def show_recap(console: Console, recap: Recap) -> None:
    """Ansible's lines, one a host."""
    counts = recap.counts()
    width = max((len(name) for name in counts), default=0)
    console.print(Text("RECAP", style="bold"))
    for name, count in counts.items():
        bad = count.failed or count.unreachable
        style = "red" if bad else "yellow" if count.changed else "green"
        numbers = " ".join(
            f"{field}={getattr(count, field)}"
            for field in ("ok", "changed", "unreachable", "failed", "skipped")
        )
        console.print(
            Text.assemble((f"{name:<{width}}", style), f" : {numbers}"),
            soft_wrap=True,
            highlight=False,
        )


def recap_as_data(recap: Recap) -> dict[str, Any]:
    """The recap for `-o json`."""
    return {
        "changed": recap.changed,
        "seconds": round(recap.seconds, 3),
        "hosts": {
            name: msgspec.to_builtins(counts)
            | {"phases": [_result_as_data(result) for result in recap.hosts[name]]}
            for name, counts in recap.counts().items()
        },
        "problems": [error_as_data(problem) for problem in recap.problems],
    }


def error_as_data(error: SappersError) -> dict[str, Any]:
    """An error for `-o json`."""
    return {
        "cause": type(error).__name__,
        "host": getattr(error, "host", None),
        "message": error.message,
        "hint": error.hint,
    }


def _result_as_data(result: PhaseResult) -> dict[str, Any]:
    return {
        "title": result.title,
        "outcome": result.outcome.value,
        "seconds": round(result.seconds, 3),
        "changes": list(result.changes),
        "errors": [error_as_data(error) for error in result.errors],
    }

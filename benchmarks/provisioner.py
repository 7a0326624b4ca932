"""`python -m benchmarks.provisioner`: the same play on the same hosts, by Ansible, pyinfra, and us.

After every run the hosts' files are compared: who is quick because it did less is found out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks import bar_chart
from benchmarks.document import add_outputs, write_outputs
from benchmarks.figures import Row, Section, any_missed, at_most, figure, show
from benchmarks.host_states import HostStates, State, differences
from benchmarks.machine import facts
from benchmarks.measured_run import MeasuredRun, run_measured
from benchmarks.provisioning_tools import (
    OURS,
    PEERS,
    Tool,
    ensure_peers,
    environment,
    lay_out,
    tools,
)
from benchmarks.rig import Rig
from sappers.errors import LabError

HOSTS = 8
MANY_HOSTS = 32
RUNS = 3
MEMORY_MB_MAX = {HOSTS: 80.0, MANY_HOSTS: 150.0}
LAB_NAME = "bench-provisioner"
INTRO = (
    "One run of `make bench-provisioner`: the same 13 tasks "
    "([Ansible's words](../benchmarks/reference_play/site.yml), "
    "[pyinfra's](../benchmarks/reference_play/deploy.py)) on the same hosts of a lab on one "
    "machine. Written by the run itself; [provisioner.svg](provisioner.svg) draws it."
)
_TIMES = ("first run", "second run")


@dataclass
class Measured:
    """Runs of one tool: those on bare hosts, and those with nothing to do."""

    tool: Tool
    runs: dict[str, list[MeasuredRun]] = field(default_factory=lambda: {one: [] for one in _TIMES})

    def seconds(self, time: str) -> float:
        """The median."""
        return median(run.seconds for run in self.runs[time])

    @property
    def peak_mb(self) -> float:
        """The largest of all runs."""
        return max(run.peak_bytes for runs in self.runs.values() for run in runs) / 1e6


@dataclass(frozen=True)
class Rounds:
    """How often tools run: the quick ones, and those that take long."""

    quick: int
    slow: int

    def of(self, tool: Tool) -> int:
        """How often this one does."""
        return self.slow if tool.slow else self.quick

    def __str__(self) -> str:
        if self.quick == self.slow:
            return f"median of {self.quick}" if self.quick > 1 else "one run"
        return f"median of {self.quick} (Ansible: of {self.slow})"


class Comparison:
    """Runs tools on the hosts of a rig, and sees to it that all leave them the same.

    Raises, wherever it runs one:
        RuntimeError: A tool failed, or left the hosts as another one did not.
    """

    def __init__(self, rig: Rig, folder: Path) -> None:
        names = [host.name for host in rig.lab.status().hosts]
        self._rig = rig
        self._folder = folder
        self._states = HostStates(rig.lab, names)
        self._bare: dict[str, State] = {}
        self._wanted: dict[str, State] = {}
        self.checked = 0

    def measure(self, compared: Sequence[Tool], rounds: Rounds) -> list[Measured]:
        """All tools in turn, several times."""
        found = [Measured(tool) for tool in compared]
        for number in range(rounds.quick):
            for one in found:
                if number >= rounds.of(one.tool):
                    continue
                self._rig.say(f"{one.tool.name}, {self._rig.hosts} hosts, round {number + 1}")
                self._make_bare()
                for time in _TIMES:
                    one.runs[time].append(self._run(one.tool))
                    if one.tool.plays:
                        self._check(f"{one.tool.name}, {time}")
        return found

    def _run(self, tool: Tool) -> MeasuredRun:
        home = {
            "SAPPERS_HOME": str(self._rig.home.data),
            "SAPPERS_CACHE": str(self._rig.home.cache),
        }
        log = self._folder / "log"
        return run_measured(tool.argv(self._rig.hosts), environment(tool, home), self._folder, log)

    def _make_bare(self) -> None:
        self._states.reset()
        found = self._states.look()
        self._bare = self._bare or found
        if wrong := differences(self._bare, found):
            raise RuntimeError("hosts are not as they were at first:\n" + "\n".join(wrong))

    def _check(self, what: str) -> None:
        found = self._states.look()
        self._wanted = self._wanted or found
        if wrong := differences(self._wanted, found):
            raise RuntimeError(
                f"{what}: hosts are not as after the first run:\n" + "\n".join(wrong)
            )
        self.checked = min(len(state) for state in found.values())


def main() -> int:
    """Measure, print, and say by the exit code whether every aim was met."""
    arguments = _arguments()
    console, progress = Console(), Console(stderr=True)
    told = facts("paramiko")
    told[-1] += "".join(f", {name} {version}" for name, version in PEERS.items())
    console.print("\n".join(told), highlight=False)

    def say(text: str) -> None:
        progress.print(text, style="dim", highlight=False)

    sections = _measure(arguments, say)
    for section in sections:
        show(console, section)
    write_outputs(arguments, "bench-provisioner", INTRO, told, sections)
    if arguments.plot:
        charts = [bar_chart.Chart(one.title, one.bars) for one in sections if one.bars]
        arguments.plot.write_text(bar_chart.svg(charts))
    return int(any_missed(sections))


def _measure(arguments: argparse.Namespace, say: Callable[[str], None]) -> list[Section]:
    sections: list[Section] = []
    with Rig.open(say, arguments.lab, arguments.hosts) as rig:
        peers = ensure_peers(rig.home.cache, say)
        folder = rig.home.data / "play"
        lay_out(folder, rig.lab.inventory)
        compared = tools(peers, folder, rig.lab.inventory)
        rounds = Rounds(arguments.rounds, arguments.slow_rounds or arguments.rounds)
        sections += _compare(rig, folder, compared, rounds)
        if arguments.many > rig.hosts:
            chosen = [tool for tool in compared if tool.at_many]
            once = Rounds(1, 1)  # Ansible takes minutes
            sections += _on_many(rig, folder, chosen, once, arguments.many)
    return sections


def _compare(rig: Rig, folder: Path, compared: Sequence[Tool], rounds: Rounds) -> list[Section]:
    comparison = Comparison(rig, folder)
    measured = comparison.measure(compared, rounds)
    return _beside_each_other(measured, rig.hosts, rounds, comparison.checked)


def _on_many(
    rig: Rig, folder: Path, compared: Sequence[Tool], rounds: Rounds, hosts: int
) -> list[Section]:
    """The same on many hosts; or that this machine cannot start so many."""
    for last in (False, True):
        try:
            rig.grow(hosts)
            break
        except LabError as error:  # those that boot go on booting
            rig.say(error.message)
            if last:
                title = f"The reference play on {hosts} hosts"
                return [Section(title, [Row("not measured", "they did not all boot here")])]
    lay_out(folder, rig.lab.inventory)
    return _compare(rig, folder, compared, rounds)


def _beside_each_other(
    measured: Sequence[Measured], hosts: int, rounds: Rounds, checked: int
) -> list[Section]:
    ours = measured[-1]
    notes = (
        f"From exec to exit of the command, {rounds}; hosts and control machine share "
        "the cores. A second run finds all done, and the command runs again.",
        f"After each run kind, mode, owner and content of all files in /etc, /opt and /usr/local "
        f"({checked} a host), and the unit's state, were the same on all hosts, whoever had run.",
        "Memory: of the command's own process; Ansible has others beside it.",
    )
    sections = []
    for time in _TIMES:
        rows = [_row(one, ours, time) for one in measured]
        title = f"The reference play on {hosts} hosts, {time}"
        sections.append(Section(title, rows, (), [_bar(one, time) for one in measured]))
    memory = [_memory(one, hosts) for one in measured if one.tool.plays]
    return [*sections[:-1], _with(sections[-1], memory, notes)]


def _with(section: Section, rows: Sequence[Row], notes: Sequence[str]) -> Section:
    return Section(section.title, [*section.rows, *rows], notes, section.bars)


def _row(one: Measured, ours: Measured, time: str) -> Row:
    """A tool's seconds, and how many times ours these are."""
    seconds, aim = one.seconds(time), one.tool.speed_aim
    ratio = seconds / ours.seconds(time)
    beside = "" if one is ours else f" ({ratio:.1f} times ours)"
    value = f"{seconds:.2f} s{beside}"
    if not aim:
        return Row(one.tool.name, value, number=seconds, unit="s")
    return Row(one.tool.name, value, f"≥ {aim:g} times", ratio >= aim, seconds, "s")


def _memory(one: Measured, hosts: int) -> Row:
    name = f"peak memory: {one.tool.name}"
    if one.tool.name == OURS and hosts in MEMORY_MB_MAX:
        return at_most(name, one.peak_mb, MEMORY_MB_MAX[hosts], "MB", 0)
    return figure(name, one.peak_mb, "MB", 0)


def _bar(one: Measured, time: str) -> Row:
    return figure(one.tool.name, one.seconds(time), "s", 2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.provisioner", description=__doc__)
    parser.add_argument("--hosts", type=int, default=HOSTS, help="how many all tools work on")
    parser.add_argument("--many", type=int, default=MANY_HOSTS, help="how many they work on then")
    parser.add_argument("--rounds", type=int, default=RUNS, help="how often each tool runs")
    parser.add_argument("--slow-rounds", type=int, help="how often Ansible runs, which takes long")
    parser.add_argument("--lab", default=LAB_NAME, help="what to call the lab")
    add_outputs(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures there, as SVG")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

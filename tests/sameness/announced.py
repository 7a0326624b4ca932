"""Whether a run did what `--check --diff` had announced, task by task on each host."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sameness.meant import SKIPPED_AHEAD, why_unknown_ahead
from tests.sameness.runs import Ran
from tests.sameness.stepwise import Events, diffs_of, pairs

# Where a task begins, the host, and how often that was there before: handlers, includes, plays.
Turn = tuple[str, str, int]


@dataclass(frozen=True)
class Told:
    """How a task ended, and what it said of contents."""

    module: str
    outcome: str
    diffs: tuple[Any, ...]


def announced_wrongly(ran: Ran) -> list[str]:
    """What came otherwise than announced, and what was changed by asking; a line each."""
    announced, done = told(ran.announced), told(ran.done)
    lines = [f"--check changed {line}" for line in ran.touched]
    given_up: set[str] = set()
    for turn in dict.fromkeys((*done, *announced)):
        would, did = announced.get(turn), done.get(turn)
        if would == did or (None in (would, did) and turn[1] in given_up):
            continue
        if is_unknown_ahead(turn[0], would):
            if "failed" in {one.outcome for one in (would, did) if one}:
                given_up.add(turn[1])  # of what comes after it nothing is announced, or done
        else:
            lines.append(f"{turn}: announced: {would}, done: {did}")
    return lines


def stepwise_wrongly(events: Events) -> list[str]:
    """The same of a playbook in which each task is announced right before it is done."""
    return [
        f"{place}: announced: {would}, done: {did}"
        for place, would, did in pairs(events)
        if would != did
    ]


def told(events: Events) -> dict[Turn, Told]:
    """How each task ended on each host."""
    found: dict[Turn, Told] = {}
    times: Counter[tuple[str, str]] = Counter()
    module = place = ""
    for event in events:
        if event["event"] == "task":
            module, place = event["module"], event["place"]
        elif event["event"] == "result":
            turn = (place, event["host"])
            found[(*turn, times[turn])] = Told(module, event["outcome"], tuple(diffs_of(event)))
            times[turn] += 1
    return found


def is_unknown_ahead(place: str, would: Told | None) -> bool:
    """Whether a task is none that could be announced; raises as `why_unknown_ahead`."""
    if would is not None and would.module in SKIPPED_AHEAD and would.outcome == "skipped":
        return True
    path, line, _ = place.rsplit(":", 2)
    return why_unknown_ahead(Path(path).read_text().splitlines()[int(line) - 1]) is not None

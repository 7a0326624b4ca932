from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from sappers.cli.backup_file import write_backup
from sappers.cli.deploy import deploy_app
from sappers.cli.event_compare import (
    Dispute,
    find_disputes,
    find_edges,
    first_difference,
    head_findings,
    nowhere,
    own_findings,
)
from sappers.cli.events import parse_since, render_event, render_events
from sappers.cli.events_verify import parse_head
from sappers.cli.explain import headlines, render_story, story_lines
from sappers.decisions.backup import portable
from sappers.errors import ConfigError
from sappers.model.backup import BACKUP_FORMAT, Backup, TakenState
from sappers.model.codec import encode_state
from sappers.model.event import BrokenLink, Event, EventCheck, Story, event_digest
from tests.unit.worlds import founded

MEMBERS = ("lab1", "lab2", "lab3")


def chain(count: int, **changed: str) -> list[Event]:
    """Events 1 to `count`; `changed` has other texts by number, as `n7="…"`."""
    events: list[Event] = []
    for number in range(1, count + 1):
        previous = event_digest(events[-1]) if events else ""
        text = changed.get(f"n{number}", f"event {number}")
        events.append(
            Event(number, 1, 0.0, "member.dead", "m1", text, "m1", previous, number=number)
        )
    return events


def check(name: str, events: list[Event], broken: BrokenLink | None = None) -> EventCheck:
    digests = {event.number: event_digest(event) for event in events}
    last = events[-1].number
    return EventCheck(
        member_id=name,
        first=1,
        last=last,
        head=digests[last],
        marks={number: digest for number, digest in digests.items() if number % 4 == 0},
        missing=(),
        set_aside=0,
        state_count=last,
        state_head=digests[last],
        broken=broken,
    )


def test_a_chain_that_was_made_anew_on_one_member_is_found_where_it_begins() -> None:
    right, wrong = chain(12), chain(12, n6="nothing happened")
    checks = {name: check(name, wrong if name == "lab2" else right) for name in MEMBERS}
    (dispute,) = find_disputes(checks)
    assert dispute == Dispute("lab2", "lab1", 5, 8)
    finding = first_difference(dispute, wrong[4:8], right[4:8])
    assert finding is not None
    assert (finding.member, finding.number) == ("lab2", 6)
    assert "event 6" in finding.reason


def test_what_was_changed_after_the_last_mark_shows_in_the_heads() -> None:
    right, wrong = chain(11), chain(11, n10="nothing happened")
    checks = {name: check(name, wrong if name == "lab3" else right) for name in MEMBERS}
    assert find_disputes(checks) == []
    (finding,) = head_findings(checks, right)
    assert (finding.member, finding.number) == ("lab3", 11)
    # Even if the one that lies is the one that is asked for the newest.
    (finding,) = head_findings(checks, wrong)
    assert finding.member == "lab3"


def test_the_last_event_before_a_gap_is_compared_with_who_has_what_follows_it() -> None:
    right = chain(12)
    whole = check("lab1", right)
    gap = msgspec.structs.replace(check("lab2", right), missing=((4, 6), (9, 9)))
    same = msgspec.structs.replace(check("lab3", right), missing=((4, 4),))
    assert find_edges({"lab2": gap, "lab3": same, "lab1": whole}) == [
        Dispute("lab2", "lab1", 3, 3),
        Dispute("lab2", "lab3", 8, 8),
        Dispute("lab3", "lab1", 3, 3),
    ]
    assert find_edges({"lab3": same}) == []
    changed = chain(3, n3="nothing happened")
    (dispute, *_) = find_edges({"lab2": gap, "lab1": whole})
    finding = first_difference(dispute, changed[2:], right[2:3])
    assert finding is not None
    assert (finding.member, finding.number) == ("lab2", 3)
    assert first_difference(dispute, right[2:3], right[2:3]) is None


def test_what_no_member_has_between_older_and_newer_events_is_told() -> None:
    late = msgspec.structs.replace(check("lab1", chain(12)), first=9)
    gaps = msgspec.structs.replace(check("lab2", chain(12)), first=2, missing=((4, 7), (9, 10)))
    other = msgspec.structs.replace(check("lab3", chain(4)), first=3)
    assert nowhere({"lab1": late, "lab2": gaps, "lab3": other}) == [(5, 7)]
    assert nowhere({"lab1": late}) == []
    assert nowhere({}) == []


def test_members_that_are_behind_are_no_liars() -> None:
    right = chain(12)
    checks = {"lab1": check("lab1", right), "lab2": check("lab2", right[:7])}
    assert find_disputes(checks) == []
    assert head_findings(checks, right) == []
    wrong = {**checks, "lab2": check("lab2", chain(7, n3="no"))}
    assert [one.number for one in head_findings(wrong, right)] == [7]


def test_what_a_member_found_itself_is_told_as_it_is() -> None:
    broken = BrokenLink(3, "/var/lib/sappers/events/1.jsonl line 3", "it is no event")
    checks = {"lab1": check("lab1", chain(4), broken), "lab2": check("lab2", chain(4))}
    (finding,) = own_findings(checks)
    assert (finding.member, finding.number, finding.place) == ("lab1", 3, broken.place)
    assert find_disputes(checks) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("2d", 172_800), ("1w", 604_800)]
)
def test_a_time_ago(text: str, seconds: float) -> None:
    assert parse_since(text, 1e9) == 1e9 - seconds


@pytest.mark.parametrize("text", ["", "h", "yesterday", "5 m", "99999-01-01", "1e5s"])
def test_no_time_says_what_one_is(text: str) -> None:
    with pytest.raises(ConfigError, match="--since") as caught:
        parse_since(text, 1e9)
    assert "2h" in (caught.value.hint or "")
    assert parse_since("2026-11-26T14:30+00:00", 0) == 1795703400.0


def test_a_head_is_read_as_it_is_printed() -> None:
    head = parse_head(f"17:{'a' * 64}")
    assert str(head) == f"17:{'a' * 64}"
    with pytest.raises(ConfigError, match="NUMBER:DIGEST"):
        parse_head("17")


def story() -> Story:
    def event(number: int, kind: str, text: str, cause: int = 0, by: str = "member/m1") -> Event:
        return Event(1, 1, 0.0, kind, "x", text, "m1", "", number=number, by=by, cause=cause)

    return Story(
        "web",
        ("workload web: 1 of 1 healthy",),
        9,
        (
            event(1, "workload.created", "web created: 1 × hello", by="operator/anna"),
            event(2, "allocation.placed", "web-1 placed on host1: room", 1),
            event(3, "member.suspect", "host1 is suspect: gossip says so"),
            event(4, "member.dead", "host1 is dead: gossip says so", 3),
            event(5, "allocation.lost", "web-1 is lost: its member host1 is dead", 4),
            event(6, "repair.opened", "host1 is to be repaired: dead for 15 s", 4),
            event(7, "allocation.placed", "web-2 placed on host2: \x1b[31mroom", 5),
        ),
    )


def test_a_story_names_what_each_event_follows_from() -> None:
    lines = [line.plain[20:] for line in story_lines(story())]
    assert lines == [
        "",
        "    #1 asked     web created: 1 × hello (operator/anna)",
        "    #2 decision  web-1 placed on host1: room",
        "",
        "    #3 suspicion host1 is suspect: gossip says so (member/m1)",
        "    #4 suspicion host1 is dead: gossip says so",
        "    #5 suspicion web-1 is lost: its member host1 is dead",
        "    #7 decision  web-2 placed on host2: �[31mroom",
        "    #6 decision  host1 is to be repaired: dead for 15 s ← #4",
    ]


def test_a_story_fits_into_80_columns_and_needs_no_colour() -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(render_story(story()), highlight=False)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("← #4" in line for line in lines)


def test_what_is_gone_says_so() -> None:
    gone = msgspec.structs.replace(story(), now=(), events=(), cut=True)
    assert [line.plain for line in headlines(gone)] == [
        "web is no more; this was",
        "nothing of it is on record any more",
        "older events are left out",
    ]


def test_who_asked_stands_in_the_line() -> None:
    first = story().events[0]
    assert render_event(first).plain.endswith("web created: 1 × hello (operator/anna)")


@pytest.mark.parametrize("name", ["host2", "m2"])
def test_of_a_backup_members_are_known_by_name_too(tmp_path: Path, name: str) -> None:
    state, file = portable(founded()), tmp_path / "lab.backup"
    made = Backup(BACKUP_FORMAT, 1.0, "lab", TakenState(state.index, encode_state(state), ()))
    write_backup(file, made, state.events)
    asked = ["events", "--file", str(file), "-o", "json", "--member"]
    done = CliRunner().invoke(deploy_app(["events"]), [*asked, name])
    assert [event["subject"] for event in json.loads(done.output)] == ["m2"]
    with pytest.raises(ConfigError, match="no such member"):
        CliRunner().invoke(deploy_app(["events"]), [*asked, "m9"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="nothing is added to a backup"):
        CliRunner().invoke(deploy_app(["events"]), [*asked, name, "-f"], catch_exceptions=False)


@pytest.mark.parametrize("clock", [-1e300, -1e18, -1.0, 253_402_300_800.0, 1e18, 1e300])
def test_what_a_clock_said_that_shows_no_date_hides_no_event(clock: float) -> None:
    event = msgspec.structs.replace(story().events[0], time=clock)
    assert event.text in render_event(event).plain
    told = msgspec.structs.replace(story(), events=(event,))
    assert any(event.text in line.plain for line in story_lines(told))
    out = io.StringIO()
    console = Console(file=out, width=200)
    console.print(render_events([event]))
    console.print(render_story(told))
    assert out.getvalue().count(event.text) == 2

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from sappers.cli.output import Output
from sappers.cli.status import _watch, render_trouble
from sappers.cli.status_view import guests_table, render_status, shown_guests
from sappers.errors import MemberUnreachable
from sappers.model.allocation import AllocationStatus
from sappers.model.member import Accelerator, MemberState
from sappers.model.repair import Repair, RepairStatus
from sappers.model.view import ClusterView, MemberView
from sappers.model.workload import ImageReference, Workload
from tests.fake_member import make_allocation, make_member, make_view

HELLO = Workload("hello", ImageReference("hello", "0" * 64), guest_port=8080, revision=1)


def shown(what: RenderableType, *, colours: bool = False, width: int = 80) -> str:
    out = io.StringIO()
    colour_system = "standard" if colours else None
    Console(file=out, width=width, force_terminal=colours, color_system=colour_system).print(what)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def member_view(number: int, role: str = "follower", **changes: object) -> MemberView:
    member = make_member(f"lab{number}", f"192.168.222.{number + 10}")
    view = MemberView(member, role, 42, 0, 0, "running")
    return msgspec.structs.replace(view, **changes)


def lab(*changed: MemberView, **changes: object) -> ClusterView:
    members = {m.member.id: m for m in (member_view(1, "leader"), member_view(2), member_view(3))}
    members |= {m.member.id: m for m in changed}
    return make_view(tuple(members.values()), **changes)


def in_state(number: int, state: MemberState, **changes: object) -> MemberView:
    view = member_view(number, **changes)
    return msgspec.structs.replace(view, member=msgspec.structs.replace(view.member, state=state))


def test_a_healthy_cluster_at_80_columns() -> None:
    guest = make_allocation(
        "hello",
        "lab2",
        status=AllocationStatus.HEALTHY,
        guest_port=8080,
        host_port=8080,
        reason="it pushes",
    )
    view = lab(
        member_view(2, guests=1, memory_used_mib=298), workloads=(HELLO,), allocations=(guest,)
    )
    assert shown(render_status(view)).splitlines() == [
        "cluster lab · leader lab1 · term 3 · quorum: 3 of 3 voters alive",
        "hub: 3 of 3 servers run (lab1, lab2, lab3)",
        "accelerator: tcg on lab1, lab2, lab3: the processor shows neither vmx nor svm",
        "agents: version 0.1.0 · commit index 42, as lab1 answers",
        "",
        "MEMBER STATE ROLE     ADDRESS        CPU      MEMORY GUESTS HUB     INDEX",
        "lab1   alive leader   192.168.222.11   2 0.0/2.0 GiB      0 running    42",
        "lab2   alive follower 192.168.222.12   2 0.3/2.0 GiB      1 running    42",
        "lab3   alive follower 192.168.222.13   2 0.0/2.0 GiB      0 running    42",
        "",
        "GUEST          MEMBER STATUS  MEMORY  ADDRESS             WHY",
        "hello-0a1b2c3d lab2   healthy 128 MiB 192.168.222.12:8080 it pushes",
        "",
        "nothing needs a person",
    ]


def test_what_may_be_old_says_how_old_it_is() -> None:
    told = "agents: version 0.1.0 · commit index 42, as lab1 answers"
    for changes, said in (
        ({"age_seconds": 4.9}, told),
        ({"age_seconds": 95.4}, f"{told}, 95 s old"),
        ({"has_quorum": False}, f"{told}, of unknown age"),
        ({"has_quorum": False, "age_seconds": 1.0}, told),
    ):
        assert shown(render_status(lab(**changes))).splitlines()[3] == said


def test_a_repair_that_goes_on_is_a_line_and_one_that_is_over_is_none() -> None:
    going_on = Repair(
        "repair-1",
        "lab3",
        "dead for 15 s",
        opened_at=1.0,
        attempt=2,
        allocation_id="healer-0a1b2c3d",
        status=RepairStatus.CLAIMED,
        refused=3,
    )
    over = Repair("repair-0", "lab2", "dead", opened_at=0.0, status=RepairStatus.RESTORED)
    lines = shown(render_status(lab(repairs=(going_on, over))), width=120).splitlines()
    assert (
        "repair of lab3: claimed, attempt 2 by healer-0a1b2c3d; dead for 15 s; its credential was "
        "refused 3 times" in lines
    )
    assert not any("repair of lab2" in line for line in lines)


def test_no_leader_and_no_quorum() -> None:
    view = lab(
        in_state(1, MemberState.DEAD, role="none", applied_index=None, hub="down"),
        in_state(3, MemberState.DEAD, role="none", applied_index=None, hub="down"),
        leader_id=None,
        answered_by="lab2",
        voters_alive=1,
        has_quorum=False,
        attention=("quorum is lost: start sappers on lab1, lab3",),
    )
    text = shown(render_status(view))
    assert "no leader" in text
    assert "NO QUORUM: 1 of 3 voters alive" in text
    assert "hub: 1 of 3 servers run (lab2)" in text
    assert "lab1   dead  voter" in text
    assert "! quorum is lost: start sappers on lab1, lab3" in text
    assert "nothing needs a person" not in text
    coloured = shown(render_status(view), colours=True)
    assert "\x1b[1;31mdead" in coloured
    assert "\x1b[1;31mNO QUORUM" in coloured


def test_a_cluster_that_is_not_founded_yet() -> None:
    view = lab(electorate=(), leader_id=None, voters_alive=0, has_quorum=False, hub_servers=())
    text = shown(render_status(view))
    assert "no leader · term 3 · not founded yet" in text
    assert "hub: not running yet" in text


def test_long_sentences_hang_under_their_mark() -> None:
    lines = shown(render_status(lab(attention=("act now " * 15,)))).splitlines()
    assert lines[-2].startswith("! act now act")
    assert lines[-1].startswith("  now act")


def test_a_failed_guest_says_why_and_a_missing_copy_has_a_row() -> None:
    failed = make_allocation(
        "hello", "lab2", status=AllocationStatus.FAILED, reason="guest panicked", restarts=3
    )
    text = shown(render_status(lab(workloads=(HELLO,), allocations=(failed,))))
    assert "hello-0a1b2c3d lab2   failed  128 MiB -       guest panicked" in text
    assert "1 of 1 copies not placed" in text


def test_guests_that_ended_are_shown_only_when_asked_for() -> None:
    ended = tuple(
        make_allocation("hello", "lab2", id=f"hello-{status.value}", status=status)
        for status in (AllocationStatus.STOPPED, AllocationStatus.LOST)
    )
    old = make_allocation("hello", "lab2", revision=0, status=AllocationStatus.FAILED)
    view = lab(workloads=(HELLO,), allocations=(*ended, old))
    assert shown_guests(view) == ()
    assert shown_guests(view, all_of_them=True) == (*ended, old)


def test_long_reasons_fold_and_nothing_is_cut_off() -> None:
    reason = "the launcher found no free port between 20000 and 65535 on this member " * 2
    guest = make_allocation(
        "a-rather-long-workload-name", "lab2", status=AllocationStatus.UNHEALTHY, reason=reason
    )
    text = shown(guests_table(lab(), (guest,)))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("65535") == 2


def test_a_reason_that_is_too_long_for_its_column_stands_below() -> None:
    reason = "image hello cannot be had: no member with the image answers, and none is left to ask"
    guest = make_allocation("hello", "lab2", status=AllocationStatus.UNHEALTHY, reason=reason)
    other = make_allocation("hello", "lab1", id="hello-1", reason="booting")
    assert shown(guests_table(lab(), (guest, other))).splitlines() == [
        "GUEST          MEMBER STATUS    MEMORY  ADDRESS WHY",
        "hello-0a1b2c3d lab2   unhealthy 128 MiB -",
        "  image hello cannot be had: no member with the image answers, and none is left",
        "  to ask",
        "hello-1        lab1   pending   128 MiB -       booting",
    ]


def test_nobody_is_told_that_a_guest_on_a_dead_host_is_healthy() -> None:
    guest = make_allocation("hello", "lab2", status=AllocationStatus.HEALTHY, reason="it pushes")
    text = shown(guests_table(lab(in_state(2, MemberState.DEAD)), (guest,)))
    assert "lab2   unknown 128 MiB -       lab2 is dead; was healthy" in text


def test_of_many_failures_only_the_newest_matters_and_only_while_copies_lack() -> None:
    failed = [
        make_allocation(
            "hello", "lab2", id=f"hello-{at}", status=AllocationStatus.FAILED, changed_at=float(at)
        )
        for at in (2, 3, 1)
    ]
    view = lab(workloads=(HELLO,), allocations=tuple(failed))
    assert shown_guests(view) == (failed[1],)
    healthy = make_allocation("hello", "lab1", status=AllocationStatus.HEALTHY)
    view = lab(workloads=(HELLO,), allocations=(*failed, healthy))
    assert shown_guests(view) == (healthy,)


def test_what_a_guest_says_cannot_steer_the_terminal() -> None:
    guest = make_allocation("hello", "lab2", reason="[red]evil[/] \x1b]0;owned\x07 \x9b31m")
    text = shown(guests_table(lab(), (guest,)), width=200)
    assert "[red]evil[/]" in text
    assert not {"\x1b", "\x07", "\x9b"} & set(text)


def test_a_member_that_lags_or_does_not_answer() -> None:
    view = lab(member_view(2, applied_index=40), member_view(3, applied_index=None))
    text = shown(render_status(view), colours=True)
    assert "\x1b[33m   40\x1b" in text
    assert "\x1b[31m    ?\x1b" in text


def test_mixed_versions_get_a_column_and_accelerators_their_lines() -> None:
    other = make_member("lab3", "192.168.222.13")
    other = msgspec.structs.replace(
        other, version="0.2.0", accelerator=Accelerator("kvm", "/dev/kvm opens")
    )
    text = shown(
        render_status(lab(msgspec.structs.replace(member_view(3), member=other))), width=100
    )
    assert "VERSION" in text
    assert "agents: version 0.1.0, 0.2.0" in text
    assert "accelerator: kvm on lab3: /dev/kvm opens" in text
    assert "accelerator: tcg on lab1, lab2" in text


def test_a_member_without_a_vote() -> None:
    fourth = member_view(4, role="none", hub="-")
    view = lab(fourth, electorate=("lab1", "lab2", "lab3"), hub_servers=("lab1", "lab2", "lab3"))
    assert "lab4   alive -        192.168.222.14" in shown(render_status(view))


def test_what_stands_there_when_nobody_answers() -> None:
    error = MemberUnreachable("no member answers: lab1: refused", hint="is sappers running?")
    text = shown(render_trouble(error))
    assert text.splitlines() == [
        "no member answers: lab1: refused",
        "is sappers running?",
        "trying again",
    ]


def test_who_watches_is_told_that_nothing_new_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A member that is cut off goes on saying what it knew; only that grows old."""
    monkeypatch.setattr("sappers.cli.status.WATCH_SECONDS", 0.0)
    ages = iter((0.1, 0.2, 6.0, 7.0))

    class Client:
        def view(self) -> ClusterView:
            return lab(age_seconds=next(ages))

    with pytest.raises(StopIteration):
        _watch(Client(), Output.JSON)  # type: ignore[arg-type]
    said = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["age_seconds"] for one in said] == [0.1, 6.0]

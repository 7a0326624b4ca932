"""What a person sees of a run, and what the shell is told."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sappers.cli.bootstrap import exit_code_of
from sappers.cli.display import (
    Lines,
    LiveTable,
    open_display,
    recap_as_data,
    show_problems,
    show_recap,
)
from sappers.cli.ending import show_error
from sappers.cli.exit_codes import ExitCode
from sappers.errors import HostUnfit, HostUnreachable, NoQuorum, SappersError
from sappers.provisioner.bootstrap.plan import ClusterPlan, PlannedMember
from sappers.provisioner.bootstrap.playbook import load_plays, titles
from sappers.provisioner.bootstrap.recap import CLUSTER_PHASE, Outcome, PhaseResult, Recap
from sappers.provisioner.places import BOOTSTRAP_PLAYBOOK

DEAD = HostUnreachable("lab3", "no answer in time", hint="is it up?")
RECAP = Recap(
    hosts={
        "lab1": (
            PhaseResult("connect", Outcome.OK),
            PhaseResult("agent", Outcome.CHANGED, ("agent 1",)),
            PhaseResult("images", Outcome.SKIPPED),
        ),
        "lab3": (PhaseResult("connect", Outcome.UNREACHABLE, errors=(DEAD,)),),
    }
)

MEMBER = PlannedMember("lab1", "10.0.0.1", voter_tag=True, consul=True)
TITLES = titles(ClusterPlan("lab", (MEMBER,)), load_plays(BOOTSTRAP_PLAYBOOK))


def console(**options) -> Console:
    return Console(file=io.StringIO(), width=80, **options)


def printed(one: Console) -> str:
    assert isinstance(one.file, io.StringIO)
    return one.file.getvalue()


def test_the_recap_is_ansibles():
    out = console()
    show_recap(out, RECAP)
    assert printed(out).splitlines()[1:] == [
        "lab1 : ok=2 changed=1 unreachable=0 failed=0 skipped=1",
        "lab3 : ok=0 changed=0 unreachable=1 failed=0 skipped=0",
    ]


def test_every_problem_with_what_to_do():
    out = console()
    show_problems(out, RECAP.problems)
    assert "lab3: no answer in time" in printed(out)
    assert "→ is it up?" in printed(out)


def test_json_has_it_all():
    data = recap_as_data(RECAP)
    assert data["hosts"]["lab1"]["changed"] == 1
    assert data["hosts"]["lab1"]["phases"][1]["changes"] == ["agent 1"]
    assert data["problems"][0]["host"] == "lab3"


def test_lines_where_output_is_kept():
    out = console()
    with open_display(out, ["lab1"], TITLES, verbose=False) as display:
        assert isinstance(display, Lines)
        display.started("lab1", "agent")
        display.note("lab1", "unpacking")
        display.ended("lab1", RECAP.hosts["lab1"][1])
    assert printed(out) == "lab1 : agent      changed (0.0 s)\n"


def test_the_live_table_fits_80_columns():
    out = console(force_terminal=True)
    with open_display(out, ["lab1", "lab2"], TITLES, verbose=False) as display:
        assert isinstance(display, LiveTable)
        display.started("lab2", "connect")
        display.note("lab2", "a note that is much longer than the terminal is wide " * 3)
        display.ended("lab1", RECAP.hosts["lab1"][1])
        drawn = console()
        drawn.print(display._render())
    lines = printed(drawn).splitlines()
    assert lines[0].split() == ["host", *TITLES]
    assert TITLES[-1] == "consul"
    assert "●" in lines[1]
    assert max(map(len, lines)) <= 80


def results(*outcomes: tuple[str, Outcome], error: SappersError | None = None) -> Recap:
    rows = {f"h{n}": (PhaseResult(*outcome),) for n, outcome in enumerate(outcomes)}
    return Recap(hosts=rows, cluster_error=error)


@pytest.mark.parametrize(
    ("recap", "code"),
    [
        (results(("start", Outcome.OK)), ExitCode.OK),
        (results(("start", Outcome.FAILED), ("connect", Outcome.UNREACHABLE)), 2),
        (results(("start", Outcome.OK), ("connect", Outcome.UNREACHABLE)), 4),
        (results((CLUSTER_PHASE, Outcome.FAILED), error=NoQuorum("no leader")), 5),
        # A new cluster that cannot form because a host is dead: the host is the cause.
        (
            results(
                (CLUSTER_PHASE, Outcome.FAILED),
                ("connect", Outcome.UNREACHABLE),
                error=NoQuorum("no leader"),
            ),
            4,
        ),
        (results((CLUSTER_PHASE, Outcome.FAILED), error=SappersError("late")), 1),
    ],
)
def test_exit_codes(recap, code):
    assert exit_code_of(recap) == code


def test_a_silent_agent_is_a_failed_host():
    silent = PhaseResult(CLUSTER_PHASE, Outcome.FAILED, errors=(HostUnfit("a", "silent"),))
    assert exit_code_of(Recap(hosts={"a": (silent,)})) == ExitCode.HOST_FAILED


EVIL = "\x1b]0;owned\x07 \x9b31m \x1b[2J\r"


@pytest.mark.parametrize("terminal", [False, True])
def test_what_hosts_say_does_not_steer_the_terminal(terminal, capsys):
    out = console(force_terminal=terminal, color_system=None)
    evil = HostUnfit("lab1", f"sudo refuses: {EVIL}\nline two", hint=EVIL)
    show_problems(out, [evil])
    lines = Lines(out, verbose=True)
    lines.note("lab1", EVIL)
    lines.ended("lab1", PhaseResult("agent", Outcome.CHANGED, (EVIL,)))
    show_error(evil)
    table = LiveTable(console(), ["lab1"], TITLES)
    table.note("lab1", EVIL)
    out.print(table._render())
    text = printed(out) + capsys.readouterr().err
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(text)
    assert "owned" in text
    assert "line two" in text

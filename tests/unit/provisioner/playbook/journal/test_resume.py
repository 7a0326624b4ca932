"""What stands of a run, by its journal: pure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import JournalError
from sappers.provisioner.playbook.journal.fingerprint import fingerprint
from sappers.provisioner.playbook.journal.records import (
    VERSION,
    Begun,
    Done,
    Ended,
    Mended,
    Playing,
    Record,
    Sent,
    Unsure,
    decode_all,
    encode_all,
)
from sappers.provisioner.playbook.journal.resume import (
    Past,
    Standing,
    begun_by,
    records_of,
    resumed_options,
    what_stands,
)
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.tasks.options import RunOptions

BEGUN = Begun(VERSION, "digest", 1.0)


def done(task: str, outcome: str = "ok", host: str = "h") -> Done:
    return Done(host, task, task, outcome, result={})


def standing(*records: Record) -> Standing:
    found = what_stands([BEGUN, Playing(("h", "i")), *records])
    assert found is not None
    return found


def test_results_stand_up_to_the_failure() -> None:
    found = standing(done("a"), done("b", "failed"), done("always", "changed"), Ended())
    assert found.hosts["h"] == Past((done("a"),), ("b", "always"))
    assert (found.failed, found.unfinished, found.is_over) == (("h",), ("h",), False)


def test_a_failure_that_was_mended_stands() -> None:
    records = done("a", "failed"), done("always"), Mended("h"), done("b"), Ended()
    found = standing(*records)
    assert [one.task for one in found.hosts["h"].done] == ["a", "always", "b"]
    assert (found.unfinished, found.is_over) == ((), True)


def test_what_was_sent_and_not_heard_of_may_have_been_done() -> None:
    found = standing(Sent("h", ("a", "b", "c")), done("a"))
    assert found.hosts["h"] == Past((done("a"),), ("b", "c"))
    assert found.unfinished == ("h", "i")


def test_behind_a_failure_the_host_did_nothing_and_behind_a_lost_connection_nobody_knows() -> None:
    sent = Sent("h", ("a", "b", "c"))
    assert standing(sent, done("a", "failed")).hosts["h"].unsure == ("a",)
    assert standing(sent, done("a", "unreachable")).hosts["h"].unsure == ("a", "b", "c")


def test_what_a_run_before_had_sent_stays_open_until_it_is_done() -> None:
    before = Unsure("h", ("a", "b", "c"))
    assert standing(before, Sent("h", ("a",)), done("a")).hosts["h"].unsure == ("b", "c")
    assert standing(before, Sent("h", ("a", "b"))).hosts["h"].unsure == ("a", "b", "c")


KEYS = st.sampled_from(["a", "b", "c"])
HOSTS = st.sampled_from(["h", "i"])
RECORDS = st.lists(
    st.one_of(
        st.builds(Sent, HOSTS, st.lists(KEYS, max_size=3).map(tuple)),
        st.builds(
            Done, HOSTS, KEYS, KEYS,
            st.sampled_from(["ok", "changed", "skipped", "ignored", "failed", "unreachable"]),
            st.one_of(st.none(), st.just({"x": 1})),
        ),
        st.builds(Mended, HOSTS),
        st.builds(Unsure, HOSTS, st.lists(KEYS, max_size=3).map(tuple)),
    ),
    max_size=20,
)  # fmt: skip


@given(RECORDS)
def test_of_a_journal_that_a_resumed_run_begins_with_the_same_stands(records: list[Record]) -> None:
    found = standing(*records)
    again = what_stands(records_of(found))
    assert again is not None
    assert {host: past for host, past in again.hosts.items() if past != Past()} == {
        host: past for host, past in found.hosts.items() if past != Past()
    }
    assert again.failed == ()


@given(RECORDS, st.integers(min_value=0, max_value=200))
def test_what_was_written_whole_is_read_whatever_was_torn(records: list[Record], cut: int) -> None:
    whole = [BEGUN, *records]
    content = encode_all(whole)
    kept = content[: max(0, len(content) - cut)]
    assert decode_all(kept, "journal") == whole[: kept.count(b"\n")]
    assert decode_all(kept + b"\0" * cut, "journal") == whole[: kept.count(b"\n")]


def test_a_journal_that_is_damaged_inside_is_refused() -> None:
    content = encode_all([BEGUN, done("a"), done("b")]).replace(b'"a"', b"a", 1)
    with pytest.raises(JournalError, match="line 2 is damaged"):
        decode_all(content, "journal")
    with pytest.raises(JournalError, match="of this version"):
        decode_all(encode_all([Begun(VERSION + 1, "", 1.0)]), "journal")


def test_a_resumed_run_is_asked_for_what_the_first_was() -> None:
    first = RunOptions(tags=frozenset({"web"}), limit="h,i", extra={"password": "hush"})
    begun = begun_by(first, "digest", 1.0)
    assert b"hush" not in encode_all([begun])
    failed = what_stands([begun, Playing(("h",)), done("a", "failed"), Ended()])
    assert failed is not None
    again = RunOptions(extra={"password": "x", "more": 1}, forks=3)
    resumed = resumed_options(again, failed, "digest")
    assert (resumed.tags, resumed.limit, resumed.forks) == (first.tags, "h,i", 3)
    for options, digest, message in (
        (again, "other", "has changed"),
        (RunOptions(extra=again.extra, limit="h"), "digest", "--limit is not"),
        (RunOptions(), "digest", "-e password"),
    ):
        with pytest.raises(JournalError, match=message):
            resumed_options(options, failed, digest)
    over = what_stands([begun, Playing(("h",)), done("a"), Ended()])
    assert over is not None
    with pytest.raises(JournalError, match="nothing is left"):
        resumed_options(again, over, "digest")


PLAYBOOK = """\
- hosts: all
  vars: {x: 1}
  tasks:
    - name: one  # a comment
      command: echo {{ x }}
      when: x == 1
    - import_tasks: more.yml
"""


def test_a_fingerprint_is_of_what_is_run(tmp_path: Path) -> None:
    def digest(folder: str, text: str, more: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "play.yml").write_text(text)
        (tmp_path / folder / "more.yml").write_text(more)
        return fingerprint(load_playbook(tmp_path / folder / "play.yml"))

    first = digest("a", PLAYBOOK, "- ping:\n")
    assert digest("b", PLAYBOOK.replace("a comment", "another"), "- ping:\n") == first
    changes = [
        (PLAYBOOK.replace("echo", "cat"), "- ping:\n"),
        (PLAYBOOK.replace("x: 1", "x: 2"), "- ping:\n"),
        (PLAYBOOK.replace("x: 1", "x: '1'"), "- ping:\n"),
        (PLAYBOOK.replace("x == 1", "x == 2"), "- ping:\n"),
        (PLAYBOOK, "- setup:\n"),
        (PLAYBOOK, "- ping:\n- ping:\n"),
    ]
    assert len({first, *(digest("a", *one) for one in changes)}) == len(changes) + 1


def test_a_fingerprint_is_the_same_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "play.yml"
    path.write_text(
        "- hosts: all\n  become: true\n  become_user: a\n  remote_user: b\n  port: 22\n"
        "  tags: [a, b, c]\n"
        "  tasks: [{ping: , delegate_to: c, run_once: true, connection: local}]\n"
    )
    program = (
        "import pathlib, sys\n"
        "from sappers.provisioner.playbook.journal.fingerprint import fingerprint\n"
        "from sappers.provisioner.playbook.language.load import load_playbook\n"
        "print(fingerprint(load_playbook(pathlib.Path(sys.argv[1]))))\n"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", program, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(made) == 1

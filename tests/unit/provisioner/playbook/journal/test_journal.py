"""Runs that are cut off or fail, and are resumed, on this machine as hosts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.errors import JournalError
from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.journal.journal import Journal, read_standing, refuse_if_running
from sappers.provisioner.playbook.journal.ledger import Ledger
from sappers.provisioner.playbook.journal.records import Record, encode_all
from sappers.provisioner.playbook.journal.resume import begun_by, records_of
from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.run.engine import Engine, RunReport
from sappers.provisioner.playbook.tasks.options import RunOptions
from tests.corpus.case import run_ours, tree_of
from tests.unit.provisioner.playbook.lines import Lines


class Killed(BaseException):
    """The control process is no more."""


class ShortJournal(Journal):
    """Dies in the middle of the write that would make it longer than `room` bytes."""

    room = 0

    def append(self, *records: Record) -> None:
        content = encode_all(records)
        with self._lock:
            taken, self.room = content[: max(self.room, 0)], self.room - len(content)
            os.write(self._descriptor, taken)
            if self.room < 0:
                raise Killed


class Runs:
    """Runs of one playbook on two hosts that are this machine."""

    def __init__(self, folder: Path, text: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.root = folder / "root"
        self.root.mkdir()
        self.path = folder / "journal.jsonl"
        self._playbook = folder / "play.yml"
        self._inventory = folder / "hosts"
        self._inventory.write_text("h1 ansible_connection=local\nh2 ansible_connection=local\n")
        self._playbook.write_text(text)
        self.secrets = SecretTexts()

    def run(self, *, resume: bool = False, room: int | None = None) -> tuple[Lines, RunReport]:
        """One run; `room`: how many bytes of journal it lives to write."""
        plays = load_playbook(self._playbook)
        options = RunOptions(extra={"root": str(self.root)})
        standing = read_standing(self.path) if resume else None
        records = records_of(standing) if standing else [begun_by(options, "digest", 1.0)]

        def begin() -> Journal:
            if room is None:
                return Journal.begin(self.path, records)
            journal = ShortJournal.begin(self.path, records)
            journal.room = room
            return journal

        lines = Lines()
        ledger = Ledger(begin, standing, self.secrets)
        engine = Engine(load_inventory(self._inventory), options, lines, ledger=ledger)
        try:
            return lines, engine.run(plays)
        finally:
            ledger.close()


EVERYTHING = """
- hosts: all
  gather_facts: false
  handlers:
    - name: restart
      copy: {content: "{{ me }} {{ made.changed }}", dest: "{{ root }}/{{ me }}-restarted"}
      listen: all of it
    - name: last
      copy: {content: "{{ token.stdout }}", dest: "{{ root }}/{{ me }}-last"}
  vars: {me: "{{ inventory_hostname }}"}
  tasks:
    - file: {path: "{{ root }}/{{ me }}", state: directory}
    - copy: {content: new, dest: "{{ root }}/{{ me }}/conf"}
      register: made
      notify: [restart]
    - set_fact: {number: 7}
    - command: echo token-{{ me }}
      register: token
      no_log: true
      changed_when: false
    - block:
        - copy: {content: "{{ number }}", dest: "{{ root }}/{{ me }}/number"}
        - command: /bin/false
      rescue:
        - copy: {content: "{{ ansible_failed_task.action }}", dest: "{{ root }}/{{ me }}/failed"}
          notify: last
      always:
        - lineinfile: {path: "{{ root }}/{{ me }}/conf", line: "number {{ number }}"}
    - copy: {content: "{{ item }}", dest: "{{ root }}/{{ me }}/item-{{ item }}"}
      loop: [a, b]
      register: items
    - command: echo once
      run_once: true
      register: once
    - copy:
        content: "{{ once.stdout }} {{ items.results | length }}"
        dest: "{{ root }}/{{ me }}/once"
      when: made is changed
    - meta: flush_handlers
    - include_tasks: more.yml
      vars: {name: included}
- hosts: h2:h1
  gather_facts: false
  serial: 1
  tasks:
    - copy:
        content: "{{ number }} {{ token.stdout }}"
        dest: "{{ root }}/{{ inventory_hostname }}-2"
"""
MORE = """
- copy: {content: "{{ name }}", dest: "{{ root }}/{{ me }}/{{ name }}"}
- debug: {msg: "{{ name }}"}
"""


def prepared(folder: Path) -> Runs:
    runs = Runs(folder, EVERYTHING)
    (folder / "more.yml").write_text(MORE)
    return runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], bytes]:
    """Where an uninterrupted run ends, and its journal."""
    runs = prepared(tmp_path_factory.mktemp("whole") / "run")
    _, report = runs.run()
    assert not report.failed
    return tree_of(runs.root), runs.path.read_bytes()


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=2))
def test_a_run_that_was_cut_off_anywhere_is_resumed_to_the_same_end(
    whole: tuple[dict[str, list[str]], bytes],
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[float],
) -> None:
    tree, journal = whole
    runs = prepared(tmp_path_factory.mktemp("cut") / "run")
    resume = False
    for cut in cuts:
        with contextlib.suppress(Killed):
            runs.run(resume=resume, room=int(len(journal) * cut))
        resume = True
    _, report = runs.run(resume=True)
    assert tree_of(runs.root) == tree
    assert not report.failed
    standing = read_standing(runs.path)
    assert standing is not None
    assert standing.is_over
    # What stands is not done again, but for what `no_log` did not let be kept.
    again, _ = runs.run(resume=True)
    assert {line.split(maxsplit=1)[1] for line in again.lines} == {
        "command ok", "include_tasks ok",
    }  # fmt: skip


CASES = ("blocks", "handlers_more", "include_role", "module_add_host", "task_run_once")


@pytest.mark.parametrize("case", CASES)
def test_a_journal_alone_leads_through_the_whole_run_again(case: str, tmp_path: Path) -> None:
    path, root = tmp_path / "journal.jsonl", tmp_path / "root"
    begun = begun_by(RunOptions(), "digest", 1.0)
    ledger = Ledger(lambda: Journal.begin(path, [begun]))
    first = run_ours(case, root, ledger=ledger)
    ledger.close()
    replayed = run_ours(case, root, ledger=Ledger(None, read_standing(path)))
    assert (replayed.recap, replayed.tree) == (first.recap, first.tree)
    assert len(replayed.tasks) < len(first.tasks)  # only what steers the run shows again


FAILING = """
- hosts: all
  gather_facts: false
  handlers:
    - name: restart
      copy: {content: "{{ kept.stdout }}", dest: "{{ root }}/{{ inventory_hostname }}-restarted"}
  tasks:
    - command: echo kept
      register: kept
      notify: restart
    - name: fails
      command: test -e {{ root }}/{{ inventory_hostname }}-is-well
    - name: after
      copy: {content: "{{ kept.stdout }}", dest: "{{ root }}/{{ inventory_hostname }}"}
"""


def test_a_run_goes_on_at_the_failed_task_on_the_failed_hosts(tmp_path: Path) -> None:
    runs = Runs(tmp_path, FAILING)
    (runs.root / "h1-is-well").touch()
    first, report = runs.run()
    assert first.lines == [
        "h1 command changed", "h2 command changed", "h1 fails changed", "h2 fails failed",
        "h1 after changed", "h1 restart changed",
    ]  # fmt: skip
    assert report.failed
    (runs.root / "h2-is-well").touch()
    second, report = runs.run(resume=True)
    assert second.lines == ["h2 fails changed", "h2 after changed", "h2 restart changed"]
    assert (runs.root / "h2-restarted").read_text() == "kept"
    assert report.counts["h1"] == report.counts["h2"]  # as if it had never failed
    assert (report.counts["h1"].ok, report.failed) == (4, False)


def test_what_fails_again_can_be_resumed_again(tmp_path: Path) -> None:
    runs = Runs(tmp_path, FAILING)
    for _ in range(2):
        _, report = runs.run(resume=runs.path.exists())
        assert [report.counts[name].failed for name in ("h1", "h2")] == [1, 1]
    for name in ("h1", "h2"):
        (runs.root / f"{name}-is-well").touch()
    lines, report = runs.run(resume=True)
    assert "h1 command changed" not in lines.lines
    assert not report.failed


def test_secrets_are_not_in_the_journal(tmp_path: Path) -> None:
    text = """
- hosts: all
  gather_facts: false
  tasks:
    - command: echo token-1234
      register: token
      no_log: true
    - command: echo vaulted "pass word"
      register: vaulted
    - set_fact: {mine: vaulted}
    - name: it is vaulted
      fail: {msg: "{{ token.stdout }} {{ mine }}"}
      no_log: true
"""
    runs = Runs(tmp_path, text)
    runs.secrets.add("vaulted")
    runs.run()
    written = runs.path.read_text()
    assert "token-1234" not in written
    assert "vaulted" not in written
    assert runs.path.stat().st_mode & 0o777 == 0o600
    lines, _ = runs.run(resume=True)
    assert lines.lines == [  # what later tasks may ask for is asked for again
        "h1 command changed", "h2 command changed", "h1 command changed", "h2 command changed",
        "h1 set_fact ok", "h2 set_fact ok", "h1 it is vaulted failed", "h2 it is vaulted failed",
    ]  # fmt: skip


def test_what_comes_now_must_be_what_was(tmp_path: Path) -> None:
    runs = prepared(tmp_path / "run")
    _, report = runs.run()
    assert not report.failed
    new = (
        '\n- copy: {content: new, dest: "{{ root }}/new"}' + MORE
    )  # the same module, there as well
    for changed in ("- ping:\n- ping:\n", new):
        (tmp_path / "run/more.yml").write_text(changed)
        expected = r"comes 'copy' \(more\.yml:2:3 copy\), and now"
        with pytest.raises(JournalError, match=expected) as told:
            runs.run(resume=True)
        assert "--resume" in str(told.value.hint)


def test_a_journal_is_locked_while_its_run_lasts(tmp_path: Path) -> None:
    path = tmp_path / "runs/journal.jsonl"
    begun = begun_by(RunOptions(), "digest", 1.0)
    refuse_if_running(path)
    journal = Journal.begin(path, [begun])
    with pytest.raises(JournalError, match="still lasts"):
        refuse_if_running(path)
    journal.close()
    refuse_if_running(path)
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be written"):
        Journal.begin(tmp_path / "file/journal.jsonl", [begun])


def test_a_journal_that_others_may_have_written_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "runs/journal.jsonl"
    Journal.begin(path, [begun_by(RunOptions(), "digest", 1.0)]).close()
    assert read_standing(path) is not None

    def refused(words: str) -> None:
        for look in (read_standing, refuse_if_running):
            with pytest.raises(JournalError, match=words):
                look(path)

    for mode in (0o620, 0o602):
        path.chmod(mode)
        refused(f"mode {mode:04o}")
    path.chmod(0o600)
    kept = path.rename(tmp_path / "kept")
    path.symlink_to(kept)
    refused("cannot be read")
    path.unlink()
    os.mkfifo(path, 0o600)  # and nobody waits for who writes to it
    refused("no file")
    path.unlink()
    kept.rename(path)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        refused("user 12345")


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)


def test_a_control_process_that_is_killed_leaves_what_can_be_resumed(tmp_path: Path) -> None:
    wait = f"touch {tmp_path}/started; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    (tmp_path / "play.yml").write_text(f"""
- hosts: all
  gather_facts: false
  handlers: [{{name: restart, copy: {{content: x, dest: {tmp_path}/restarted}}}}]
  tasks:
    - {{copy: {{content: x, dest: {tmp_path}/conf}}, notify: restart}}
    - shell: {wait}
    - command: touch {tmp_path}/after
""")
    (tmp_path / "hosts").write_text("h1 ansible_connection=local\n")
    program = [sys.executable, "-c", "from sappers.cli.deploy import main; main()"]
    command = [*program, "playbook", "run", "play.yml", "-i", "hosts"]
    environment: dict[str, str] = {**os.environ, "SAPPERS_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    ) as process:
        wait_for(tmp_path / "started", process)
        process.send_signal(signal.SIGKILL)
    (tmp_path / "go").touch()

    def resume() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--resume"], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    done = resume()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TASK [copy]" not in done.stdout
    assert (tmp_path / "after").exists()
    assert (tmp_path / "restarted").exists()
    again = resume()
    assert again.returncode == 1
    assert "nothing is left to resume" in again.stderr

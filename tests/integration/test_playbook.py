"""Playbooks on a real host, over SSH: files, users to become, failures, hosts that are away."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import asdict

from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.run.engine import Engine, RunReport
from sappers.provisioner.playbook.tasks.judge import Judged
from sappers.provisioner.playbook.tasks.options import RunOptions
from tests.integration.ssh_server import (
    PASSWORD,
    SshServer,
    make_home,
    make_host,
    needs_doas,
)


@dataclass
class Told:
    """A watcher that remembers."""

    results: list[tuple[str, str, Judged]] = field(default_factory=list)
    _name: str = ""

    def play(self, name: str, *, empty: bool = False) -> None:
        pass

    def task(self, task: Task, name: str) -> None:
        self._name = name

    def result(self, host: str, judged: Judged) -> None:
        self.results.append((host, self._name, judged))

    def of(self, name: str) -> dict[str, object]:
        return next(judged.result for _, task, judged in self.results if task == name)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


def run(tmp_path: Path, text: str, options: RunOptions | None = None) -> tuple[RunReport, Told]:
    (tmp_path / "play.yml").write_text(text)
    told = Told()
    engine = Engine(load_inventory(tmp_path / "inventory.ini"), options or RunOptions(), told)
    return engine.run(load_playbook(tmp_path / "play.yml")), told


PLAY = """
- hosts: all
  vars: {root: "%s/out"}
  tasks:
    - file: {path: "{{ root }}/sub", state: directory, mode: "0750"}
    - copy: {src: large, dest: "{{ root }}/sub/large", mode: "0640"}
      notify: tell
    - template: {src: t.j2, dest: "{{ root }}/t"}
    - lineinfile: {path: "{{ root }}/sub/line", line: more, create: true}
    - name: ask
      command: id -un
      register: who
      changed_when: false
  handlers:
    - name: tell
      copy: {content: "{{ who.stdout }}", dest: "{{ root }}/told"}
"""


def test_a_play_changes_once_and_check_mode_announces_it(server: SshServer, tmp_path: Path) -> None:
    make_host(server, tmp_path)
    (tmp_path / "large").write_bytes(b"0123456789abcdef" * 100_000)
    (tmp_path / "t.j2").write_text("{{ ansible_python_version.split('.')[0] }}\n")
    root = tmp_path / "out"

    announced, said = run(tmp_path, PLAY % tmp_path, RunOptions(check=True, diff=True))
    assert not root.exists()
    done, told = run(tmp_path, PLAY % tmp_path)
    again, _ = run(tmp_path, PLAY % tmp_path)

    assert (root / "sub/large").read_bytes() == (tmp_path / "large").read_bytes()
    assert (root / "sub").stat().st_mode & 0o777 == 0o750
    assert (root / "t").read_text() == "3\n"
    assert (root / "sub/line").read_text() == "more\n"
    assert (root / "told").read_text() == "root"
    assert asdict(done.counts["lab1"]) == {
        "ok": 7, "changed": 5, "unreachable": 0, "failed": 0, "skipped": 0, "rescued": 0,
        "ignored": 0,
    }  # fmt: skip
    changed = {name for _, name, judged in told.results if judged.result.get("changed")}
    would = {name for _, name, judged in said.results if judged.result.get("changed")}
    assert would | {"tell"} == changed  # the handler wants what only the command says
    assert again.counts["lab1"].changed == 0
    assert not announced.unreachable


@pytest.mark.parametrize(
    ("variables", "become", "user"),
    [
        ({"ansible_user": "free"}, "become: true", "root"),
        ({"ansible_user": "free"}, "become: true\n      become_user: mere", "mere"),
        ({"ansible_user": "free"}, "become: false", "free"),
        ({"ansible_user": "asked", "ansible_become_password": PASSWORD}, "become: true", "root"),
        (
            {"ansible_user": "mere", "ansible_become_password": PASSWORD},
            "become: true\n      become_user: free\n      become_method: su",
            "free",
        ),
        (
            {"ansible_user": "root", "ansible_python_interpreter": "/usr/bin/python3"},
            "become: true\n      become_user: mere\n      become_method: su",
            "mere",
        ),
        (
            {"ansible_user": "free", "ansible_become_method": "community.general.doas"},
            "become: true\n      become_user: mere",
            "mere",
        ),
        (
            {"ansible_user": "asked", "ansible_become_password": PASSWORD},
            "become: true\n      become_method: doas",
            "root",
        ),
    ],
)
def test_becomes_whom_the_task_says(
    server: SshServer, tmp_path: Path, variables: dict[str, str], become: str, user: str
) -> None:
    if "doas" in f"{variables} {become}":
        needs_doas()
    make_host(server, tmp_path, **variables)
    play = "- hosts: all\n  gather_facts: false\n  tasks:\n    - command: id -un\n      "
    _, told = run(tmp_path, play + become + "\n")
    assert told.of("command")["stdout"] == user


def test_a_user_who_may_not_fails_and_the_rest_is_not_run(
    server: SshServer, tmp_path: Path
) -> None:
    make_host(server, tmp_path, ansible_user="mere")
    play = "- hosts: all\n  gather_facts: false\n  tasks: [{ping: , become: true}, {ping: }]\n"
    report, told = run(tmp_path, play)
    assert report.failed
    assert len(told.results) == 1


def test_a_host_that_is_away_is_unreachable_and_stops_nobody(
    server: SshServer, tmp_path: Path
) -> None:
    make_host(server, tmp_path)
    with (tmp_path / "inventory.ini").open("a") as file:
        file.write("away ansible_host=127.0.0.1 ansible_port=1\n")
    report, _ = run(tmp_path, "- hosts: all\n  tasks: [{ping: }]\n")
    assert report.unreachable
    assert not report.failed
    assert report.counts["away"].unreachable == 1
    assert report.counts["lab1"].ok == 2


def test_a_connection_that_dies_in_the_middle_is_unreachable(
    server: SshServer, tmp_path: Path
) -> None:
    make_host(server, tmp_path)
    play = "- hosts: all\n  gather_facts: false\n  tasks:\n"
    text = f"{play}    - shell: kill -9 $PPID; sleep 60\n    - ping:\n"
    report, told = run(tmp_path, text)
    assert report.counts["lab1"].unreachable == 1
    assert len(told.results) == 1


@pytest.mark.parametrize(
    "variables",
    [
        {"ansible_user": "free"},
        {"ansible_user": "asked", "ansible_become_password": PASSWORD},
    ],
)
def test_raw_needs_no_python_and_cannot_read_the_password_of_sudo(
    server: SshServer, tmp_path: Path, variables: dict[str, str]
) -> None:
    make_host(server, tmp_path, **variables, ansible_python_interpreter="/no/python")
    play = """
- hosts: all
  gather_facts: false
  tasks:
    - name: raw
      raw: id -un; cat; echo more >&2; exit 3
      become: true
      ignore_errors: true
    - name: mere
      raw: id -un
"""
    _, told = run(tmp_path, play)
    raw = told.of("raw")
    assert (raw["stdout"], raw["rc"]) == ("root\n", 3)
    assert str(raw["stderr"]).endswith("more\n")
    assert PASSWORD not in str(raw)
    assert told.of("mere")["stdout"] == variables["ansible_user"] + "\n"


def test_raw_becomes_another_by_su(server: SshServer, tmp_path: Path) -> None:
    make_host(server, tmp_path, ansible_user="mere", ansible_become_password=PASSWORD)
    play = "- hosts: all\n  gather_facts: false\n  become_method: su\n  tasks:\n"
    _, told = run(
        tmp_path, f"{play}    - raw: id -un; cat\n      become: true\n      become_user: free\n"
    )
    assert told.of("raw")["stdout"] == "free\n"


def test_a_large_file_is_fetched_and_a_connection_waited_for(
    server: SshServer, tmp_path: Path
) -> None:
    make_host(server, tmp_path)
    (tmp_path / "large").write_bytes(bytes(range(256)) * 40_000)
    play = f"""
- hosts: all
  gather_facts: false
  tasks:
    - wait_for_connection:
    - meta: reset_connection
    - wait_for_connection: {{timeout: 20}}
    - fetch: {{src: {tmp_path}/large, dest: {tmp_path}/kept}}
"""
    report, _ = run(tmp_path, play)
    assert report.counts["lab1"].changed == 1
    kept = tmp_path / f"kept/lab1{tmp_path}/large"
    assert kept.read_bytes() == (tmp_path / "large").read_bytes()


FULL_DISK = """
- hosts: all
  gather_facts: false
  vars: {small: "%s"}
  tasks:
    - command: mount -t tmpfs -o size=1m tmpfs {{ small }}
    - block:
        - copy: {content: old, dest: "{{ small }}/file"}
        - copy: {content: "{{ 'line\\n' * 130000 }}", dest: "{{ small }}/lines"}
        - {name: large, ignore_errors: true, copy: {src: large, dest: "{{ small }}/file"}}
        - {name: template, ignore_errors: true, template: {src: t.j2, dest: "{{ small }}/file"}}
        - {name: line, ignore_errors: true, lineinfile: {path: "{{ small }}/lines", line: more}}
        - name: archive
          ignore_errors: true
          unarchive: {src: large.tar, dest: "{{ small }}"}
        - name: download
          ignore_errors: true
          get_url: {url: "file://%s/large", dest: "{{ small }}/file", force: true}
        - command: sh -c 'ls -A {{ small }}; cat {{ small }}/file; wc -l < {{ small }}/lines'
          name: left
      always:
        - command: umount {{ small }}
"""


def test_on_a_full_disk_all_is_as_it_was_and_the_path_is_said(
    server: SshServer, tmp_path: Path
) -> None:
    make_host(server, tmp_path)
    small = tmp_path / "small"
    small.mkdir()
    (tmp_path / "large").write_bytes(os.urandom(700_000))
    (tmp_path / "t.j2").write_text("{{ 'x' * 700000 }}")
    with tarfile.open(tmp_path / "large.tar", "w") as archive:
        archive.add(tmp_path / "large", "second")
    _, told = run(tmp_path, FULL_DISK % (small, tmp_path))
    assert told.of("left")["stdout"] == "file\nlines\nold130000"
    for name, path in (
        ("large", "file"), ("template", "file"), ("line", "lines"), ("archive", "second"),
        ("download", "file"),
    ):  # fmt: skip
        said = str(told.of(name)["msg"])
        assert said.startswith("No space left on device"), (name, said)
        assert said.endswith(f"{small}/{path}"), (name, said)

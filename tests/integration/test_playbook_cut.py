"""Runs that are cut off: a host without power, a killed control process, a full disk here.

Over a real sshd and by the command line. Nothing half written stays, and `--resume` ends the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ssh_server import SshServer, make_home, make_host, ssh_server
from tests.waiting import wait_until

BIG_BYTES = 150_000_000
HALF = ".big.sappers-new"
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - {name: ask, command: echo said, register: said}
    - {name: set, copy: {content: x, dest: "{{ root }}/conf"}, notify: tell}
    - {name: big, copy: {src: big, dest: "{{ root }}/big"}}
  handlers:
    - name: tell
      shell: echo {{ said.stdout }} > {{ root }}/told; test {{ stop }} != handler || sleep 600
- hosts: all
  gather_facts: false
  tasks:
    - {name: last, shell: "touch {{ root }}/last; test {{ stop }} != play || sleep 600"}
"""
FULL_HERE = """
- hosts: all
  gather_facts: false
  vars: {here: "{{ playbook_dir }}"}
  tasks:
    - {name: ask, command: echo said, register: said}
    - {name: fetch, fetch: {src: "{{ here }}/large", dest: "{{ here }}/small/kept"}}
    - name: fill
      shell: >-
        test -e {{ here }}/filled || cat /dev/zero > {{ here }}/small/ballast
        || touch {{ here }}/filled
      delegate_to: localhost
      connection: local
      when: fill is defined
    - {name: much, command: printf %20000d 1}
    - {name: tell, copy: {content: "{{ said.stdout }}", dest: "{{ here }}/told"}}
"""
DONE = ["big", "conf", "last", "told"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("NO_COLOR", "1")
    return make_home(tmp_path, monkeypatch)


@pytest.fixture
def other() -> Iterator[SshServer]:
    """Another host."""
    with ssh_server() as running:
        yield running


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).with_name("sappers-deploy"))
    command = [program, "playbook", "run", "play.yml", "-i", "hosts.ini", *words]
    return subprocess.Popen(
        command, cwd=tmp_path, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=240)
    assert "Traceback" not in output
    return process.returncode, output


def make_hosts(tmp_path: Path, big_bytes: int = BIG_BYTES, **servers: SshServer) -> None:
    rows = []
    for name, server in servers.items():
        make_host(server, tmp_path, root=tmp_path / name)
        rows.append((tmp_path / "inventory.ini").read_text().replace("lab1", name, 1))
        (tmp_path / name).mkdir()
    (tmp_path / "hosts.ini").write_text("".join(rows))
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    with (tmp_path / "big").open("wb") as file:
        for _ in range(big_bytes // 1_000_000):
            file.write(os.urandom(1_000_000))


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def below(pid: int) -> list[int]:
    """A process and all that it started, those that were started last first."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(word) for word in children.read_text().split()] if children.exists() else []
    return [*(one for child in found for one in below(child)), pid]


def is_half_written(folder: Path) -> bool:
    return (folder / HALF).exists() and (folder / HALF).stat().st_size > 1_000_000


def test_a_host_whose_power_fails_is_unreachable_and_the_run_is_resumed(
    server: SshServer, other: SshServer, tmp_path: Path
) -> None:
    make_hosts(tmp_path, dies=server, lives=other)
    process = start(tmp_path, "-e", "stop=nowhere")
    wait_until("a part is written", lambda: is_half_written(tmp_path / "dies"))
    # First what would say goodbye: from then on the host is as silent as one without power.
    sessions = server.sessions()
    for pid in sessions:
        os.kill(pid, signal.SIGSTOP)
    for pid in (one for session in sessions for one in below(session)):
        if pid not in sessions:
            os.kill(pid, signal.SIGKILL)
    try:
        code, output = end_of(process)
    finally:
        for pid in sessions:
            os.kill(pid, signal.SIGKILL)
    assert code == 4
    assert "unreachable: [dies]" in output
    assert "nothing heard for 20 s" in output
    assert names_in(tmp_path / "lives") == DONE  # it has not waited for the other's end
    assert names_in(tmp_path / "dies") == [HALF, "conf"]  # nobody was there to take it away

    code, output = end_of(start(tmp_path, "--resume", "-e", "stop=nowhere"))
    assert code == 0, output
    assert "to be finished on dies" in output
    assert names_in(tmp_path / "dies") == DONE
    assert (tmp_path / "dies/big").read_bytes() == (tmp_path / "big").read_bytes()
    assert (tmp_path / "dies/told").read_text() == "said\n"


@pytest.mark.parametrize("moment", ["transfer", "handler", "play"])
def test_a_control_process_that_is_killed_leaves_nothing_half_done_and_is_resumed(
    server: SshServer, tmp_path: Path, moment: str
) -> None:
    make_hosts(tmp_path, BIG_BYTES if moment == "transfer" else 1_000_000, host=server)
    folder = tmp_path / "host"
    process = start(tmp_path, "-e", f"stop={moment}")
    reached = {"transfer": HALF, "handler": "told", "play": "last"}[moment]
    wait_until(
        "it is as far",
        lambda: is_half_written(folder) if moment == "transfer" else (folder / reached).exists(),
    )
    process.kill()
    process.communicate()
    wait_until("what was half written is gone", lambda: HALF not in names_in(folder))
    wait_until("the executor is gone", lambda: not server.sessions())
    assert ("big" in names_in(folder)) is (moment != "transfer")

    code, output = end_of(start(tmp_path, "--resume", "-e", "stop=nowhere"))
    assert code == 0, output
    assert names_in(folder) == DONE
    assert (folder / "big").read_bytes() == (tmp_path / "big").read_bytes()
    assert (folder / "told").read_text() == "said\n"


def test_a_full_disk_here_ends_the_run_with_a_word_and_it_is_resumed_once_there_is_room(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    monkeypatch.setenv("SAPPERS_HOME", str(small / "home"))
    try:
        make_host(server, tmp_path, root=tmp_path / "host")
        (tmp_path / "hosts.ini").write_text((tmp_path / "inventory.ini").read_text())
        (tmp_path / "host").mkdir()
        (tmp_path / "play.yml").write_text(FULL_HERE)
        (tmp_path / "large").write_bytes(os.urandom(2_000_000))
        code, output = end_of(start(tmp_path, "-e", "fill=1"))
        assert code == 2
        assert f"No space left on device: {small}/kept" in output
        assert [one.name for one in (small / "kept").rglob("*") if one.is_file()] == []

        (tmp_path / "large").write_bytes(b"small by now")
        code, output = end_of(start(tmp_path, "-e", "fill=1"))
        assert code == 1
        assert "journal" in output
        assert "No space left on device" in output
        assert "--resume goes on" in output

        (small / "ballast").unlink()
        code, output = end_of(start(tmp_path, "--resume", "-e", "fill=1"))
        assert code == 0, output
        assert (tmp_path / "told").read_text() == "said"
    finally:
        subprocess.run(["umount", small], check=True)

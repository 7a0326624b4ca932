"""Playbooks on a host whose disk is full: the old is whole, nothing is half there, and once there
is room the run goes on.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sappers.provisioner.connection.ssh import Connection
from sappers.provisioner.executor.executor import Executor
from tests.integration.ssh_server import SshServer, make_home, make_host
from tests.integration.test_playbook import run

NEW_BYTES = 2_000_000
DISK = "size=3m,mode=755"  # room for what is there, and for nothing new


@pytest.fixture
def executor(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Executor]:
    """On the host, beside what the playbook does there."""
    make_home(tmp_path, monkeypatch)
    with Connection.open(make_host(server, tmp_path)) as connection:
        yield connection.start_executor()


@pytest.fixture
def disk(executor: Executor, tmp_path: Path) -> Iterator[Path]:
    """A small disk of the host's, with no room for more than a few small files."""
    small = tmp_path / "small"
    small.mkdir()
    # In the server's own namespace: this one sees nothing of it.
    executor.check(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(small)])
    executor.write_file(f"{small}/ballast", os.urandom(2_000_000), mode=0o600)
    yield small
    executor.check(["umount", str(small)])


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A web server with the files of the playbook."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "files"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{web.server_port}"
        finally:
            web.shutdown()
            thread.join()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What is to be written: each too large."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(NEW_BYTES))
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/large.j2").write_text("{{ 'x' * 2000000 }}")
    with tarfile.open(folder / "large.tar", "w") as archive:
        archive.add(folder / "large", "large")
    return folder


TASKS = {
    "copied": "copy: {src: large, dest: '{{ disk }}/copied'}",
    "here": "copy: {src: '{{ disk }}/ballast', dest: '{{ disk }}/here', remote_src: true}",
    "kept": "copy: {src: large, dest: '{{ disk }}/kept', backup: true}",
    "filled": "template: {src: large.j2, dest: '{{ disk }}/filled'}",
    "got": "get_url: {url: '{{ address }}/large', dest: '{{ disk }}/got', force: true}",
    "sent/large": "unarchive: {src: large.tar, dest: '{{ disk }}/sent'}",
    "pulled/large": (
        "unarchive: {src: '{{ address }}/large.tar', dest: '{{ disk }}/pulled', remote_src: true}"
    ),
    "row": "lineinfile: {path: '{{ disk }}/row', line: '{{ \"x\" * 2000000 }}'}",
    "line": "blockinfile: {path: '{{ disk }}/line', block: '{{ \"x\" * 2000000 }}'}",
}


def test_the_old_stays_whole_and_the_next_run_goes_on(
    executor: Executor, disk: Path, files: Path, address: str, tmp_path: Path
) -> None:
    paths = {name: f"{disk}/{name}" for name in TASKS}
    for path in paths.values():
        executor.ensure_folder(str(Path(path).parent))
        executor.write_file(path, b"old\n", mode=0o640)
    # What `backup` has kept is whole, and stays.
    listing = ["find", str(disk), "-not", "-name", "kept.*~"]
    there = executor.check(listing).output
    tasks = "".join(
        f"    - {{name: {name}, ignore_errors: true, {task}}}\n" for name, task in TASKS.items()
    )
    play = (
        f"- hosts: all\n  gather_facts: false\n  vars: {{disk: {disk}, address: '{address}'}}\n"
        f"  tasks:\n{tasks}"
    )
    report, told = run(tmp_path, play)
    assert report.counts["lab1"].ignored == len(TASKS)
    for name, path in paths.items():
        message = str(told.of(name)["msg"])
        assert "No space left on device" in message
        assert path in message
        assert executor.read_file(path) == b"old\n"
        found = executor.stat([path])[path]
        assert found is not None
        assert found.mode == 0o640
    assert executor.check(listing).output == there

    executor.check(["mount", "-o", "remount,size=64m", str(disk)])
    report, _ = run(tmp_path, play)
    assert (report.counts["lab1"].changed, report.counts["lab1"].ignored) == (len(TASKS), 0)
    sizes = executor.stat(list(paths.values()))
    assert all(found is not None and found.size >= NEW_BYTES for found in sizes.values())


def test_a_clone_that_has_no_room_for_its_files_is_ended_by_the_next_run(
    executor: Executor, disk: Path, tmp_path: Path
) -> None:
    """What is fetched is small, and stays; what is checked out is not."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_text("the same line\n" * 200_000)
    as_somebody = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    for words in (("init", "-q"), ("add", "large"), (*as_somebody, "commit", "-qm", "one")):
        subprocess.run(["git", "-C", source, *words], check=True)
    play = f"""
- hosts: all
  gather_facts: false
  tasks:
    - {{name: clone, git: {{repo: "file://{source}", dest: {disk}/clone}}}}
"""
    report, told = run(tmp_path, play)
    assert report.counts["lab1"].failed == 1
    assert "checkout failed" in str(told.of("clone")["msg"])
    executor.check(["mount", "-o", "remount,size=64m", str(disk)])
    report, _ = run(tmp_path, play)
    assert (report.counts["lab1"].changed, report.counts["lab1"].failed) == (1, 0)
    whole = ["cmp", str(source / "large"), f"{disk}/clone/large"]
    executor.check(whole)
    report, _ = run(tmp_path, play)
    assert report.counts["lab1"].changed == 0


def test_no_room_for_what_is_on_its_way(
    executor: Executor, files: Path, address: str, tmp_path: Path
) -> None:
    """A full /tmp, where downloads and archives wait: which disk it is, is said."""
    play = f"""
- hosts: all
  gather_facts: false
  tasks:
    - {{name: mount, command: mount -t tmpfs -o size=1m tmpfs /var/tmp}}
    - name: write
      get_url: {{url: "{address}/large", dest: {tmp_path}/got, tmp_dest: /var/tmp}}
      ignore_errors: true
    - {{name: umount, command: umount /var/tmp}}
"""
    _, told = run(tmp_path, play)
    message = str(told.of("write")["msg"])
    assert "No space left on device" in message
    assert "/var/tmp" in message
    assert not (tmp_path / "got").exists()

"""The cache of parts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest

import sappers
from sappers.images.parts import Parts
from tests.waiting import wait_until

PROJECT = Path(sappers.__file__).parents[1]


def test_what_a_killed_build_left_is_swept_and_nothing_behind_a_link(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "cache", tmp_path / "runtime.lock")
    with parts.alone(), parts.scratch("killed") as folder:
        left = folder.parent / "left"
        left.mkdir()
    with parts.alone():
        assert not left.exists()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True)
    left.parent.rmdir()
    left.parent.symlink_to(elsewhere)
    with parts.alone():
        assert (elsewhere / "precious").is_dir()


def test_who_waits_for_another_build_says_so(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "cache", tmp_path / "runtime.lock")
    said: Queue[str] = Queue()

    def build() -> None:
        with parts.alone(said.put):
            said.put("alone")

    with parts.alone(said.put):
        other = Thread(target=build)
        other.start()
        assert "another build" in said.get(timeout=60)
        assert said.empty()
    other.join(60)
    assert said.get_nowait() == "alone"


FETCH = """
import sys
from pathlib import Path
from sappers.images.debian import Package
from sappers.images.parts import Parts
from tests.waiting import wait_until
from sappers.images.tree import Tree
cache = Path(sys.argv[1])
parts = Parts(cache, cache / "runtime.lock")
with parts.alone():
    if sys.argv[2] == "packages":
        parts.unpack([Package("hello_1_amd64.deb", "")], Tree(cache, "hello"), lambda _: None)
    else:
        parts.wheels("hello==1")
"""


@pytest.mark.parametrize("what", ["packages", "wheels"])
def test_a_fetch_that_is_killed_leaves_nothing_for_ever(tmp_path: Path, what: str) -> None:
    apt, pip = tmp_path / "bin" / "apt-get", tmp_path / "bin" / "pip" / "__main__.py"
    pip.parent.mkdir(parents=True)
    # Their parent is the guard, and its parent the build.
    apt.write_text(
        "#!/bin/sh\n: > hello_1_amd64.deb.part\n"
        "read -r _ _ _ build _ < /proc/$PPID/stat\nkill -9 $build; sleep 1000\n"
    )
    apt.chmod(0o755)
    (pip.parent / "__init__.py").touch()  # or the real one is found first
    pip.write_text(
        "import os, time\nfrom pathlib import Path\n"
        "os.kill(int(Path(f'/proc/{os.getppid()}/stat').read_text().split()[3]), 9)\n"
        "time.sleep(1000)\n"
    )
    cache = tmp_path / "cache"
    path = f"{apt.parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": f"{apt.parent}:{PROJECT}"}
    killed = [sys.executable, "-c", FETCH, str(cache), what]
    done = subprocess.run(killed, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL

    def left() -> list[Path]:
        return [path for path in cache.rglob("*") if path.is_file()]

    wait_until("what was fetched is gone", lambda: left() == [cache / "lock"])

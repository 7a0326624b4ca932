"""Real hosts for end-to-end tests: a lab of their own, removed even when a test fails.

`SAPPERS_E2E_LAB` names it (`e2e`), so that several runs on one machine do not meet. A run that was
killed is swept by the next. With `SAPPERS_E2E_KEEP=1` the lab stays for the next run: it saves the
bootstrap while one writes a test.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sappers.config import ControlHome, control_home
from sappers.lab.lab import Lab
from tests.e2e.lab_cluster import LabCluster

LAB_NAME = os.environ.get("SAPPERS_E2E_LAB", "e2e")
KEEP = os.environ.get("SAPPERS_E2E_KEEP") == "1"
COMMAND_SECONDS = 600.0
SSH_SECONDS = 180.0

Finished = subprocess.CompletedProcess[str]
Deploy = Callable[..., Finished]
OnHost = Callable[..., Finished]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def home() -> Iterator[ControlHome]:
    """The control machine's files of this run; the cache is the machine's, for the base root."""
    folder = Path(tempfile.gettempdir()) / f"sappers-{LAB_NAME}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = ControlHome(data=folder, cache=control_home(os.environ).cache)
        _sweep(home)
        yield home
        _sweep(home)


def _sweep(home: ControlHome) -> None:
    """Remove all labs of the home, then the home."""
    if KEEP:
        return
    for path in (home.data / "labs").glob("*"):
        Lab(path.name, home).down()
    shutil.rmtree(home.data, ignore_errors=True)


@pytest.fixture(scope="session")
def deploy(home: ControlHome) -> Deploy:
    """Runs `sappers-deploy ARGS…`; its exit code, stdout and stderr.

    `at` is another home than this run's, as if it were another machine's.
    """
    program = Path(sys.executable).with_name("sappers-deploy")
    environment = os.environ | {
        "SAPPERS_CACHE": str(home.cache),
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }

    def run(
        *arguments: str, timeout_seconds: float = COMMAND_SECONDS, at: Path = home.data
    ) -> Finished:
        return subprocess.run(
            [program, *arguments],
            env=environment | {"SAPPERS_HOME": str(at)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )

    return run


@pytest.fixture(scope="session")
def lab(home: ControlHome) -> Iterator[Lab]:
    """Three hosts that answer. A test that kills or cuts one brings it back."""
    lab = Lab(LAB_NAME, home, progress=print)
    try:
        lab.up(3)
        yield lab
    finally:
        if not KEEP:
            lab.down()


@pytest.fixture(scope="session")
def cluster(lab: Lab, home: ControlHome, deploy: Deploy) -> LabCluster:
    """The lab's hosts as a cluster; whole. A test that breaks it mends it."""
    for command in (("image", "build", "hello"), ("bootstrap", str(lab.inventory))):
        done = deploy(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    cluster = LabCluster(lab, home)
    cluster.await_whole()
    return cluster


@pytest.fixture(scope="session")
def on_host() -> OnHost:
    """Runs a shell command on a host over SSH, strict about the host's key."""

    def run(lab: Lab, host: str, command: str, *, user: str = "root") -> Finished:
        return subprocess.run(
            lab.ssh_command(host, (command,), user=user),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SSH_SECONDS,
        )

    return run

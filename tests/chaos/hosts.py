"""Hosts to torment: a lab with a control machine's files of its own, removed at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sappers.config import ControlHome, control_home
from sappers.lab.lab import Lab
from tests.chaos.clocks import make_clocks_step
from tests.e2e.lab_cluster import LabCluster


@contextmanager
def cluster_on(lab_name: str, hosts: int) -> Iterator[LabCluster]:
    """A bootstrapped cluster on so many fresh hosts, whole; no guest runs."""
    folder = Path(tempfile.gettempdir()) / f"sappers-{lab_name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    home = ControlHome(data=folder, cache=control_home(os.environ).cache)
    lab = Lab(lab_name, home)
    try:
        lab.down()  # what a killed run left
        lab.up(hosts)
        for command in (("image", "build", "hello"), ("bootstrap", str(lab.inventory))):
            _deploy(home, *command)
        cluster = LabCluster(lab, home)
        cluster.await_whole()
        make_clocks_step(cluster)
        cluster.await_whole()
        yield cluster
    finally:
        lab.down()
        shutil.rmtree(folder, ignore_errors=True)


def _deploy(home: ControlHome, *arguments: str) -> None:
    environment = {"SAPPERS_HOME": str(home.data), "SAPPERS_CACHE": str(home.cache)}
    program = Path(sys.executable).with_name("sappers-deploy")
    done = subprocess.run(
        [program, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"

"""Three throw-away hosts and the commands that people type, for all benchmarks alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Endpoint
from sappers.config import ControlHome, control_home
from sappers.errors import ApiError
from sappers.hub.credentials import AgentCredentials
from sappers.lab.lab import Lab
from sappers.model.view import ClusterView
from sappers.provisioner.control.identity import load_control_identity
from sappers.provisioner.control.record import (
    OPERATOR_CERTIFICATE_FILE,
    OPERATOR_KEY_FILE,
    load_record,
)
from sappers.security.identity import load_identity
from sappers.security.tls import Identity

LAB_NAME = "bench"
HOSTS = 3
COMMAND_SECONDS = 600.0
WHOLE_SECONDS = 120.0
# A cluster that formed or lost somebody is busy for a moment; figures are taken at rest.
REST_SECONDS = 5.0


class Rig:
    """A lab, and after `bootstrap` a cluster on it. What it makes is below `home` and in the cache.

    Attributes:
        home: The control machine's files of this run alone; the cache is the machine's.
    """

    def __init__(self, folder: Path, name: str, say: Callable[[str], None]) -> None:
        self.home = ControlHome(folder, control_home(os.environ).cache)
        self.lab = Lab(name, self.home)
        self.say = say
        self.hosts = 0
        self._environment = os.environ | {
            "SAPPERS_HOME": str(self.home.data),
            "SAPPERS_CACHE": str(self.home.cache),
            "NO_COLOR": "1",
        }

    @classmethod
    @contextmanager
    def open(
        cls, say: Callable[[str], None], name: str = LAB_NAME, hosts: int = HOSTS
    ) -> Iterator[Self]:
        """A rig with fresh hosts; all of it is removed at the end, whatever happens."""
        folder = Path(tempfile.gettempdir()) / f"sappers-{name}"
        folder.mkdir(mode=0o700, exist_ok=True)
        rig = cls(folder, name, say)
        try:
            rig.lab.down()  # what a killed run left
            rig.grow(hosts)
            yield rig
        finally:
            rig.lab.down()
            shutil.rmtree(folder, ignore_errors=True)

    def grow(self, hosts: int) -> None:
        """Have at least so many hosts; new ones are bare until the next bootstrap."""
        self.say(f"starting {hosts} hosts")
        self.lab.up(hosts)
        self.hosts = hosts

    # -- commands ----------------------------------------------------------------------------------

    def deploy(self, *arguments: str) -> tuple[str, float]:
        """`sappers-deploy ARGUMENTS…`: stdout, and the seconds it took from exec to exit."""
        began = time.monotonic()
        with self.deploying(*arguments) as process:
            stdout, stderr = process.communicate(timeout=COMMAND_SECONDS)
            seconds = time.monotonic() - began
        if process.returncode:
            raise RuntimeError(f"sappers-deploy {' '.join(arguments)}: {stdout}{stderr}")
        return stdout, seconds

    @contextmanager
    def deploying(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """`sappers-deploy ARGUMENTS…` while it runs."""
        program = Path(sys.executable).with_name("sappers-deploy")
        process = subprocess.Popen(
            [program, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def bootstrap(self) -> tuple[dict[str, Any], float]:
        """What `bootstrap -o json` prints, and the seconds it took from exec to exit."""
        printed, seconds = self.deploy("bootstrap", str(self.lab.inventory), "-o", "json")
        return msgspec.json.decode(printed), seconds

    # -- the cluster -------------------------------------------------------------------------------

    @property
    def cluster_folder(self) -> Path:
        """The cluster's keys and record."""
        return self.home.cluster(self.home.last_cluster.read_text().strip())

    @property
    def operator(self) -> Identity:
        """Who asks."""
        return load_identity(
            self.cluster_folder, cert=OPERATOR_CERTIFICATE_FILE, key=OPERATOR_KEY_FILE
        )

    def hub_credentials(self) -> AgentCredentials:
        """What a member admits itself and its guests to the hub with."""
        secrets = load_control_identity(self.cluster_folder)
        assert secrets is not None
        host = next(iter(self.endpoints()))
        reads = self.lab.ssh_command(host, ("cat /var/lib/sappers/hub.key",))
        key = subprocess.run(reads, capture_output=True, check=True, text=True).stdout
        return AgentCredentials(secrets.hub.account_seed, key)

    def endpoints(self) -> dict[str, Endpoint]:
        """By host name."""
        return {
            one.name: Endpoint(one.name, one.address, one.http_port, one.node_id)
            for one in load_record(self.cluster_folder).members
        }

    @contextmanager
    def client(self, *hosts: str) -> Iterator[OperatorClient]:
        """A client of these members alone; of all when none is named."""
        endpoints = self.endpoints()
        chosen = [endpoints[host] for host in hosts] or list(endpoints.values())
        with OperatorClient(self.operator, chosen) as client:
            yield client

    def await_whole(self, client: OperatorClient) -> ClusterView:
        """Return once nothing is wrong: all members, voters and hub servers, one commit index."""
        deadline = time.monotonic() + WHOLE_SECONDS
        while True:
            try:
                view = client.view()
                if _is_whole(view, self.hosts):
                    return view
                wrong = "; ".join(view.attention) or "members differ in what they have applied"
            except ApiError as error:
                wrong = error.message
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster is not whole: {wrong}")
            time.sleep(0.1)


def _is_whole(view: ClusterView, hosts: int) -> bool:
    indexes = {one.applied_index for one in view.members}
    servers = {one.member.id: one.hub for one in view.members}
    return (
        not view.attention
        and view.leader_id is not None
        and len(view.members) == hosts
        and view.voters_alive == len(view.electorate)
        and all(servers.get(server) == "running" for server in view.hub_servers)
        and len(view.hub_servers) > 0
        and len(indexes) == 1
    )

"""Connect, gather facts, find every problem, and keep other runs away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sappers.errors import HostUnfit
from sappers.model.member import Ports
from sappers.provisioner.bootstrap.fitness import AGENT_UNIT, find_problems, find_shared_problems
from sappers.provisioner.bootstrap.packages import packages_for
from sappers.provisioner.bootstrap.run import HostProblems, HostRun, Meeting
from sappers.provisioner.connection.ssh import Connection
from sappers.provisioner.places import CURRENT, LOCK_PATH

_DISK_PATHS = ("/var", "/opt")


class Connect:
    """Leaves the host with a connection, an executor, facts and the run's lock."""

    title = "connect"

    def __init__(
        self,
        ports: Ports,
        meeting: Meeting,
        get_ready: Callable[[HostRun], None],
        *,
        holder: str,
        connect_timeout_seconds: float,
    ) -> None:
        """`get_ready` looks at what a fit host had before, for the plays; raises HostError."""
        self._ports = ports
        self._meeting = meeting
        self._get_ready = get_ready
        self._holder = holder
        self._connect_timeout_seconds = connect_timeout_seconds

    def run(self, host: HostRun) -> str | None:
        """Raises HostProblems with all that is wrong, HostUnreachable, or LockHeld."""
        if host.member.problems:
            raise HostProblems(host.name, host.member.problems)
        host.connection = Connection.open(
            host.host, connect_timeout_seconds=self._connect_timeout_seconds
        )
        host.executor = host.connection.start_executor(runs_tasks=True)
        host.facts = host.executor.gather_facts(
            disk_paths=_DISK_PATHS, packages=packages_for(host.member)
        )
        problems = (*self._own_problems(host), *self._shared_problems(host))
        if problems:
            raise HostProblems(host.name, problems)
        if not host.check:
            host.executor.acquire_lock(LOCK_PATH, self._holder)
        self._get_ready(host)
        return None

    def _own_problems(self, host: HostRun) -> Sequence[HostUnfit]:
        units = _active_units(host) if host.facts.systemd else {}
        host.running = units.get(AGENT_UNIT) == "active"
        installed = host.executor.stat([CURRENT])[CURRENT] is not None
        return find_problems(
            host.name,
            host.facts,
            self._ports,
            our_units=units,
            installed=installed and set(packages_for(host.member)) <= set(host.facts.packages),
        )

    def _shared_problems(self, host: HostRun) -> Sequence[HostUnfit]:
        return find_shared_problems(host.name, self._meeting.meet(host.name, host.facts))


def _active_units(host: HostRun) -> Mapping[str, str]:
    """States of our units that are active, or on their way, by name."""
    listed = host.executor.run(
        ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating",
         "sappers*"]
    )  # fmt: skip
    rows = (line.split() for line in listed.stdout.splitlines())
    return {row[0]: row[2] for row in rows if len(row) > 2}

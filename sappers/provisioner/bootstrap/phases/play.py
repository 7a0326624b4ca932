"""A play of bootstrap's playbook as a step of every host's way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from sappers.errors import ApiError, HostError
from sappers.provisioner.bootstrap.cluster_probe import ClusterProbe
from sappers.provisioner.bootstrap.repair_key import repair_login_of
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.bootstrap.turns import Turns
from sappers.provisioner.places import UNIT_NAME
from sappers.provisioner.playbook.language.model import Play

IDENTITY_PLAY, START_PLAY, RESTART_PLAY = "identity", "start", "restart"
PATIENCE_SECONDS = 60.0
_HEALTHY_AGAIN_SECONDS = 90.0
_PAUSE_SECONDS = 0.3

Around = Callable[[HostRun], AbstractContextManager[None]]


class PlayPhase:
    """Runs one play; where it has `serial: 1`, on one host after the other."""

    def __init__(
        self,
        play: Play,
        around: Around | None = None,
        patience_seconds: float | None = PATIENCE_SECONDS,
    ) -> None:
        """Make it.

        Args:
            around: What this machine has to do before and after it on a host.
            patience_seconds: As of `Turns`; None where turns keep the cluster alive.
        """
        self.title = str(play.name)
        self._play = play
        self._around = around
        self._turns = Turns(patience_seconds) if play.serial else None

    def run(self, host: HostRun) -> str | None:
        """Raises HostError where a task failed, PlaybookError where the playbook is wrong."""
        with ExitStack() as stack:
            if self._turns is not None:
                stack.enter_context(self._turns.turn(lambda: host.note("waiting for its turn")))
            if self._around is not None:
                stack.enter_context(self._around(host))
            stack.callback(host.during_play.close)
            changes = host.plays.run(self._play)
            host.changes += changes or ()
        return "nothing to do" if changes is None and not host.changes else None


def membership(remember: Callable[[HostRun], None]) -> Around:
    """Around the play that makes a host a member: after it the host is one.

    It is remembered before: a run that is killed in between must know its own host again.
    """

    @contextmanager
    def around(host: HostRun) -> Iterator[None]:
        if not host.check:
            remember(host)
        yield
        if host.settled.is_member or not host.check:
            host.node_id = host.settled.node_id
            host.repair_login = repair_login_of(host)

    return around


def useful_again(probe: ClusterProbe) -> Around:
    """Around the play that restarts agents: the turn ends once the member is of use again.

    The next one may be the last voter.
    """

    @contextmanager
    def around(host: HostRun) -> Iterator[None]:
        led = host.is_outdated() and not host.check and _knows_leader(probe, host)
        yield
        if led:
            _await_leader(probe, host)

    return around


def _knows_leader(probe: ClusterProbe, host: HostRun) -> bool:
    """Where nobody leads there is no quorum to lose; the last phase says so."""
    try:
        return probe.health(host).leader_id is not None
    except ApiError:
        return False


def _await_leader(probe: ClusterProbe, host: HostRun) -> None:
    deadline = time.monotonic() + _HEALTHY_AGAIN_SECONDS
    while True:
        try:
            if probe.health(host).leader_id:
                return
            reason = "it knows no leader"
        except ApiError as error:
            reason = error.message
        if time.monotonic() > deadline:
            raise HostError(
                host.name,
                f"its agent is not healthy {_HEALTHY_AGAIN_SECONDS:.0f} s after its restart: "
                f"{reason}",
                hint=f"journalctl -u {UNIT_NAME} on the host says more",
            )
        time.sleep(_PAUSE_SECONDS)

"""A reading of guests that fails is no reading, and no secret."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from sappers.agent.observer import Observer
from sappers.errors import SupervisorError
from sappers.model.cluster_state import ClusterState
from sappers.model.observation import GuestProcess, RaftRole, RaftStatus
from tests.unit.clocks import FixedClock

TROUBLE = "guests cannot be looked at"


class Launcher:
    """One whose supervisor says what `problem` is, if there is one."""

    def __init__(self) -> None:
        self.problem = ""

    async def observe(self) -> dict[str, GuestProcess]:
        if self.problem:
            raise SupervisorError(self.problem)
        return {"web-1": GuestProcess("web-1", running=True)}


def observer_of(launcher: Launcher) -> Observer:
    async def nobody() -> None:
        return None

    hub = SimpleNamespace(running_with=nobody, connected=False)
    actuator = SimpleNamespace(
        under_way=frozenset(), hub_peers=(), hub_refuses=(), hub_access="", hub_left=False,
        restarts={}, failed_launches={},
    )  # fmt: skip
    members = SimpleNamespace(members=lambda: ())
    nothing: Any = SimpleNamespace(
        last=dict, readings=lambda *_: {}, seconds_left=dict, surely_ended=lambda _: frozenset()
    )
    return Observer(
        clock=FixedClock(0.0), membership=members, launcher=launcher, hub_server=hub,
        hub_client=hub, inbox=nothing, actuator=actuator, spread=nothing, pulses=nothing,
        leases=nothing, durable=lambda: None, access=lambda _: "", me_id="n1",
    )  # fmt: skip


async def test_that_guests_cannot_be_looked_at_is_logged_once_a_reason() -> None:
    launcher = Launcher()
    observer = observer_of(launcher)
    status = RaftStatus(RaftRole.FOLLOWER, 1, "n1", 0, 0, ())
    log: Any = SimpleNamespace(status=lambda: status, state=lambda: ClusterState())

    with capture_logs() as logged:
        for problem in ("systemctl fails", "systemctl fails", "no bus", "", "no bus"):
            launcher.problem = problem
            seen = (await observer.observe(log)).guests
            assert bool(seen) is not bool(problem)
    said = [line["reason"] for line in logged if line["event"] == TROUBLE]
    assert said == ["systemctl fails", "no bus", "no bus"]

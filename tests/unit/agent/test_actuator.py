"""The actuator with a launcher that remembers guests: what failed, and what is not here yet."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from structlog.testing import capture_logs

from sappers.agent.actuator import Actuator
from sappers.decisions.reconcile_member import reconcile_member
from sappers.errors import HubError, ImageIncomplete, ImageUntrusted, SappersError
from sappers.model.actions import LaunchGuest, RestartGuest, StopGuest
from sappers.model.commands import SetHub
from sappers.model.image import Blob, Manifest, MicrovmBoot
from sappers.model.observation import HubObservation, MemberObservation
from sappers.model.policy import HealthSettings
from tests.fake_member import make_allocation
from tests.unit.worlds import commit, founded

BLOB = Blob("0" * 64, 1, ("0" * 64,))
MANIFEST = Manifest("hello", "x86_64", MicrovmBoot(BLOB, BLOB))
ALLOCATION = make_allocation("hello", "m1")


class Host:
    """A host whose image is here, or is not for a reason."""

    def __init__(self) -> None:
        self.guests: set[str] = set()
        self.lacks: SappersError | None = None
        self.now = 7.0
        self.hub_runs = 0
        self.hub_fails = ""
        self.hub_may_run = asyncio.Event()
        self.hub_may_run.set()
        whatever: Any = None
        self.actuator = Actuator(
            clock=self,
            launcher=self,
            whole_image=self.whole_image,
            hub_server=self,
            submit=whatever,
        )

    def monotonic(self) -> float:
        return self.now

    async def whole_image(self, digest: str) -> Manifest:
        if self.lacks:
            raise self.lacks
        return MANIFEST

    async def launch(self, allocation: Any, manifest: Manifest) -> None:
        self.guests.add(allocation.id)

    async def stop(self, allocation_id: str, grace_seconds: float) -> None:
        self.guests.discard(allocation_id)

    async def run(self, wanted: Any) -> None:
        """Of the hub's server."""
        self.hub_runs += 1
        await self.hub_may_run.wait()
        if self.hub_fails:
            raise HubError(self.hub_fails)

    async def act(self, action: Any) -> None:
        self.actuator.execute([action])
        while self.actuator.under_way:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_an_image_that_is_not_whole_is_no_failed_launch() -> None:
    host = Host()
    host.lacks = ImageIncomplete("2 chunks are missing", missing=("1" * 64,))
    await host.act(LaunchGuest(ALLOCATION, attempt=0))
    assert (host.guests, host.actuator.failed_launches) == (set(), {})
    host.lacks = None
    assert host.actuator.restarts == {}
    await host.act(LaunchGuest(ALLOCATION, attempt=0))
    assert host.guests == {ALLOCATION.id}
    assert host.actuator.restarts == {ALLOCATION.id: (0, 7.0)}  # it is launched once


async def test_a_restart_that_finds_no_whole_image_is_not_counted() -> None:
    host = Host()
    host.lacks = ImageIncomplete("2 chunks are missing", missing=("1" * 64,))
    await host.act(RestartGuest(ALLOCATION, attempt=1, reason="guest panicked"))
    assert host.actuator.restarts == {}
    host.lacks = None
    await host.act(RestartGuest(ALLOCATION, attempt=1, reason="guest panicked"))
    assert host.actuator.restarts == {ALLOCATION.id: (1, 7.0)}
    host.now, host.lacks = 9.0, ImageIncomplete("1 chunk is missing", missing=("1" * 64,))
    await host.act(RestartGuest(ALLOCATION, attempt=2, reason="guest panicked"))
    assert host.actuator.restarts == {ALLOCATION.id: (1, 7.0)}


async def test_a_guest_goes_on_while_it_is_drained() -> None:
    host = Host()
    host.guests.add("hello-1")
    host.actuator.execute([StopGuest("hello-1", "it is wanted no more", drain_seconds=0.05)])
    await asyncio.sleep(0)
    assert host.guests == {"hello-1"}
    async with asyncio.timeout(60):
        while host.actuator.under_way:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert host.guests == set()


async def test_an_image_that_may_not_be_launched_is_a_failed_launch() -> None:
    host = Host()
    host.lacks = ImageUntrusted("nobody trusted signed image hello", hint="trust its key")
    await host.act(LaunchGuest(ALLOCATION, attempt=0))
    assert host.actuator.failed_launches == {
        ALLOCATION.id: "nobody trusted signed image hello; trust its key"
    }
    other = msgspec.structs.replace(ALLOCATION, id="hello-2")
    host.lacks = None
    await host.act(LaunchGuest(other, attempt=0))
    assert host.guests == {"hello-2"}


def hub_plan(host: Host) -> list[Any]:
    """What a plan says about the hub's server, which runs with what the actuator says."""
    state, _ = commit(founded(1), SetHub(("m1",)))
    actuator = host.actuator
    hub = HubObservation(
        server_running=host.hub_runs > 0,
        server_peers=actuator.hub_peers,
        server_refuses=actuator.hub_refuses,
    )
    seen = MemberObservation(hub=hub, caught_up=True)
    return list(reconcile_member(state, seen, "m1", 0.0, HealthSettings()))


async def test_a_renewed_certificate_has_the_hubs_server_run_once_more() -> None:
    host = Host()
    (run,) = hub_plan(host)
    await host.act(run)
    assert hub_plan(host) == []
    host.actuator.look_at_the_hub_again()
    assert hub_plan(host) == [run]
    await host.act(run)
    assert hub_plan(host) == []


async def test_one_that_is_renewed_while_the_server_starts_is_not_forgotten() -> None:
    host = Host()
    (run,) = hub_plan(host)
    host.hub_may_run.clear()
    host.actuator.execute([run])
    while not host.hub_runs:  # noqa: ASYNC110
        await asyncio.sleep(0)
    host.actuator.look_at_the_hub_again()
    host.hub_may_run.set()
    while host.actuator.under_way:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert hub_plan(host) == [run]


async def test_a_failure_is_logged_once_for_each_reason() -> None:
    host = Host()
    (run,) = hub_plan(host)
    with capture_logs() as said:
        for reason in (
            "no room",
            "no room",
            "no room",
            "it does not start",
            "no room",
            "",
            "no room",
        ):
            host.hub_fails = reason
            await host.act(run)
        host.actuator.execute([])  # it is asked for no more
        await host.act(run)
    told = [one["error"] for one in said if one["event"] == "action failed"]
    assert told == ["no room", "it does not start", "no room", "no room", "no room"]

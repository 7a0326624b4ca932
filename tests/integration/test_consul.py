"""Guests in a real Consul: registered, reported, corrected; and a Consul that is away or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sappers.agent import registration
from sappers.agent.clock import SystemClock
from sappers.agent.registration import Registration
from sappers.config import ConsulSettings
from sappers.consul import registry
from sappers.consul.calls import ConsulCalls
from sappers.consul.registry import ConsulRegistry
from sappers.errors import ConsulError
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.repair import HEALER
from sappers.model.workload import MONITOR
from sappers.provisioner.bootstrap.consul_program import FETCH_CONSUL
from tests.consul_agents import DevConsul
from tests.loopback import own_network
from tests.unit.service_worlds import ME, allocation, world

NETWORK = own_network()  # each has a Consul of its own, at one port
ID = "sappers-hello-00000001"
UNHEALTHY = AllocationStatus.UNHEALTHY


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[DevConsul]:
    one = DevConsul(f"{NETWORK}1", tmp_path)
    one.start()
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "REPEAT_SECONDS", 0.3)
    monkeypatch.setattr(registration, "PAUSE_SECONDS", 0.05)


@asynccontextmanager
async def registering(
    settings: ConsulSettings, answer_seconds: float = 2.0
) -> AsyncIterator[Registration]:
    calls = ConsulCalls(settings, answer_seconds=answer_seconds)
    one = Registration(ConsulRegistry(calls), SystemClock())
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        calls.close()


async def until(
    one: Registration, state: ClusterState, look: Callable[[], Any], seconds: float = 90.0
) -> Any:
    """What `look` returns once it is true, while the agent's loop goes round."""
    deadline = time.monotonic() + seconds
    while True:
        one.follow(state, ME, ())
        if found := await asyncio.to_thread(look):
            return found
        assert time.monotonic() < deadline, one.trouble
        await asyncio.sleep(0.05)


def instances(consul: DevConsul, name: str = "hello") -> dict[str, tuple[str, int, str]]:
    """Address, port and health of each instance, as whoever asks for the service gets it."""
    return {
        one["Service"]["ID"]: (
            one["Service"]["Address"],
            one["Service"]["Port"],
            next((c["Status"] for c in one["Checks"] if c["ServiceID"]), "no check"),
        )
        for one in consul.get(f"/v1/health/service/{name}")
    }


async def test_guests_are_registered_reported_and_gone(consul: DevConsul) -> None:
    async with registering(consul.settings) as one:
        state = world(allocation(1), allocation(2, host_port=None))
        await until(
            one,
            state,
            lambda: (
                instances(consul)
                == {
                    ID: ("10.0.0.1", 20001, "passing"),
                    "sappers-hello-00000002": ("10.0.0.1", 0, "passing"),
                }
            ),
        )
        assert "hello" in consul.get("/v1/catalog/services")
        state = world(allocation(1, status=UNHEALTHY, reason="guest panicked"))
        await until(one, state, lambda: instances(consul) == {ID: ("10.0.0.1", 20001, "critical")})
        check = consul.get("/v1/agent/checks")[f"service:{ID}"]
        assert check["Output"] == "unhealthy: guest panicked"
        await until(one, world(allocation(1), service="shop"), lambda: instances(consul, "shop"))
        assert instances(consul) == {}
        await until(one, world(), lambda: instances(consul, "shop") == {})
        await until(one, world(), lambda: one.word == "ok")


async def test_healers_and_monitors_are_in_the_catalogue_as_any_guest(consul: DevConsul) -> None:
    healer = allocation(2, id="healer-0a1b2c3d", workload=HEALER, repair="r1", host_port=None)
    monitor = allocation(3, id="monitor-0a1b2c3d", workload=MONITOR, role="monitor", host_port=9100)
    found = {
        "hello": {ID: ("10.0.0.1", 20001, "passing")},
        HEALER: {f"sappers-{healer.id}": ("10.0.0.1", 0, "passing")},
        MONITOR: {f"sappers-{monitor.id}": ("10.0.0.1", 9100, "passing")},
    }
    async with registering(consul.settings) as one:
        state = world(allocation(1), healer, monitor)
        await until(one, state, lambda: all(instances(consul, s) == found[s] for s in found))
        assert found.keys() <= consul.get("/v1/catalog/services").keys()
        over = msgspec.structs.replace(healer, status=AllocationStatus.STOPPED)
        state = world(allocation(1), over, monitor)
        await until(one, state, lambda: instances(consul, HEALER) == {})
        assert instances(consul, MONITOR) == found[MONITOR]


async def test_drift_is_corrected_and_others_are_left_alone(consul: DevConsul) -> None:
    foreign = {"Name": "hello", "ID": "sappers-hello-99999999", "Port": 1}
    theirs = {**foreign, "ID": "sappers-a", "Meta": {"sappers_cluster": "c1",
              "sappers_member": "m2", "sappers_allocation": "a"}}  # fmt: skip
    stale = {**theirs, "ID": "sappers-b", "Meta": {"sappers_cluster": "c1",
             "sappers_member": "m1", "sappers_allocation": "b"}}  # fmt: skip
    for body in (foreign, theirs, stale):
        consul.put("/v1/agent/service/register", body)
    state = world(allocation(1))
    async with registering(consul.settings) as one:
        await until(one, state, lambda: ID in instances_of(consul))
        assert instances_of(consul) == {ID, foreign["ID"], "sappers-a"}
        consul.put(f"/v1/agent/service/deregister/{ID}")
        await until(one, state, lambda: ID in instances_of(consul))
        moved = {"Name": "hello", "ID": ID, "Address": "10.9.9.9", "Port": 7}
        consul.put("/v1/agent/service/register", moved)
        await until(one, state, lambda: instances(consul).get(ID) == ("10.0.0.1", 20001, "passing"))
        consul.put(f"/v1/agent/check/deregister/service:{ID}")
        await until(one, state, lambda: f"service:{ID}" in consul.get("/v1/agent/checks"))


def instances_of(consul: DevConsul) -> set[str]:
    return set(consul.get("/v1/agent/services"))


async def test_guests_of_an_agent_that_fell_silent_turn_critical(
    consul: DevConsul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "TTL_SECONDS", 1)
    async with registering(consul.settings) as one:
        await until(one, world(allocation(1)), lambda: instances(consul))
    deadline = time.monotonic() + 90
    while instances(consul)[ID][2] != "critical":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert "TTL expired" in consul.get("/v1/agent/checks")[f"service:{ID}"]["Output"]


async def test_a_consul_that_starts_late_and_again_is_told_everything(tmp_path: Path) -> None:
    consul = DevConsul(f"{NETWORK}2", tmp_path)
    state = world(allocation(1))
    async with registering(consul.settings) as one:
        await until(one, state, lambda: "no connection" in one.trouble)
        assert one.word == "down"
        try:
            for _ in range(2):  # it forgets everything when it ends
                await asyncio.to_thread(consul.start)
                await until(one, state, lambda: ID in instances_of(consul))
                await until(one, state, lambda: one.word == "ok")
                consul.stop()
                await until(one, state, lambda: one.word == "down")
        finally:
            consul.stop()


async def test_a_consul_that_accepts_and_never_answers_holds_nothing_up() -> None:
    with socket.create_server((f"{NETWORK}3", 8500)):
        settings = ConsulSettings(enabled=True, address=f"{NETWORK}3:8500")
        state = world(allocation(1))
        async with registering(settings, answer_seconds=3.0) as one:
            longest, before = 0.0, time.monotonic()
            while "no answer" not in one.trouble:
                one.follow(state, ME, ())
                await asyncio.sleep(0.01)
                longest, before = max(longest, time.monotonic() - before), time.monotonic()
            assert longest < 2.5  # a call that held it up would take all of its time
            assert one.word == "down"


async def test_an_answer_that_is_no_list_of_services_is_an_error(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"x": [1]}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, f"{NETWORK}4", 8500)
    async with server:
        calls = ConsulCalls(ConsulSettings(enabled=True, address=f"{NETWORK}4:8500"))
        with pytest.raises(ConsulError, match="makes no sense"):
            await ConsulRegistry(calls).services()
        calls.close()


async def test_a_token_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    settings = ConsulSettings(enabled=True, token_file=str(tmp_path / "none"))
    calls = ConsulCalls(settings)
    with pytest.raises(ConsulError, match="none: No such file"):
        await ConsulRegistry(calls).services()
    calls.close()


def test_where_debians_binary_cannot_be_had_it_is_said_and_nothing_stays(tmp_path: Path) -> None:
    empty, into = tmp_path / "empty", tmp_path / "consul"
    empty.mkdir()
    settings = tmp_path / "apt.conf"
    settings.write_text(f'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "{empty}";\n')
    done = subprocess.run(
        ["sh", "-c", FETCH_CONSUL, "sh", str(into)],
        env={**os.environ, "APT_CONFIG": str(settings), "TMPDIR": str(empty)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "apt has no source" in done.stderr
    assert not into.exists()
    assert list(empty.iterdir()) == []

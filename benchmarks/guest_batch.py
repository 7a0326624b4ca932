"""Guests that one lab host is asked to start at the same time, timed from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from benchmarks.answers import ANSWER_SECONDS, first_answers
from benchmarks.processes import Process, guests_of, spares_of
from benchmarks.rig import REST_SECONDS, Rig
from sappers.api.operator_client import OperatorClient
from sappers.api.wire import WantedImage, WantedWorkload
from sappers.errors import ApiError
from sappers.launchers.guest_folder import Record

_FIRST_PORT = 18100
_GONE_SECONDS = _SPARE_SECONDS = 60.0
_LOG_BYTES, _EVENTS = 2000, 40


@dataclass(frozen=True)
class Start:
    """One guest's.

    Attributes:
        asked_seconds: From the call that asked for it to its first answer.
        own_seconds: From its QEMU's exec, 5 ms exact; of one that was a spare, whose QEMU had long
            been there, from the moment that its agent's `launch` began.
        cloned: Whether it started from a checkpoint.
        was_spare: Whether it had been restored from it before.
    """

    asked_seconds: float
    own_seconds: float
    cloned: bool
    was_spare: bool


@dataclass(frozen=True)
class Batch:
    """Guests that ran at one time.

    Attributes:
        all_seconds: From the first call until the last of them answered.
        processes: Their QEMUs, while the batch lasts.
        silent: How many never answered.
    """

    starts: Sequence[Start]
    all_seconds: float
    processes: Sequence[Process]
    silent: int


@contextmanager
def batch(
    rig: Rig, image: WantedImage, guest_port: int, count: int, *, cold: bool
) -> Iterator[Batch]:
    """So many guests of an image on the only host, each asked for at once; gone afterwards."""
    (host,) = rig.endpoints()
    places = {
        f"bench-{number}": (rig.endpoints()[host].address, _FIRST_PORT + number)
        for number in range(count)
    }
    time.sleep(REST_SECONDS)
    with rig.client() as client:
        client.health()  # the connection is open before the clock starts
        try:
            asked, answers = asyncio.run(_start(client, image, guest_port, places, cold=cold))
            yield _batch(rig, host, client, asked, answers)
        finally:
            for name in places:
                _delete(client, name)
            _await_gone(rig, host)


async def _start(
    client: OperatorClient,
    image: WantedImage,
    guest_port: int,
    places: dict[str, tuple[str, int]],
    *,
    cold: bool,
) -> tuple[dict[str, float], dict[str, float]]:
    asked: dict[str, float] = {}

    def ask() -> None:
        for name, (_, port) in places.items():
            asked[name] = time.monotonic()
            wanted = WantedWorkload(image, guest_port=guest_port, host_port=port, cold=cold)
            client.put_workload(name, wanted)

    answers = asyncio.create_task(first_answers(places))
    await asyncio.to_thread(ask)
    return asked, await answers


def _batch(
    rig: Rig,
    host: str,
    client: OperatorClient,
    asked: dict[str, float],
    answers: dict[str, float],
) -> Batch:
    guests = {_workload_of(record): (record, one) for record, one in _guests(rig, host)}
    if gone := answers.keys() - guests.keys():
        raise RuntimeError(_what_happened(client, gone))
    starts = [_start_of(*guests[name], asked[name], at) for name, at in answers.items()]
    last = max(answers.values(), default=ANSWER_SECONDS)
    return Batch(
        starts,
        last - min(asked.values()),
        [one for _, one in guests.values()],
        len(asked) - len(answers),
    )


def _start_of(record: Record, process: Process, asked_at: float, answered_at: float) -> Start:
    began_at = process.started_at if record.began_at is None else record.began_at
    return Start(
        answered_at - asked_at,
        answered_at - began_at,
        cloned="-incoming" in process.command,
        was_spare=record.began_at is not None,
    )


def _guests(rig: Rig, host: str) -> Iterator[tuple[Record, Process]]:
    return guests_of(rig.lab.control_group(host))


def _workload_of(record: Record) -> str:
    """`bench-3` of `bench-3-<id>`."""
    return record.allocation_id.rpartition("-")[0]


def await_spare(rig: Rig) -> Process:
    """The only spare of the only host, once its QEMU runs."""
    (host,) = rig.endpoints()
    deadline = time.monotonic() + _SPARE_SECONDS
    while not (found := list(spares_of(rig.lab.control_group(host)))):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{host} makes no spare")
        time.sleep(0.1)
    (spare,) = found
    return spare


def end_spares(rig: Rig) -> None:
    """Kill those that there are; no other is made before the next guest."""
    (host,) = rig.endpoints()
    for spare in spares_of(rig.lab.control_group(host)):
        os.kill(spare.pid, signal.SIGKILL)


def _what_happened(client: OperatorClient, workloads: Collection[str]) -> str:
    """All that the cluster knows of guests that answered and are gone."""
    lines = [f"answered once, and their QEMU is gone: {', '.join(sorted(workloads))}"]
    for one in client.allocations().allocations:
        if one.workload in workloads:
            lines.append(f"{one.id}: {one.status}, {one.restarts} restarts, {one.reason}")
            with suppress(ApiError):
                lines.append(client.guest_log(one.id, _LOG_BYTES))
    lines += [f"{one.subject}: {one.text}" for one in client.events(limit=_EVENTS).events]
    return "\n".join(lines)


def _delete(client: OperatorClient, name: str) -> None:
    try:
        client.delete_workload(name)
    except ApiError as error:
        if error.status != 404:
            raise


def _await_gone(rig: Rig, host: str) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    while any(_guests(rig, host)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"guests on {host} do not end")
        time.sleep(0.1)

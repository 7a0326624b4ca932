"""Clients that never rest: each writes a register of its own, and reads everybody's."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Endpoint
from sappers.api.wire import WantedWorkload
from sappers.errors import ApiError
from sappers.security.tls import Identity
from tests.chaos.history import INITIAL, UNKNOWN, Operation

_PAUSE_SECONDS = 0.05
# A refusal with one of these was not committed and never will be: the request came to no log.
_DEFINITE = (400, 409, 503)


@dataclass
class Record:
    """What all clients saw, by register. `acknowledged` are times of acknowledged writes."""

    operations: dict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: list[float] = field(default_factory=list)
    refused: int = 0
    unknown: int = 0
    reads: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, register: str, operation: Operation) -> None:
        """One more that had, or may have had, an effect."""
        with self.lock:
            self.operations[register].append(operation)
            if operation.kind == "read":
                self.reads += 1
            elif operation.ended == UNKNOWN:
                self.unknown += 1
            else:
                self.acknowledged.append(operation.ended)

    def longest_silence(self, since: float, until: float) -> float:
        """The longest time without an acknowledged write, in seconds."""
        times = sorted([since, *(t for t in self.acknowledged if since < t < until), until])
        return max(after - before for before, after in pairwise(times))


class Clients:
    """One thread a host, which asks that host alone; they run from `start` to `stop`."""

    def __init__(
        self, identity: Identity, endpoints: dict[str, Endpoint], wanted: WantedWorkload
    ) -> None:
        """`wanted`: a workload of no copies; its guest port is the register's value."""
        self.record = Record()
        self._identity = identity
        self._endpoints = endpoints
        self._wanted = wanted
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(host,), name=f"client of {host}")
            for host in endpoints
        ]

    @property
    def registers(self) -> list[str]:
        """The workloads that are written."""
        return [f"register-{host}" for host in self._endpoints]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, after the calls that are under way."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, host: str) -> None:
        value = INITIAL
        with OperatorClient(self._identity, [self._endpoints[host]], alone=True) as client:
            while not self._over.wait(_PAUSE_SECONDS):
                value += 1
                self._write(client, f"register-{host}", value)
                self._read(client)

    def _write(self, client: OperatorClient, register: str, value: int) -> None:
        wanted = _with_port(self._wanted, value)
        began = time.monotonic()
        try:
            client.put_workload(register, wanted)
        except ApiError as error:
            if error.status in _DEFINITE:
                with self.record.lock:
                    self.record.refused += 1
                return
            ended = UNKNOWN
        else:
            ended = time.monotonic()
        self.record.add(register, Operation("write", value, began, ended))

    def _read(self, client: OperatorClient) -> None:
        began = time.monotonic()
        with suppress(ApiError):
            found = client.workloads(consistency="linearizable").workloads
            ended = time.monotonic()
            values = {one.name: one.guest_port for one in found}
            for register in self.registers:
                value = values.get(register) or INITIAL
                self.record.add(register, Operation("read", value, began, ended))


def _with_port(wanted: WantedWorkload, value: int) -> WantedWorkload:
    return WantedWorkload(wanted.image, guest_port=value, count=0)

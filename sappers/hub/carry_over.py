"""What a server kept while it was the only one: carried over once it is one of several.

A lone server has a store of its own, which a cluster cannot take up. So it is served once more, on
the host's loopback, and message by message is stored in the cluster before it is settled here: one
that is interrupted is carried again, and the cluster knows it by its id.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from sappers.decisions.streams import GONE_SECONDS
from sappers.errors import HubError, SappersError
from sappers.hub.client import NatsHubClient
from sappers.hub.credentials import AgentCredentials
from sappers.hub.server_folder import STORE, ServerFolder
from sappers.hub.settings import server_settings
from sappers.hub.streams import NatsStreams
from sappers.model import subjects
from sappers.model.hub import HubAccess
from sappers.model.member import Member
from sappers.ports import Supervisor
from sappers.security.tls import Identity

UNIT = "sappers-hub-before"
_LOOPBACK = "127.0.0.1"
_AT_ONCE = 100
_RETRY_SECONDS = 2.0
_READY_SECONDS = 15.0
_STOP_SECONDS = 5.0

log = structlog.get_logger("sappers.hub")


class CarryOver:
    """Moves messages from the lone server's store into the cluster's.

    Args:
        folder: Of this member's server.
        streams: The cluster's.
        credentials: This member's.
        program: Finds nats-server.
    """

    def __init__(
        self,
        folder: ServerFolder,
        identity: Identity,
        supervisor: Supervisor,
        streams: NatsStreams,
        credentials: AgentCredentials,
        program: Callable[[], Path],
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._supervisor = supervisor
        self._streams = streams
        self._credentials = credentials
        self._program = program

    @property
    def is_due(self) -> bool:
        """Whether there is a lone server's store."""
        return (self._folder.alone / STORE).exists()

    async def run(self, me: Member) -> None:
        """Carry all of it over, however long that takes, and remove the store.

        Messages of workloads that nobody wants any more go as their streams do, after a while.
        """
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + GONE_SECONDS
        while self.is_due:
            try:
                await self._carry(me, patient=loop.time() < patient_until)
            except (SappersError, OSError) as error:
                log.info("messages of before are not carried over yet", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _carry(self, me: Member, *, patient: bool) -> None:
        ports = msgspec.structs.replace(me.ports, hub=_free_port())
        before = msgspec.structs.replace(me, address=_LOOPBACK, ports=ports)
        me_id = self._identity.node_id
        client = NatsHubClient(self._identity, lambda: self._credentials.agent(me_id))
        try:
            await self._start(before)
            await client.connect((before,))
            await client.ready(_READY_SECONDS)
            count = await self._empty(NatsStreams(client), patient=patient)
        finally:
            await client.close()
            await self._supervisor.stop(UNIT, _STOP_SECONDS)
        await asyncio.to_thread(shutil.rmtree, self._folder.alone)
        log.info("messages of before are carried over", messages=count)

    async def _empty(self, before: NatsStreams, *, patient: bool) -> int:
        count, wanted = 0, await self._streams.streams()
        found = await before.streams()
        # What it had as one of several it takes up only as streams are made.
        for workload in sorted(wanted.keys() - found.keys()):
            await before.keep(workload, 1)
        for workload in sorted(wanted.keys() | found.keys()):
            # Asked before anything is fetched: what was comes again after half a minute only.
            if workload not in wanted:
                if patient:
                    raise HubError(f"the cluster has no stream of {workload} yet")
                log.warning("nobody wants messages of before", workload=workload)
                continue
            while messages := await before.fetch(workload, _AT_ONCE, 1.0):
                for message in messages:
                    name = message.subject.removeprefix(f"{subjects.durable(workload)}.")
                    kept_at = message.token.split(".")[-4]  # its place in the stream
                    again = f"before-{self._identity.node_id}-{kept_at}"
                    await self._streams.store(workload, name, message.payload, again)
                    await before.settle(workload, message.token, again=False)
                    count += 1
            if left := await before.waiting(workload):
                raise HubError(f"{left} messages of {workload} are with a guest of before")
        return count

    async def _start(self, before: Member) -> None:
        account_jwt = (self._folder.hub / "account.jwt").read_text()
        content = server_settings(
            before,
            _LOOPBACK,
            (before,),
            self._folder.identity,
            self._credentials.operator_jwt(),
            self._credentials.accounts(account_jwt, (), HubAccess((self._credentials.signs,))),
            self._folder.data / "before.log",
            self._folder.data,
        )
        settings = await asyncio.to_thread(self._folder.write, "before.conf", content)
        await self._supervisor.stop(UNIT, _STOP_SECONDS)
        await self._supervisor.start(
            self._folder.unit(UNIT, self._program(), settings, "Sappers hub, as it was alone")
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])

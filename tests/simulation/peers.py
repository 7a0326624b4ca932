"""Calls between members, a store that has every image, and what a simulated host has none of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from sappers.agent.agent import Agent
from sappers.errors import ApiError, MemberUnreachable, NoQuorum, OutcomeUnknown, SappersError
from sappers.model.commands import decode_proposal
from sappers.model.guest_scope import GuestScope
from sappers.model.hub import HubKey
from sappers.model.image import Blob, Manifest, MicrovmBoot, SignedManifest
from sappers.model.member import Member
from sappers.model.view import Genesis
from tests.image_stores import KEY
from tests.simulation.loop import Life, VirtualLoop
from tests.simulation.network import Network

CONNECT_SECONDS = 0.5
PROPOSE_SECONDS = 10.0


class Reachable:
    """An agent that others may call."""

    def __init__(self, life: Life, agent: Agent) -> None:
        self.life = life
        self.agent = agent


class SimulatedPeers:
    """Implements `ports.PeerClient`; of the HTTP API what members ask of each other."""

    def __init__(
        self,
        loop: VirtualLoop,
        network: Network,
        me_id: str,
        life: Life,
        find: Callable[[str], Reachable | None],
        is_revoked: Callable[[str], bool],
    ) -> None:
        self._loop = loop
        self._network = network
        self._me_id = me_id
        self._life = life
        self._find = find
        self._is_revoked = is_revoked

    async def call(
        self, member: Member, method: str, path: str, *, body: Any = None, timeout_seconds: float
    ) -> bytes:
        if self._is_revoked(member.id):
            raise MemberUnreachable(f"{member.name}: its certificate is revoked")
        target = self._find(member.id)
        moved = self._network.addresses[member.id] != member.address
        if target is None or moved or not self._network.talk(self._me_id, member.id):
            hears = self._network.talk(self._me_id, member.id)
            refused = target is None and hears and member.id not in self._network.down
            await asyncio.sleep(0.01 if refused else min(CONNECT_SECONDS, timeout_seconds))
            raise MemberUnreachable(f"{member.name} cannot be reached")
        answered: asyncio.Future[Any] = self._loop.create_future()
        self._network.send(
            self._me_id, member.id, target.life,
            lambda: self._loop.create_task(
                self._serve(target, member.id, f"{method} {path}", body, answered)
            ),
            reliable=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await answered
        except TimeoutError:
            raise ApiError(f"{member.name} did not answer within {timeout_seconds:g} s") from None
        if isinstance(answer, SappersError):
            raise answer
        assert isinstance(answer, bytes)
        return answer

    async def _serve(
        self, target: Reachable, name: str, what: str, body: Any, answered: asyncio.Future[Any]
    ) -> None:
        """At the other member, in its life."""
        answer: Any
        try:
            if target.agent.outlook.is_revoked(self._me_id):
                raise ApiError(f"the certificate of {self._me_id} is revoked", status=403)
            answer = await _answer(target.agent, what, body)
        except OutcomeUnknown as error:
            answer = ApiError(error.message, status=504)
        except NoQuorum as error:
            answer = error
        except SappersError as error:
            answer = ApiError(error.message, status=getattr(error, "status", 0) or 409)

        def arrive() -> None:
            if not answered.done():
                answered.set_result(answer)

        self._network.send(name, self._me_id, self._life, arrive, reliable=True)


async def _answer(agent: Agent, what: str, body: Any) -> bytes:
    path, _, query = what.partition("?")
    match path:
        case "POST /v1/proposals":
            applied = await agent.log.propose(decode_proposal(body), PROPOSE_SECONDS)
            return msgspec.json.encode(applied)
        case "GET /v1/health":
            return msgspec.json.encode(await agent.service.health())
        case "GET /v1/quorum":
            return msgspec.json.encode(await agent.service.hear_quorum())
        case "GET /v1/snapshot":
            return await agent.log.written_snapshot()
        case "GET /v1/log":
            asked = dict(part.split("=") for part in query.split("&"))
            entries = agent.log.entries_after(int(asked["after"]), int(asked["limit"]))
            if entries is None:
                raise ApiError("compacted away", status=410)
            return msgspec.msgpack.encode(list(entries))
        case "PUT /v1/genesis":
            assert isinstance(body, Genesis)
            await agent.service.accept_genesis(body)
            return b"{}"
    raise ApiError(f"no such call: {what}", status=404)


_BOOT = MicrovmBoot(kernel=Blob("k" * 64, 1, ()), initrd=Blob("i" * 64, 1, ()))


class EveryImage:
    """Implements `ports.ImageStore`: each image is whole everywhere, and without chunks."""

    def manifest(self, digest: str) -> Manifest:
        return Manifest(name="app", architecture="x86_64", boot=_BOOT)

    assemble = manifest

    def signed(self, digest: str) -> SignedManifest:
        return SignedManifest(b"", (KEY.sign(b""),))

    def missing_chunks(self, digest: str) -> tuple[str, ...]:
        return ()

    def has_chunk(self, chunk: str) -> bool:
        return True

    def prune(self, keep: Collection[str], *, spare_seconds: float = 0.0) -> tuple[str, ...]:
        return ()


class NoViolations:
    """Implements `ports.HubViolations`."""

    def new(self) -> Mapping[str, int]:
        return {}


class NoKeys:
    """In place of the agent's ring of gossip keys: nothing is sealed here."""

    async def run(self, me_id: str) -> None:
        pass


class NoGateway:
    """Implements `ports.Gateway`."""

    async def route(self, routes: Sequence[Any]) -> None:
        pass

    def routes(self) -> tuple[Any, ...]:
        return ()

    async def stop(self) -> None:
        pass


class NoProxies:
    """Implements `ports.MeshProxies`."""

    async def keep(self, plan: Any) -> None:
        pass


class NoChunks:
    """Implements `ports.ChunkSource`."""

    def get(self, member: Member, chunk: str) -> bytes:
        raise ApiError("there are no chunks here")


class SimulatedMessages:
    """Implements `ports.SignedMessages`; nobody lies here."""

    def __init__(self, me_id: str) -> None:
        self._me_id = me_id

    def sign(self, subject: str, body: bytes) -> bytes:
        return msgspec.msgpack.encode((self._me_id, subject, body))

    def open(self, subject: str, message: bytes) -> tuple[str, bytes]:
        sender, of, body = msgspec.msgpack.decode(message, type=tuple[str, str, bytes])
        assert of == subject
        return sender, body


# Nobody says it: the members that are simulated are as those of before, which had none.
NO_HUB_KEY = HubKey("A" * 56, "0" * 64)


class NoCredentials:
    """Implements `ports.GuestCredentials`."""

    def mint(self, scope: GuestScope, expires_at: float) -> str:
        return ""

    def stale_before(self) -> float:
        return 0.0

    def operator(self) -> str:
        return ""

    def holder(self, user: str) -> str | None:
        return None


class NoSigner:
    """Implements `ports.RepairSigner`."""

    def sign(self, *_: Any, **__: Any) -> str:
        return ""

    def check(self, *_: Any) -> None:
        pass

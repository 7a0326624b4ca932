"""Who is revoked is out of the hub at once, whatever it kept; the others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import immutables
import msgspec
import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials

from sappers.decisions.hub_access import RENEWED_WITHIN_SECONDS, hub_access, last_revocation
from sappers.errors import HubError
from sappers.hub.client import NatsHubClient
from sappers.hub.credentials import AgentCredentials, HubAccount, TrustedAccounts, read_accounts
from sappers.hub.streams import NatsStreams
from sappers.model.actions import RunHubServer
from sappers.model.cluster_state import ClusterState
from sappers.model.guest_scope import GuestScope
from sappers.model.hub import HubKey
from sappers.security.identity import key_digest
from sappers.security.tls import AGENT_SERVER_NAME, client_context
from tests.integration.hubs import Hub, Inbox, hears, kept
from tests.unit.worlds import allocation
from tests.waiting import eventually

ADDRESSES = {"a": "127.0.0.1", "b": "127.0.0.2", "x": "127.0.0.3"}
NUMBERS = "sappers.guest.web-1.number"
ROUNDS = 50
GUEST = allocation("web-1", workload="web", member_id="b")


class Revoking:
    """A hub of three, one of whose members is revoked: `x`, which ran a hub server itself."""

    def __init__(self, folder: Path) -> None:
        self.pinned = True
        self.hub = Hub(folder, ADDRESSES, own_keys=True)
        self.keys = {
            name: HubKey(self.hub.own[name].signs, key_digest(self.hub.identities[name].cert))
            for name in ADDRESSES
        }
        self.state = ClusterState(
            hub_servers=tuple(ADDRESSES),
            members=immutables.Map(self.hub.members),
            hub_keys=immutables.Map(dict.fromkeys(ADDRESSES, b"proven")),
            hub_seed_ends=0.0,
            allocations=immutables.Map({GUEST.id: GUEST}),
        )

    async def begin(self) -> None:
        """All three run and let each other in."""
        self._decide()
        await self.hub.run(*ADDRESSES)

    async def revoke(self) -> None:
        """What the agents of `a` and `b` do once they know; `x` does nothing of the kind."""
        revoked = immutables.Map({"x": time.time()})
        self.state = msgspec.structs.replace(self.state, revoked=revoked, hub_servers=("a", "b"))
        self._decide()
        await self.hub.run("a", "b", term=2)

    async def refuse_what_was_seen(self) -> None:
        """What they do half a minute later."""
        self._decide(RENEWED_WITHIN_SECONDS + 1.0)
        await self.hub.run("a", "b", term=2)

    def _decide(self, later: float = 0.0) -> None:
        access = hub_access(self.state, self.keys, time.time() + later)
        assert access.servers_show
        if not self.pinned:
            access = msgspec.structs.replace(access, servers_show=())
        self.hub.access = access

    def guest(self, member: str, allocation_id: str = "web-1") -> str:
        """Credentials of a guest, by a member."""
        own = self.hub.own[member]
        own._stale_before = lambda: last_revocation(self.state)
        return own.mint(GuestScope(allocation_id, "web"), time.time() + 600)

    async def client(self, credentials: str, *servers: str) -> NatsHubClient:
        return await self.hub.client(*servers, credentials=credentials)

    async def is_let_in(self, credentials: str) -> bool:
        """Whether a hub server of those that are left takes these; the others say why not."""
        for server in ("a", "b"):
            member, client = self.hub.members[server], Client()
            try:
                await client.connect(
                    f"nats://{member.address}:{member.ports.hub}",
                    tls=client_context(self.hub.identities["x"]),
                    tls_hostname=AGENT_SERVER_NAME,
                    tls_handshake_first=True,
                    user_credentials=RawCredentials(credentials),
                    allow_reconnect=False,
                    connect_timeout=30,
                )
            except ssl.SSLError:  # busy, it answered without TLS
                return await self.is_let_in(credentials)
            except nats.errors.Error as error:
                if "empty response" in str(error):  # it was reloading, and said nothing at all
                    return await self.is_let_in(credentials)
                assert "Authorization Violation" in str(error)
            else:
                await client.close()
                return True
        return False


async def messages_of(streams: NatsStreams, workload: str) -> list[bytes]:
    """What waits there, as soon as the servers that are left say it."""
    found: list[bytes] = []

    async def look() -> bool:
        with contextlib.suppress(HubError):
            found.extend(each.payload for each in await streams.fetch(workload, 1, 2.0))
        return bool(found)

    await eventually(look)
    return found


async def stored(streams: NatsStreams, workload: str, payload: bytes) -> None:
    async def store() -> bool:
        with contextlib.suppress(HubError):
            await streams.store(workload, "before", payload, "1")
            return True
        return False

    await eventually(store)


@pytest.fixture
async def revoking(tmp_path: Path) -> AsyncIterator[Revoking]:
    revoking = Revoking(tmp_path)
    try:
        yield revoking
    finally:
        await revoking.hub.down()


async def test_who_is_revoked_is_cut_off_and_comes_back_with_nothing_it_knows(
    revoking: Revoking,
) -> None:
    await revoking.begin()
    hub = revoking.hub
    thief = await revoking.client(hub.own["x"].agent("x"), "a")
    its_guest = await revoking.client(revoking.guest("x"), "b")
    member = await revoking.client(hub.own["a"].agent("a"), "a", "b")
    await revoking.revoke()
    await eventually(lambda: not thief.connected)
    await eventually(lambda: not its_guest.connected)
    assert member.connected

    seed = AgentCredentials(hub.account.account_seed)  # each member has it
    kept = {
        "its own key": hub.own["x"].agent("x"),
        "a guest by its own key": revoking.guest("x"),
        "the servers' account by its own key": hub.own["x"].system("x"),
        "the hub's seed": seed.agent("a"),
        "a guest by the hub's seed": seed.mint(GuestScope("web-1", "web"), time.time() + 600),
        "the servers' account by the hub's seed": seed.system("a"),
        "an operator by the hub's seed": seed.operator(),
    }
    let_in = [what for what, text in kept.items() if await revoking.is_let_in(text)]
    assert not let_in
    assert await revoking.is_let_in(hub.own["a"].agent("a"))  # it is the credentials


async def test_a_member_and_a_guest_lose_no_message_meanwhile(revoking: Revoking) -> None:
    await revoking.begin()
    hub = revoking.hub
    member = await revoking.client(hub.own["a"].agent("a"), "a")
    guest, inbox = await revoking.client(revoking.guest("b"), "b"), Inbox()
    await guest.subscribe(NUMBERS, inbox)
    await hears(member, inbox, NUMBERS)
    streams = NatsStreams(member)
    await kept(streams, "web", 3)
    await stored(streams, "web", b"kept")
    connections = member._connection, guest._connection
    revoked, sent = asyncio.Event(), 0

    def numbers() -> list[bytes]:
        return [payload for payload in inbox.payloads() if payload != b"x"]

    async def talk() -> None:
        nonlocal sent
        while not revoked.is_set():
            await member.publish(NUMBERS, str(sent).encode())
            sent += 1
            await asyncio.sleep(0.002)

    talking = asyncio.create_task(talk())
    await eventually(lambda: len(numbers()) > 100)
    await revoking.revoke()
    heard = len(numbers())
    await eventually(lambda: len(numbers()) > heard + 100)
    revoked.set()
    await talking
    await eventually(lambda: len(numbers()) >= sent)
    assert numbers() == [str(i).encode() for i in range(sent)]
    assert (member._connection, guest._connection) == connections
    assert await messages_of(streams, "web") == [b"kept"]


async def test_what_its_server_saw_of_a_guest_is_refused_once_the_guest_has_another(
    revoking: Revoking,
) -> None:
    """A guest's key follows from the hub's seed, and each server sees what guests show."""
    await revoking.begin()
    seen = revoking.guest("b")
    await revoking.revoke()
    thief = await revoking.client(seen, "a")
    guest, inbox = await revoking.client(revoking.guest("b"), "b"), Inbox()
    connection = guest._connection
    await revoking.refuse_what_was_seen()
    await eventually(lambda: not thief.connected)
    assert not await revoking.is_let_in(seen)
    member = await revoking.client(revoking.hub.own["a"].agent("a"), "a")
    await guest.subscribe(NUMBERS, inbox)
    await hears(member, inbox, NUMBERS)
    assert guest._connection is connection


@pytest.mark.parametrize("pinned", [True, False])
async def test_its_server_is_no_server_of_the_hub_any_more(
    revoking: Revoking, pinned: bool
) -> None:
    """Its certificate is good to the authority still; without the pins it would be a server."""
    revoking.pinned = pinned
    await revoking.begin()
    hub, heard, told = revoking.hub, Inbox(), Inbox()
    # Its own server lets in whom it likes, and goes on to dial the others'.
    spy = await revoking.client(hub.own["x"].agent("x"), "x")
    await spy.subscribe("sappers.events.x", heard)
    member = await revoking.client(hub.own["a"].agent("a"), "a")
    await member.subscribe("sappers.alerts.x", told)
    await hears(member, heard, "sappers.events.x")
    await hears(spy, told, "sappers.alerts.x")
    await revoking.revoke()
    if not pinned:  # its route is made anew, if the reload has cut it
        await hears(member, heard, "sappers.events.x")
        await hears(spy, told, "sappers.alerts.x")
    guest, marks = await revoking.client(revoking.guest("b"), "b"), Inbox()
    await guest.subscribe(NUMBERS, marks)
    for _ in range(ROUNDS):
        await member.publish("sappers.events.x", b"secret")
        await spy.publish("sappers.alerts.x", b"false")
        await hears(member, marks, NUMBERS)  # what is said here arrives where it may

    def arrived() -> tuple[int, int]:
        return heard.payloads().count(b"secret"), told.payloads().count(b"false")

    if not pinned:
        await eventually(lambda: arrived() == (ROUNDS, ROUNDS))
    assert arrived() == ((0, 0) if pinned else (ROUNDS, ROUNDS))


class OfBefore(AgentCredentials):
    """As the agents of before had it: one operator for all servers, and users by the seed."""

    def __init__(self, account: HubAccount) -> None:
        super().__init__(account.account_seed)
        self._made = account

    def operator_jwt(self) -> str:
        return self._made.operator_jwt

    def accounts(self, account_jwt: str, *_: object) -> TrustedAccounts:
        return read_accounts(account_jwt)


async def test_a_cluster_of_before_goes_on_and_its_seed_ends(revoking: Revoking) -> None:
    hub, names = revoking.hub, tuple(ADDRESSES)
    new, before = hub.own, OfBefore(hub.account)
    hub.own = dict.fromkeys(names, before)
    hub.servers = {name: hub.server(name) for name in names}
    await hub.run(*names)
    guest, inbox = await revoking.client(before.mint(GuestScope("web-1", "web"), 2e9), "b"), Inbox()
    await guest.subscribe(NUMBERS, inbox)
    member = await revoking.client(before.agent("a"), *names)
    streams = NatsStreams(member)
    await kept(streams, "web", 3)
    await stored(streams, "web", b"kept")
    hub.own = new
    wanted = RunHubServer(tuple(hub.members[one] for one in names), 1)
    for number, name in enumerate(names, 1):  # one host after the other has this version
        hub.servers[name] = hub.server(name)
        await hub.servers[name].run(wanted)
        assert hub.supervisors[name].starts == 2, number
        await eventually(lambda: guest.connected and member.connected)
        await hears(member, inbox, NUMBERS)
    revoking.state = msgspec.structs.replace(revoking.state, hub_seed_ends=None)
    revoking._decide()
    await hub.run(*names)
    later = await revoking.client(new["a"].agent("a"), "a")
    assert guest.connected
    revoking.state = msgspec.structs.replace(revoking.state, hub_seed_ends=0.0)
    revoking._decide()
    await hub.run(*names)
    await eventually(lambda: not guest.connected)
    assert later.connected
    assert not await revoking.is_let_in(before.agent("a"))
    assert await messages_of(NatsStreams(later), "web") == [b"kept"]
    assert {one.starts for one in hub.supervisors.values()} == {2}

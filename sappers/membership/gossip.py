"""Gossip by kinship: SWIM with Lifeguard, encrypted with the cluster's key.

kinship forgets the dead after a while, and a partition that outlasts its memory never heals by
itself. So this adapter remembers everyone, on disk too, and dials those that are not alive for
ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import kinship
import msgspec
import structlog

from sappers.config import AgentSettings
from sappers.errors import FIT_OUT_AGAIN, MembershipError
from sappers.membership.known_members import load_known_members, save_known_members
from sappers.membership.table import (
    MemberTable,
    Sighting,
    bracketed,
    gossip_name,
    join_address,
)
from sappers.membership.tags import decode_tags, encode_tags
from sappers.model.gossip_keys import GossipKeys
from sappers.model.member import Member, MemberState

_DIAL_SECONDS = 5.0
_GIVE_UP_UNSEEN_SECONDS = 10.0
_LEAVE_SECONDS = 3.0
_RESTART_SECONDS = 1.0
_SETTLE_SECONDS = 0.1
_MEMBERS_MAX = 1024

_STATES = {
    kinship.State.ALIVE: MemberState.ALIVE,
    kinship.State.SUSPECT: MemberState.SUSPECT,
    kinship.State.DEAD: MemberState.DEAD,
    kinship.State.LEFT: MemberState.LEFT,
}

log = structlog.get_logger("sappers.membership")


class KinshipMembership:
    """Who is there; satisfies `ports.Membership`."""

    def __init__(
        self, *, me: Member, settings: AgentSettings, keys: GossipKeys, known: Path
    ) -> None:
        """`known` is the file of everyone ever met."""
        self._me = me
        self._settings = settings
        self._keys = keys
        self._known_file = known
        self._table = MemberTable()
        self._cluster: kinship.Cluster | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._watchers: set[asyncio.Event] = set()
        self._saved: tuple[Member, ...] = ()

    async def start(self) -> None:
        """Bind and begin to dial every known peer, for ever.

        Raises:
            MembershipError: The port is taken or the key is wrong.
        """
        kinship.log_to_python()  # else its lines go to stderr, and are no JSON
        known = load_known_members(self._known_file)
        self._stopping.clear()
        self._table = MemberTable(one for one in known if one.id != self._me.id)
        self._cluster = await self._open()
        self._tasks = [
            asyncio.create_task(self._listen(self._cluster)),
            asyncio.create_task(self._dial_for_ever()),
        ]

    async def stop(self, *, leave: bool) -> None:
        """Close; with `leave` the others are told that this was meant."""
        self._stopping.set()
        if self._cluster is not None:
            with contextlib.suppress(kinship.KinshipClosed):
                if leave:
                    await self._cluster.leave(_LEAVE_SECONDS)
                await self._cluster.close()
        # Not cancelled: a cancelled call goes on in kinship's own thread, and when it ends while
        # Python is shutting down the whole process crashes. Closing ends them all; the moment
        # after it lets that thread finish with what it told us last.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(_SETTLE_SECONDS)
        self._tasks, self._cluster = [], None

    def members(self) -> tuple[Member, ...]:
        """Everyone ever met, this member included, with state; by id."""
        others = (one for one in self._table.members() if one.id != self._me.id)
        return tuple(sorted((self._me, *others), key=lambda one: one.id))

    async def publish(self, me: Member) -> None:
        """Tell the others what changed about this member; its address takes a restart.

        Raises:
            MembershipError: It does not fit into what gossip carries.
        """
        me = msgspec.structs.replace(
            me,
            id=self._me.id,
            address=self._me.address,
            ports=msgspec.structs.replace(me.ports, gossip=self._me.ports.gossip),
            state=MemberState.ALIVE,
        )
        if me == self._me:
            return
        tags = encode_tags(me)
        self._me = me
        if self._cluster is not None:
            # While gossip is down, its next start takes the tags along.
            with contextlib.suppress(kinship.KinshipClosed):
                await self._cluster.set_meta(tags)
        self._changed()

    async def use_keys(self, keys: GossipKeys) -> None:
        """As the port says."""
        before, self._keys = self._keys, keys
        if self._cluster is None:
            return
        ring = self._cluster.keyring
        try:
            for key in keys.keys:
                await ring.install(key)
            await ring.use(keys.keys[0])
            for key in before.keys:
                if key not in keys.keys:
                    await ring.remove(key)
        except kinship.KinshipClosed:
            pass  # its next start takes them along
        except kinship.KeyringError as error:
            raise MembershipError(f"gossip does not take the keys: {error}") from error

    def forget(self, member_ids: Collection[str]) -> None:
        """As the port says."""
        changed = [self._table.forget(one) for one in member_ids]
        if any(changed):
            self._changed()

    async def changes(self) -> AsyncIterator[None]:
        """Yields whenever `members()` may differ."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            while True:
                await changed.wait()
                changed.clear()
                yield
        finally:
            self._watchers.discard(changed)

    async def _open(self) -> kinship.Cluster:
        me = self._me
        listen = bracketed(self._settings.listen_address)
        try:
            config = kinship.Config.lan(
                name=gossip_name(me.id, me.address, me.ports.gossip),
                bind=f"{listen}:{me.ports.gossip}",
                advertise=join_address(me),
                cluster=self._settings.cluster,
                keys=list(self._keys.keys),
                meta=encode_tags(me),
                # Dead within about 5 s. Fewer suspicion rounds, paid for with more copies of a
                # refutation: by kinship's own measurements that pair loses fewer starved but
                # living members than its default does.
                suspicion_mult=3,
                retransmit_mult=6,
                push_pull_interval=15.0,
                tcp_timeout=4.0,
                resolve_timeout=4.0,
                join_retries=1,
                max_members=_MEMBERS_MAX,
            )
            config.replace(seeds=list(self._settings.peers))  # for its checks: we dial ourselves
            return await kinship.Cluster(config).start()
        except OSError as error:
            raise MembershipError(
                f"gossip cannot listen on {listen}:{me.ports.gossip}: {error}",
                hint="is another agent running here?",
            ) from error
        except kinship.ConfigError as error:
            raise MembershipError(f"gossip cannot start: {error}", hint=FIT_OUT_AGAIN) from error
        except kinship.KinshipError as error:
            raise MembershipError(f"gossip cannot start: {error}") from error

    async def _listen(self, cluster: kinship.Cluster) -> None:
        while not self._stopping.is_set():
            try:
                events = cluster.events()
                self._resync(cluster)
                async for event in events:
                    self._take(cluster, event)
            except kinship.KinshipClosed as error:
                log.error("gossip broke down", why=str(error))
            if not await self._stops_within(_RESTART_SECONDS):
                with contextlib.suppress(MembershipError):
                    cluster = self._cluster = await self._open()

    def _take(self, cluster: kinship.Cluster, event: kinship.Event) -> None:
        match event:
            case kinship.EventsLost(count=count):
                log.warning("gossip events lost", count=count)
                self._resync(cluster)
            case kinship.NameConflict(member=member, other_addr=other):
                log.warning("two members claim one name", name=member.name, also_at=other)
            case kinship.UserMessage():
                pass
            case _:
                if self._see(event.member):
                    self._changed()

    def _see(self, seen: kinship.Member) -> bool:
        state = _STATES[seen.state]
        member = decode_tags(seen.meta, seen.addr, state)
        if member is None:
            log.warning("a member speaks gibberish", name=seen.name[:64], address=seen.addr)
            return self._table.lose(seen.name, state)
        if member.id == self._me.id:
            if state is MemberState.ALIVE:
                # Most often gossip has not missed yet what this member was before a power cut.
                log.info(
                    "this id lives elsewhere too: before a restart, or as a copy of its disk",
                    address=seen.addr,
                )
            return False
        return self._table.see(Sighting(seen.name, seen.addr, max(1, seen.epoch), member))

    def _resync(self, cluster: kinship.Cluster) -> None:
        own = cluster.local.name
        there = {one.name: one for one in cluster.members() if one.name != own}
        changed = [self._see(one) for one in there.values()]
        for name in set(self._table.names()) - set(there):
            tombstone = cluster.member(name)
            state = _STATES[tombstone.state] if tombstone else MemberState.DEAD
            changed.append(self._table.lose(name, state))
        if any(changed):
            self._changed()

    async def _dial_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _GIVE_UP_UNSEEN_SECONDS
        while not self._stopping.is_set():
            cluster = self._cluster
            if cluster is not None and (addresses := self._not_alive()):
                with contextlib.suppress(kinship.KinshipError):
                    await cluster.join(addresses)
            if await self._stops_within(_DIAL_SECONDS):
                return
            if loop.time() >= give_up_at and self._table.give_up_unseen():
                self._changed()
            if cluster is not None:
                with contextlib.suppress(kinship.KinshipClosed):
                    self._resync(cluster)

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    def _not_alive(self) -> list[str]:
        others = self._table.members()
        alive = {join_address(one) for one in others if one.state is MemberState.ALIVE}
        alive.add(join_address(self._me))
        wanted = [*self._settings.peers, *(join_address(one) for one in others)]
        return [address for address in dict.fromkeys(wanted) if address not in alive]

    def _changed(self) -> None:
        members = self._table.members()
        if members != self._saved:
            try:
                save_known_members(self._known_file, members)
                self._saved = members
            except OSError as error:
                log.error("known members not saved", why=error.strerror)
        for watcher in self._watchers:
            watcher.set()

"""A host: its disk, clock, guests, and the real agent on simulated parts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sappers.agent.agent import Agent
from sappers.agent.hub.hub_keys import HubKeys
from sappers.agent.hub.hub_watch import HubWatch
from sappers.agent.hub.refusals import Refusals
from sappers.agent.hub.relay import Follower
from sappers.agent.mesh import Mesh
from sappers.agent.registration import Registration
from sappers.agent.routing import Routing
from sappers.config import AgentSettings, StateFolder
from sappers.consensus.follower_log import FollowerLog
from sappers.consensus.joining import joiners_record
from sappers.consensus.raft_log import RaftLog
from sappers.errors import SappersError
from sappers.model.commands import Entry
from sappers.model.member import Member
from sappers.model.view import Genesis
from sappers.ports import ReplicatedLog
from tests.simulation.disk import SimulatedDisk
from tests.simulation.gossip import Gossip, SimulatedMembership
from tests.simulation.guests import Guests, SimulatedLauncher
from tests.simulation.healers import Healer
from tests.simulation.hub import Hub, NoHolders, NoStreams, SimulatedHubClient, SimulatedHubServer
from tests.simulation.links import RaftMesh
from tests.simulation.loop import OUTSIDE, Life, VirtualLoop
from tests.simulation.losses import Loss
from tests.simulation.machine import (
    LOG_FORMAT,
    HostClock,
    SimulatedPath,
    described,
    identity_of,
    with_address,
)
from tests.simulation.network import Network
from tests.simulation.peers import (
    NO_HUB_KEY,
    EveryImage,
    NoChunks,
    NoCredentials,
    NoGateway,
    NoKeys,
    NoProxies,
    NoSigner,
    NoViolations,
    Reachable,
    SimulatedMessages,
    SimulatedPeers,
)
from tests.simulation.process import RaftProcess, process_starter

START_AGAIN_SECONDS = 1.0


class Surroundings:
    """What all hosts share."""

    def __init__(self, loop: VirtualLoop, network: Network, watch: Any) -> None:
        self.loop = loop
        self.network = network
        self.watch = watch
        self.mesh = RaftMesh(loop, network)
        self.gossip = Gossip(loop, network)
        self.hub = Hub(loop, network, self.revoked_at)
        self.hosts: dict[str, Host] = {}
        self._revoked_at: dict[str, Collection[str]] = {}

    def revoked_at(self, host: str) -> Collection[str]:
        """Whom a host refuses, as its agent has said last."""
        agent = self.hosts[host].agent
        if agent is not None and agent.has_log:
            self._revoked_at[host] = agent.log.state().revoked
        return self._revoked_at.get(host, ())

    def find(self, member_id: str) -> Reachable | None:
        """The agent of a member, while it answers."""
        host = self.hosts.get(member_id)
        return host.reachable if host else None


class Host:
    """One machine. `boot` starts its agent; one that ends is started again, as by systemd."""

    def __init__(self, around: Surroundings, name: str, seed: int, settings: AgentSettings) -> None:
        self.around = around
        self.name = name
        self.settings = settings
        self.chance = random.Random(f"{seed}/{name}")
        self.disk = SimulatedDisk(self.chance)
        self.disk.at_death = self.lose_power
        self.clock = HostClock(around.loop, self.chance)
        self.guests = Guests(
            name, around.loop, around.hub, self.chance, self.clock.monotonic,
            lambda: self.is_frozen, around.watch.launched,
            lambda guest, servers: Healer(around, guest, name, servers),
        )  # fmt: skip
        self.met: dict[str, Member] = {}
        self.life: Life | None = None
        self.processes: list[RaftProcess] = []
        self.agent: Agent | None = None
        self.reachable: Reachable | None = None
        self.is_frozen = False
        self.is_up = False
        self.is_away = False  # cut off, or its agent hangs, for so long that it is taken for dead
        self._hangs = False
        self.is_failed = False  # its agent is down, and nothing on the host starts it
        self.is_stopped = False  # the same, as an operator wanted it so
        self.is_lost = False  # for good: it never comes back
        self.is_revoked = False
        self._stopping = asyncio.Event()
        self.lives = 0
        self.power_losses = 0
        self.log_format = 0  # that the installed agent knows
        around.network.addresses[name] = settings.address

    @property
    def is_present(self) -> bool:
        """Whether it is one of those that the cluster can count on."""
        return self.is_up and not self.is_away and not self.is_revoked

    @property
    def has_memory(self) -> bool:
        """Whether there is anything that it votes with."""
        return self.disk.exists(Path(f"{self.name}/genesis.json"))

    @property
    def has_pending_change(self) -> bool:
        """Whether it holds a change of the electorate of which it does not know that it is made."""
        nodes = [one.node for one in self.processes if one.node is not None]
        return any(one._journal.changes_after(one.raftLastApplied) for one in nodes)

    def holds(self, entry: Entry) -> bool:
        """Whether the log of its voter, which runs, has this entry."""
        nodes = [one.node for one in self.processes if one.node is not None]
        return any(
            (index, term) == (entry.index, entry.term)
            for one in nodes
            for _, index, term in one._journal[:]
        )

    @property
    def trouble(self) -> str:
        """Why it does not use its vote, or empty."""
        return self.agent._seat.trouble if self.agent is not None else ""

    @property
    def knows_leader(self) -> bool:
        """Whether its agent runs and has heard of one."""
        agent = self.agent
        return agent is not None and agent.has_log and agent.log.status().leader_id is not None

    def boot(self) -> None:
        """Switch it on, if it is there yet; its agent starts."""
        if self.is_lost:
            return
        self.is_up, self.is_failed, self.is_stopped = True, False, False
        self.around.network.down.discard(self.name)
        self._start_agent()

    def lose_power(self) -> None:
        """Everything stops at once, and the disk forgets what was not synced."""
        self.is_up = False
        self.power_losses += 1
        self.around.network.down.add(self.name)
        self.disk.dies_in = None
        self.kill_raft()
        self._end_agent()
        self.disk.lose_power()
        self.guests.lose_power()
        self.around.hub.servers.pop(self.name, None)

    def lose(self, loss: Loss) -> bool:
        """It loses its power, and files with it; whether it may have forgotten anything."""
        self.lose_power()
        forgot = loss(self.disk, self.name, self.chance)
        if not self.disk.names(""):
            self.met.clear()
        return forgot

    def lose_for_good(self) -> None:
        """It burns."""
        self.is_lost = True
        self.lose_power()

    def kill_agent(self) -> None:
        """Kill -9: the raft process sees it and ends, guests and hub server go on."""
        self._end_agent()
        self._start_again_soon()

    def fail_agent(self) -> None:
        """The agent ends, and its unit gives up."""
        self.is_failed = True
        self._end_agent()

    def stop_agent(self) -> None:
        """Let it end in order, as `systemctl stop` does, and not start again before `boot`."""
        self.is_stopped = True
        self._stopping.set()

    def repair_agent(self) -> None:
        """Whoever logs in starts it again."""
        self.is_failed = False
        self.kill_agent()

    def kill_raft(self) -> None:
        """Kill -9 of the raft process alone."""
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def pause(self, seconds: float, *, whole: bool) -> None:
        """SIGSTOP for a while: of the agent and its raft process, or of the whole host."""
        lives = [one for one in (self.life, *(p.life for p in self.processes)) if one]
        for life in lives:
            life.is_paused = True
        self.is_frozen = whole

        def resume() -> None:
            self.is_frozen = False
            for life in lives:
                self._resume(life)

        self.around.loop.call_later(seconds, resume)

    def hang(self, seconds: float) -> None:
        """SIGSTOP of the agent alone: its raft process goes on."""
        if (life := self.life) is not None:
            life.is_paused = True
            self.around.loop.call_later(seconds, self._resume, life)

    def _resume(self, life: Life) -> None:
        if life is not self.life or not self._hangs:
            self.around.loop.resume(life)

    def hang_for_long(self) -> None:
        """The same, until `go_on`; an agent that is about to start does not."""
        self.is_away = self._hangs = True
        if self.life is not None:
            self.life.is_paused = True

    def go_on(self) -> None:
        """It is there again."""
        self.is_away = self._hangs = False
        if self.life is not None:
            self.around.loop.resume(self.life)
        self._start_agent()

    def move(self, address: str) -> None:
        """The host has another address; the agent notices and is started anew with it."""
        self.around.network.addresses[self.name] = address
        self.settings = with_address(self.settings, address)
        self.kill_raft()
        self.kill_agent()

    # -- the agent ----------------------------------------------------------------------------

    def _end_agent(self) -> None:
        self.reachable = self.agent = None
        if self.life is not None:
            self.life.end()

    def _start_again_soon(self) -> None:
        self.around.loop.call_later(START_AGAIN_SECONDS, self._start_agent)

    def _start_agent(self) -> None:
        if (
            not self.is_up
            or self.is_failed
            or self.is_stopped
            or self._hangs
            or (self.life is not None and not self.life.is_over)
        ):
            return
        self.lives += 1
        self._stopping = asyncio.Event()
        self.life = Life(f"{self.name}#{self.lives}", self.clock.monotonic)
        self.life.context.run(LOG_FORMAT.set, self.log_format)
        self.around.loop.create_task(self._live(self.life), context=self.life.context)

    async def _live(self, life: Life) -> None:
        try:
            agent = self._assemble(life)
            await agent.start()
            self.agent, self.reachable = agent, Reachable(life, agent)
            await agent.run(self._stopping)
        except (SappersError, OSError) as error:
            self.around.watch.note(f"{self.name}: the agent ends: {error}")
        except Exception as error:
            self.around.watch.broke(f"{self.name}: the agent broke: {error!r}")
        self.reachable = self.agent = None
        asyncio.get_running_loop().call_soon(life.end)
        self.around.loop.call_later(START_AGAIN_SECONDS, self._start_agent, context=OUTSIDE)

    def _assemble(self, life: Life) -> Agent:
        around, name = self.around, self.name
        loop, network = around.loop, around.network
        folder = StateFolder(SimulatedPath(self.disk, name))
        me = described(self.settings, has_vote=folder.genesis.exists(), log_format=LOG_FORMAT.get())
        hub_client = SimulatedHubClient(around.hub, life, name)
        refusals = Refusals(self.clock)
        agent: Agent

        def open_voter_log(genesis: Genesis) -> ReplicatedLog:
            return RaftLog(
                name,
                genesis,
                folder.raft,
                identity_of(name),
                self.settings.raft,
                (self.settings.address, self.settings.ports.raft),
                lambda voter: agent.outlook.raft_address_of(voter),
                self.clock,
                others=lambda: agent.outlook.voter_addresses(),
                agent_lives=lambda: agent.goes_round,
                lease_seconds=self.settings.fencing.lease_seconds,
                start_process=process_starter(
                    loop, around.mesh, self.disk, around.watch, self.processes
                ),
            )

        def open_following_log(follower: Follower) -> FollowerLog:
            return FollowerLog(
                follower.fetch_snapshot, follower.fetch_entries, Path(name), self.disk
            )

        agent = Agent(
            settings=self.settings,
            folder=folder,
            me=me,
            clock=self.clock,
            membership=SimulatedMembership(around.gossip, life, me, self.met),
            gossip_keys=NoKeys(),
            hub_client=hub_client,
            messages=SimulatedMessages(name),
            hub_keys=HubKeys(name, lambda: NO_HUB_KEY, SimulatedMessages(name), self.clock),
            hub_server=SimulatedHubServer(around.hub, name),
            launcher=SimulatedLauncher(
                self.guests,
                lambda: agent.hub_members(),
                lambda one: agent.lease_of(one),
                self.disk,
            ),
            images=EveryImage(),
            peers=SimulatedPeers(
                loop, network, name, life, around.find, lambda one: agent.outlook.is_revoked(one)
            ),
            chunks=NoChunks(),
            refusals=refusals,
            hub_watch=HubWatch(
                hub=hub_client, violations=NoViolations(), holder=lambda _: None, refusals=refusals
            ),
            registration=Registration(None, self.clock),
            repair_signer=NoSigner(),
            credentials=NoCredentials(),
            routing=Routing(NoGateway(), None),
            mesh=Mesh(folder.mesh / "ports.json", self.clock, NoProxies(), None),
            streams=NoStreams(),
            hub_servers=NoHolders(),
            open_voter_log=open_voter_log,
            open_following_log=open_following_log,
            joiners_record=joiners_record,
        )
        return agent

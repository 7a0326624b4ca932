"""The watch: what must hold after every step, whatever the seed does."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from sappers.api.raft_wire import RaftReport
from sappers.consensus.journal import LogEntry
from sappers.decisions.healing import ATTEMPTS_MAX, REPAIRS_MAX
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Entry, NoOperation, decode_proposal
from sappers.model.member import MemberState
from tests.simulation.hosts import Host
from tests.simulation.loop import VirtualLoop

WHOLE_COMPARISON_EVERY = 8
AGE_MAX = 3.0  # where nothing lacks
CLOCKS_DIFFER = 0.01  # an age is counted by clocks that run a little fast or slow
PROOF_SECONDS = 5.0  # for so long it is known that a leader led
LAUNCHES_MAX = 6  # of one allocation: the first, the restarts that settings allow, and a few


class Watch:
    """Sees every entry that is applied, every leader, every guest that starts.

    Attributes:
        violations: What was broken, the first thing first.
        entries, states: By index, as the first voter that came there had them.
        requests: Index of the first entry of each request.
    """

    def __init__(self, loop: VirtualLoop, tell: Callable[[str], None] | None = None) -> None:
        self._loop = loop
        self._tell = tell
        self.violations: list[str] = []
        self.entries: dict[int, Entry] = {}
        self.states: dict[int, ClusterState] = {}
        self.newest_at: list[tuple[float, int]] = []  # when an index was applied first, by time
        self.requests: dict[str, int] = {}
        self.leaders: dict[int, str] = {}
        self.launches: Counter[str] = Counter()
        self.launched_at = 0.0
        self.launched_exclusive_at = 0.0
        self.hosts: list[Host] = []
        self.healers: dict[str, str] = {}  # at work: the member, by allocation
        self.repairs: Counter[str] = Counter()
        self.given_up: dict[int, Entry] = {}  # by `raft recover`
        self.recovered_at: float | None = None
        self.on_recovery: Callable[[ClusterState], None] = lambda _: None
        self._given_up_states: dict[tuple[int, int], ClusterState] = {}
        self._new_term = 0  # that of a recovery which has applied nothing of its own yet
        self._may_recover: RaftReport | None = None
        self._forgot_at: dict[str, int] = {}  # index by which a member has lost files
        self._voting_since: dict[str, int] = {}  # index at which it was given its vote
        self._compared: dict[str, int] = {}
        self._ages: dict[str, float | None] = {}  # as each said last

    def broke(self, what: str) -> None:
        """An invariant does not hold."""
        self.violations.append(f"{self._loop.time():.3f}  {what}")
        self.note(f"BROKEN {what}")

    def note(self, what: str) -> None:
        """Worth a line of the transcript."""
        if self._tell is not None:
            self._tell(f"{self._loop.time():8.3f}  {what}")

    # -- consensus ----------------------------------------------------------------------------

    def applied(self, who: str, entry: Entry, state: ClusterState) -> None:
        if not self.newest_at or entry.index > self.newest_at[-1][1]:
            self.newest_at.append((self._loop.time(), entry.index))
        known = self.entries.setdefault(entry.index, entry)
        if known != entry:
            self.broke(f"{who} applies another entry {entry.index} (term {entry.term} not"
                       f" {known.term})")  # fmt: skip
            return
        if known is entry:
            self._note_request(entry, state)
            self._note_votes(state)
        self._compare(who, state)
        if self._new_term and entry.term >= self._new_term:
            self._new_term = 0
            self.on_recovery(state)

    def newest(self) -> ClusterState:
        """The state at the highest index that was applied anywhere."""
        return self.states[max(self.states)]

    # -- what voters remember -----------------------------------------------------------------

    def _note_votes(self, state: ClusterState) -> None:
        before = self.states.get(state.index - 1)
        for voter in state.electorate:
            if before is None or voter not in before.electorate:
                self._voting_since[voter] = state.index

    def forgot(self, who: str) -> None:
        """What it voted with is not all there any more; with a vote given later it may vote."""
        self._forgot_at[who] = max(self.states)

    def remembers(self, who: str) -> bool:
        """Whether it has all that it ever did with the vote that it has now, if it has one."""
        return self._voting_since.get(who, 0) > self._forgot_at.get(who, -1)

    def votes(self, who: str) -> None:
        """Its raft process has begun."""
        if not self.remembers(who):
            self.broke(f"{who} votes by a vote that it has forgotten")

    def may_recover(self, chosen: RaftReport) -> None:
        """An operator has it go on alone, by its word of how far its log is."""
        self._may_recover = chosen

    def recovers(self, who: str, log: Iterable[LogEntry]) -> None:
        """It counts alone from now on, and what it has not is given up."""
        told, self._may_recover = self._may_recover, None
        if told is None or told.member_id != who:
            self.broke(f"{who} goes on alone, and nobody asked it to")
            return
        terms = {index: term for _, index, term in log}
        first = min(terms)
        kept = max(
            (i for i, entry in self.entries.items() if i < first or terms.get(i) == entry.term),
            default=0,
        )
        end = (told.status.last_term, told.status.last_index)
        for index in [index for index in self.entries if index > kept]:
            entry = self.given_up[index] = self.entries.pop(index)
            state = self.states.pop(index)
            self._given_up_states[index, state.term] = state
            if keeper := next((one.name for one in self.hosts if one.holds(entry)), ""):
                self.broke(f"{index} is given up, and {keeper} has it")
            if (entry.term, index) <= end:
                self.broke(f"{index} is given up, but {who} said that it has entries up to {end}")
        self.newest_at = [(at, index) for at, index in self.newest_at if index <= kept]
        self.requests = {one: index for one, index in self.requests.items() if index <= kept}
        for known in (self._forgot_at, self._voting_since):
            known.update({one: min(index, kept) for one, index in known.items()})
        self._new_term = max(self.leaders) + 1
        self.recovered_at = self._loop.time()
        self.note(f"{who} goes on alone with {kept} entries; {len(self.given_up)} are given up")

    def _note_request(self, entry: Entry, state: ClusterState) -> None:
        """A request that was applied before must change nothing."""
        try:
            request_id = decode_proposal(entry.payload).request_id
        except msgspec.DecodeError:
            return  # a leader's own first entry
        first = self.requests.setdefault(request_id, entry.index)
        before = self.states.get(entry.index - 1)
        if first == entry.index or before is None:
            return
        unchanged = msgspec.structs.replace(before, index=state.index, term=state.term)
        if self._took_effect(first) and state != unchanged:
            self.broke(f"request {request_id} of entry {first} is applied again at {entry.index}")

    def _took_effect(self, index: int) -> bool:
        before, after = self.states.get(index - 1), self.states.get(index)
        if before is None or after is None:
            return False
        return after != msgspec.structs.replace(before, index=after.index, term=after.term)

    def installed(self, who: str, state: ClusterState) -> None:
        self._compare(who, state, whole=True)

    def leads(self, who: str, term: int) -> None:
        first = self.leaders.setdefault(term, who)
        if first != who:
            self.broke(f"two leaders in term {term}: {first} and {who}")

    def _compare(self, who: str, state: ClusterState, *, whole: bool = False) -> None:
        truth = self.states.setdefault(state.index, state)
        if truth is state:
            return
        same = truth.events[-1:] == state.events[-1:] and truth.term == state.term
        if whole or state.index % WHOLE_COMPARISON_EVERY == 0:
            same = same and truth == state
        if not same:
            self.broke(f"{who} has another state at index {state.index}")

    def look_at_replicas(self, hosts: Iterable[Host], *, whole: bool = False) -> None:
        """The agents' copies of the state, followers' too."""
        for host in hosts:
            if host.agent is None or not host.agent.has_log:
                continue
            state = host.agent.log.state()
            if state.index <= 1 or (self._compared.get(host.name) == state.index and not whole):
                continue
            if (given_up := self._given_up_states.get((state.index, state.term))) is not None:
                if whole or given_up != state:
                    self.broke(f"{host.name} is at index {state.index}, which was given up")
                continue
            self._compared[host.name] = state.index
            if state.index not in self.states:
                self.broke(f"{host.name} is at index {state.index}, which no voter has applied")
            else:
                self._compare(f"{host.name}'s agent", state, whole=whole)

    def look_at_ages(self, hosts: Iterable[Host]) -> None:
        """Whether members say how old their states are, at most."""
        for host in hosts:
            if host.life is not None:
                self._loop.call_soon(self._look_at_age, host, context=host.life.context)

    def _look_at_age(self, host: Host) -> None:
        if host.agent is None or not host.agent.has_log:
            return
        age, index = host.agent.log.state_age(), host.agent.log.state().index
        self._ages[host.name] = age
        if age is None:
            return
        then = self._loop.time() - age * (1 + CLOCKS_DIFFER)
        if (index, host.agent.log.state().term) in self._given_up_states:
            if then > (self.recovered_at or 0.0) + CLOCKS_DIFFER:
                self.broke(f"{host.name} says that its state, of index {index}, is at most"
                           f" {age:.1f} s old, but it was given up before")  # fmt: skip
            return
        known = bisect_left(self.newest_at, (then, 0))
        if known and self.newest_at[known - 1][1] > index:
            newer = self.newest_at[known - 1][1]
            self.broke(f"{host.name} says that its state, of index {index}, is at most {age:.1f} s"
                       f" old, but {newer} was committed before")  # fmt: skip

    def why_not_new(self) -> str:
        """Whose state is not known to be new, in one sentence."""
        for host in self.hosts:
            age = self._ages.get(host.name)
            if host.is_present and (age is None or age > AGE_MAX):
                return f"{host.name} says that its state is {age} s old"
        return ""

    # -- power --------------------------------------------------------------------------------

    def fences(self, who: str, member: str, term: int) -> None:
        """It is about to cut a member's host off from power: it must have been asked of late."""
        self.note(f"{who} cuts {member} off from power")
        proven = (who, term, (NoOperation(),))
        for at, index in reversed(self.newest_at):
            entry = self.entries[index]
            if self._loop.time() - at > PROOF_SECONDS or entry.term != term:
                break
            proposal = decode_proposal(entry.payload) if entry.payload else None
            if proposal is not None and proven == (
                proposal.proposer,
                proposal.leader_term,
                proposal.commands,
            ):
                return
        self.broke(f"{who} cuts {member} off from power, and has not proven that it leads")

    # -- guests -------------------------------------------------------------------------------

    def launched(self, host: str, allocation: Allocation) -> None:
        self.launches[allocation.id] += 1
        if allocation.is_exclusive:
            self.launched_exclusive_at = self._loop.time()
            self._look_for_twins(allocation.workload)
        where = next(one for one in self.hosts if one.name == host)
        if not allocation.is_exclusive and not where.is_revoked:  # that one hears nothing new
            self.launched_at = self._loop.time()
        # Each power loss of its host ends a guest once more.
        if self.launches[allocation.id] > LAUNCHES_MAX + where.power_losses:
            self.broke(f"a restart storm: {allocation.id} on {host} was launched"
                       f" {self.launches[allocation.id]} times")  # fmt: skip

    def healer_works(self, healer: str, member: str) -> None:
        """It has its credential, and has not ended."""
        if other := next((one for one, whose in self.healers.items() if whose == member), ""):
            self.broke(f"{healer} and {other} repair {member} at once")
        self.healers[healer] = member

    def healer_ends(self, healer: str) -> None:
        self.healers.pop(healer, None)

    def repaired(self, member: str) -> None:
        """A healer has its agent started."""
        self.repairs[member] += 1
        self.note(f"a healer starts the agent of {member}")
        if self.repairs[member] > ATTEMPTS_MAX * REPAIRS_MAX:
            self.broke(f"a storm of repairs: the agent of {member} was started"
                       f" {self.repairs[member]} times")  # fmt: skip

    def _look_for_twins(self, workload: str) -> None:
        """Of an exclusive workload one guest runs, wherever its members think that they are."""
        live = [
            f"{guest.allocation.id} on {host.name}"
            for host in self.hosts
            for guest in host.guests.running.values()
            if guest.is_running and guest.allocation.workload == workload
        ]
        if len(live) > 1:
            self.broke(f"exclusive guests run at once: {live}")


def why_not_whole(state: ClusterState, hosts: Iterable[Host]) -> str:
    """What is not as wanted yet, in one sentence; empty once everything is."""
    up = {host.name: host for host in hosts if host.is_present}
    return _why_not_agreed(state, up) or _why_not_running(state, up)


def _why_not_agreed(state: ClusterState, up: Mapping[str, Host]) -> str:
    indexes = set()
    gone = set(state.electorate) - up.keys()
    if gone and up.keys() - set(state.electorate):
        return f"{sorted(gone)} is gone and still votes, though there are others"
    for name, host in up.items():
        if host.agent is None or not host.agent.has_log:
            return f"the agent of {name} does not run"
        if host.trouble:
            return f"{name} does not vote: {host.trouble}"
        if host.agent.log.status().leader_id is None:
            return f"{name} knows of no leader"
        indexes.add(host.agent.log.state().index)
        member = state.members.get(name)
        if member is None or member.state is not MemberState.ALIVE:
            return f"{name} is not alive by the state"
        if member.address != host.settings.address:
            return f"{name} is thought to be elsewhere"
    return f"the members are at different indexes: {sorted(indexes)}" if len(indexes) > 1 else ""


def _why_not_running(state: ClusterState, up: Mapping[str, Host]) -> str:
    wanted: dict[str, set[str]] = {name: set() for name in up}
    for _, workload in sorted(state.workloads.items()):
        live = [
            a for a in state.allocations_of(workload.name) if a.wanted and not a.status.is_terminal
        ]
        healthy = [
            a
            for a in live
            if a.status is AllocationStatus.HEALTHY
            and a.revision == workload.revision
            and a.member_id in up
        ]
        if len(live) != workload.count or len(healthy) != workload.count:
            return f"{workload.name}: {len(healthy)} healthy copies of {workload.count}"
        for allocation in live:
            wanted[allocation.member_id].add(allocation.id)
    for name, host in up.items():
        running = host.guests.running
        for guest in running.values():
            if guest.is_silent or not guest.is_running:
                return f"{guest.allocation.id} is said to be healthy, and is not"
        if set(running) != wanted[name]:
            return f"{name} runs {sorted(running)}, wanted are {sorted(wanted[name])}"
    return ""

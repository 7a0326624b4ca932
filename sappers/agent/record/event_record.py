"""This member's record of events: what the log makes happen, written down, and read again.

It runs beside the loop and holds nothing up. What it was not there for (the member was away for
longer than the state remembers) it fetches from others; only what fits the chain is taken.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from sappers.agent.record.event_files import BEFORE_RESTORE, EventFiles, Line
from sappers.decisions.event_chain import Gap, leading_to
from sappers.decisions.explaining import Links, find_asked
from sappers.errors import ApiError
from sappers.model.cluster_state import ClusterState
from sappers.model.event import (
    MARK_EVERY,
    RESTORED,
    BrokenLink,
    Event,
    EventCheck,
    EventFilter,
    Story,
    event_digest,
    event_in,
    line_digest,
)
from sappers.model.known_types import UNREADABLE
from sappers.model.member import Member, MemberState
from sappers.model.policy import EventSettings
from sappers.ports import PeerClient, ReplicatedLog
from sappers.reasons import Reasons

STORY_EVENTS_MAX = 500
FETCH_AT_ONCE = 1000
_FETCH_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 10.0

log = structlog.get_logger(__name__)


class _Fetched(msgspec.Struct, frozen=True):
    """Other members' answer; see `api.wire.Events`."""

    index: int
    events: tuple[Event, ...]


class EventRecord:
    """Implements `ports.EventRecord`; `run` writes."""

    def __init__(
        self,
        folder: Path,
        settings: EventSettings,
        replicated: Callable[[], ReplicatedLog],
        peers: PeerClient,
        members: Callable[[], Sequence[Member]],
        me_id: Callable[[], str],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._replicated = replicated
        self._peers = peers
        self._members = members
        self._me_id = me_id
        self._opening = threading.Lock()
        self._writing = asyncio.Lock()
        self._opened: EventFiles | None = None
        self._agreed_head = ""  # of a state that is behind the files, as after a start
        self._may_fill = True  # others have not been asked for what is missing here

    # -- writing -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        reasons = Reasons()
        while True:
            try:
                await self.write_down()
                reasons.forget(self._folder)
                await asyncio.sleep(_LOOK_SECONDS)
            except OSError as error:
                if reasons.is_new(self._folder, str(error)):
                    log.warning("events are not written down", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                log.exception("the record of events broke")
                await asyncio.sleep(_RETRY_SECONDS)

    async def write_down(self) -> None:
        """Bring the files up to the log, and have what was missed from others.

        Raises:
            OSError: The disk refuses.
        """
        async with self._writing:
            await self._write_down(await asyncio.to_thread(self._files))

    async def take_older(self, events: Sequence[Event]) -> int:
        """See the port."""
        async with self._writing:
            files = await asyncio.to_thread(self._files)
            await self._write_down(files)
            await asyncio.to_thread(files.fill, events)
            return next((gap.last + 1 for gap in await asyncio.to_thread(files.gaps)), 1)

    async def _write_down(self, files: EventFiles) -> None:
        replicated = self._replicated()
        waiting = _counted(replicated.events_after(files.last))
        if await asyncio.to_thread(self._another_chain, files, waiting, replicated.state()):
            log.warning("the cluster has another chain than the files", number=files.last)
            news = [event for event in replicated.state().events if event.kind == RESTORED]
            restored = bool(news) and not await asyncio.to_thread(files.has, news[-1])
            await asyncio.to_thread(files.begin_anew, restored=restored)
            waiting = _counted(replicated.events_after(0))
        if waiting:
            self._may_fill |= waiting[0].number > files.last + 1
            await asyncio.to_thread(files.append, waiting)
        if self._may_fill:
            await self._fill(files)

    def _another_chain(
        self, files: EventFiles, waiting: Sequence[Event], state: ClusterState
    ) -> bool:
        """Whether the files are not the cluster's chain: it was restored, or they were changed."""
        if not files.last:
            return False
        if not waiting:
            return self._differs(files, state)
        if waiting[0].number == files.last + 1:
            return waiting[0].previous != files.head
        return any(event.kind == RESTORED for event in waiting)

    def _differs(self, files: EventFiles, state: ClusterState) -> bool:
        """Whether the state's newest event is another one in the files: it was restored."""
        if state.event_head in (self._agreed_head, files.head, ""):
            return False
        for line in files.lines(state.event_count):
            if line.number == state.event_count:
                if line_digest(line.text) != state.event_head:
                    return True
                break
        self._agreed_head = state.event_head
        return False

    async def _fill(self, files: EventFiles) -> None:
        """Write down what is missing, as others have it: after a start, and when there is more."""
        others = [
            member
            for member in self._members()
            if member.id != self._me_id() and member.state is MemberState.ALIVE
        ]
        if not others or not files.last:
            return
        self._may_fill = False
        for member in others:
            below = files.last
            while gap := await asyncio.to_thread(_gap_below, files, below):
                below = gap.last + 1 if await self._fetch(files, member, gap) else gap.first
        for gap in await asyncio.to_thread(files.gaps):
            log.warning("nobody has events", first=gap.first, last=gap.last)

    async def _fetch(self, files: EventFiles, member: Member, gap: Gap) -> bool:
        """Write down a member's newest events of a gap; whether it had any that lead out of it."""
        # Most have just as little, so that the first question is a small one.
        if not leading_to(await self._page(member, gap.last, gap.last), gap.digest):
            return False
        page = await self._page(member, max(gap.first, gap.last - FETCH_AT_ONCE + 1), gap.last)
        return await asyncio.to_thread(files.fill, page)

    async def _page(self, member: Member, first: int, last: int) -> tuple[Event, ...]:
        """What a member has of some numbers."""
        path = f"/v1/events?first={first}&limit={last - first + 1}"
        try:
            answer = await self._peers.call(member, "GET", path, timeout_seconds=_FETCH_SECONDS)
            found = msgspec.json.decode(answer, type=_Fetched).events
            return tuple(event for event in found if first <= event.number <= last)
        except (ApiError, *UNREADABLE) as error:
            log.info("no events from a member", member=member.name, error=str(error))
            return ()

    def _files(self) -> EventFiles:
        with self._opening:
            if self._opened is None:
                self._opened = EventFiles(self._folder, self._settings)
            return self._opened

    # -- reading -------------------------------------------------------------------------------

    async def read(self, wanted: EventFilter, limit: int) -> tuple[Event, ...]:
        """See the port."""
        return await asyncio.to_thread(self._read, wanted, limit)

    def _read(self, wanted: EventFilter, limit: int) -> tuple[Event, ...]:
        newest: deque[Event] = deque(maxlen=limit)
        for event in self._all(wanted.first):
            if wanted.matches(event):
                if wanted.from_somewhere and len(newest) == limit:
                    break
                newest.append(event)
        return tuple(newest)

    def _all(self, first: int = 0) -> Iterator[Event]:
        """Every event that is known here, oldest first: files, and what is newer in the state."""
        kept = self._replicated().state().events
        if kept and first >= kept[0].number > 0:
            yield from kept
            return
        if not first:
            yield from (event for event in kept if not event.number)
        last = 0
        for line in self._files().lines(first):
            if (event := event_in(line.text)) is not None:  # else `check` says where
                last = max(last, event.number)
                yield event
        yield from (event for event in kept if event.number > last)

    async def explain(self, name: str) -> Story | None:
        """See the port."""
        return await asyncio.to_thread(self._explain, name)

    def _explain(self, name: str) -> Story | None:
        state = self._replicated().state()
        asked = find_asked(state, name)
        # What the state has forgotten is known by its events.
        links = Links(asked.subjects or {name}, STORY_EVENTS_MAX)
        for event in self._all():
            links.learn(event)
        numbers, cut = links.story()
        if not numbers and not asked.subjects:
            return None
        first = min(numbers, default=0)
        events = tuple(event for event in self._all(first) if event.number in numbers)
        return Story(name, asked.now, state.index, events, cut)

    async def check(self) -> EventCheck:
        """See the port."""
        return await asyncio.to_thread(self._check)

    def _check(self) -> EventCheck:
        state = self._replicated().state()
        files = self._files()
        walk = _Walk()
        for line in files.lines():
            walk.take(line)
        in_state = _Walk()
        for event in state.events:
            if event.number:
                in_state.follow(event, event_digest(event), "the replicated state")
        broken = walk.broken or in_state.broken or _other(walk, in_state)
        if broken is None and state.event_count and in_state.head != state.event_head:
            reason = "its newest event is not the one that its head stands for"
            broken = BrokenLink(in_state.last, "the replicated state", reason)
        aside = files.set_aside()
        odd = [one for one in aside if not one.stem.endswith(BEFORE_RESTORE)]
        # Files of a restored cluster may be from before, and who was not there cannot tell.
        saw_why = not state.restored or any(one.kind == RESTORED for one in state.events)
        if broken is None and odd and saw_why:
            reason = "it did not lead to the cluster's chain any more, and was set aside"
            broken = BrokenLink(0, str(odd[0]), reason)
        return EventCheck(
            member_id=self._me_id(),
            first=walk.first,
            last=walk.last,
            head=walk.head,
            marks=walk.marks,
            missing=tuple(walk.missing),
            set_aside=len(aside),
            state_count=state.event_count,
            state_head=state.event_head,
            broken=broken,
        )


class _Walk:
    """Goes along a chain, oldest first, up to the first link that does not hold."""

    def __init__(self) -> None:
        self.first = self.last = 0
        self.head = ""
        self.marks: dict[int, str] = {}
        self.missing: list[tuple[int, int]] = []
        self.newest: deque[tuple[int, str, str]] = deque(maxlen=2000)  # number, digest, place
        self.broken: BrokenLink | None = None
        self._place = ""

    def take(self, line: Line) -> None:
        """The next line of a file."""
        event = event_in(line.text)
        if event is None:
            self._break(self.last + 1 if self.last else 0, line.place, "it is no event")
        else:
            self.follow(event, line_digest(line.text), line.place)

    def follow(self, event: Event, digest: str, place: str) -> None:
        """The next event, and its digest."""
        if self.broken is not None:
            return
        if event.number < 1:
            self._break(self.last + 1 if self.last else 0, place, "it has no number")
            return
        if not self.first:
            self.first = event.number
        elif event.number == self.last + 1:
            if event.previous != self.head:
                # It is the one before that is not what it was when this one followed it.
                reason = f"its digest is {self.head[:12]}, event {event.number} follows on "
                self._break(self.last, self._place, f"{reason}{event.previous[:12]}")
                return
        elif event.number > self.last + 1:
            self.missing.append((self.last + 1, event.number - 1))
        else:
            reason = f"it stands after event {self.last}"
            self._break(event.number, place, reason)
            return
        self.last, self.head, self._place = event.number, digest, place
        self.newest.append((event.number, digest, place))
        if event.number % MARK_EVERY == 0:
            self.marks[event.number] = digest

    def _break(self, number: int, place: str, reason: str) -> None:
        if self.broken is None:
            self.broken = BrokenLink(number, place, reason)


def _other(files: _Walk, state: _Walk) -> BrokenLink | None:
    """Where the files first differ from the replicated state."""
    agreed = {number: digest for number, digest, _ in state.newest}
    for number, digest, place in files.newest:
        if agreed.get(number, digest) != digest:
            return BrokenLink(number, place, "the replicated state has another one")
    return None


def _gap_below(files: EventFiles, number: int) -> Gap | None:
    """The newest gap that ends before a number."""
    return next((gap for gap in files.gaps() if gap.last < number), None)


def _counted(events: Sequence[Event]) -> tuple[Event, ...]:
    """Those that have a number; of earlier versions' the state alone knows."""
    return tuple(event for event in events if event.number)

"""Seats: a member gains a vote, loses it and gains it again; what it sees never goes back."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from sappers.agent.voting import vote_memory
from sappers.agent.voting.genesis import load_genesis
from sappers.agent.voting.seat import Seat
from sappers.agent.voting.vote_memory import VoteMemory
from sappers.config import StateFolder
from sappers.errors import IdentityError, LogDamaged, SappersError
from sappers.model.cluster_state import ClusterState
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.view import Genesis
from tests.unit.worlds import founded
from tests.waiting import eventually

FIRST = Genesis("c1", "m1", ("m1", "m2", "m3"), {})


def failing(number: int) -> Callable[..., NoReturn]:
    """A function that always fails with this errno."""

    def fail(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


class Log:
    """A log that stands where the test says."""

    def __init__(self, state: ClusterState, *, votes: bool) -> None:
        self.current = state
        self.votes = votes
        self.removed = False
        self.damage = ""
        self.fails = False
        self.runs = False
        self.leader_id: str | None = "m2"
        self.term = 1
        self.commit_index = 0

    async def start(self) -> None:
        if self.fails:
            raise SappersError("the port is taken")
        self.runs = True

    async def stop(self) -> None:
        self.runs = False

    def state(self) -> ClusterState:
        return self.current

    def status(self) -> RaftStatus:
        role = RaftRole.FOLLOWER if self.votes else RaftRole.NONE
        return RaftStatus(
            role,
            self.term,
            self.leader_id,
            self.commit_index,
            self.current.index,
            is_removed=self.removed,
            down=self.damage,
            is_damaged=bool(self.damage),
        )

    async def changes(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    async def begin_at(self, state: ClusterState) -> None:
        if state.index > self.current.index:
            self.current = state


class Follower:
    following: object = None

    def follow(self, following: object) -> None:
        self.following = following


class World:
    def __init__(self, folder: Path, me_id: str = "m4") -> None:
        self.folder = StateFolder(folder)
        self.folder.raft.mkdir(exist_ok=True)
        self.me_id = me_id
        self.committed = founded(4)
        self.follower = Follower()
        self.says_it_votes: list[bool] = []
        self.says_it_is_damaged = False
        self.opened: list[Log] = []
        self.next_fails = False
        self.seat = self.new_seat()

    def new_seat(self) -> Seat:
        return Seat(
            me_id=self.me_id,
            folder=self.folder,
            follower=self.follower,
            open_voter_log=self.open_voter,
            open_following_log=self.open_following,
            joiners_record=lambda state: Genesis(state.cluster_id, "", state.electorate, {}),
            wake=lambda: None,
            tell=self.tell,
        )

    async def restart(self) -> None:
        """Another agent, with what is on disk."""
        await self.seat.stop()
        self.seat = self.new_seat()
        await self.seat.start()

    def open_voter(self, genesis: Genesis) -> Log:
        assert self.me_id in genesis.voters
        (self.folder.raft / "journal").write_text("a vote")
        log = Log(ClusterState(index=1), votes=True)
        log.fails, self.next_fails = self.next_fails, False
        self.opened.append(log)
        return log

    def open_following(self, _: object) -> Log:
        log = Log(ClusterState(index=1), votes=False)
        self.opened.append(log)
        return log

    async def tell(self, *, votes: bool, damaged: bool = False) -> None:
        if [votes] != (self.says_it_votes or [False])[-1:]:
            self.says_it_votes.append(votes)
        self.says_it_is_damaged = damaged

    def elect(self, *voters: str) -> ClusterState:
        """A later state with these voters."""
        index = self.committed.index + 1
        self.committed = msgspec.structs.replace(
            self.committed,
            electorate=voters,
            electorate_index=index,
            electorate_term=self.committed.term,
            index=index,
        )
        return self.committed

    def recover(self, *voters: str) -> None:
        """The cluster goes on without its last entries, in terms that begin 1,000 later."""
        self.committed = msgspec.structs.replace(
            self.committed,
            electorate=voters,
            electorate_index=self.committed.electorate_index - 3,
            electorate_term=self.committed.term + 1000,
            index=self.committed.electorate_index - 3,
            term=self.committed.term + 1000,
        )
        self.seat.log.term = self.committed.term

    async def until(self, log: Log) -> None:
        self.seat.attend()
        await eventually(lambda: self.seat.log is log and self.is_seated())

    def is_seated(self) -> bool:
        return self.seat._change is None or self.seat._change.done()

    async def hear_of_no_vote(self) -> None:
        """See a state that is as new as the cluster's, and gives no vote."""
        assert self.me_id not in self.committed.electorate
        self.seat.log.current = self.committed
        self.seat.attend()
        await eventually(self.is_seated)
        assert self.folder.no_vote.exists()

    async def gain(self) -> Log:
        """Be given a vote, and catch up with it."""
        if not (self.folder.no_vote.exists() or self.folder.genesis.exists()):
            await self.hear_of_no_vote()
        following = self.seat.log
        assert isinstance(following, Log)
        following.current = self.elect("m1", "m2", self.me_id)
        before = len(self.opened)
        self.seat.attend()
        await eventually(lambda: len(self.opened) > before and self.opened[-1].runs)
        voter = self.opened[-1]
        assert self.seat.log is following, "an empty log is not looked at"
        voter.current = self.committed
        await self.until(voter)
        return voter


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.seat.start()
    yield made
    await made.seat.stop()


async def test_a_member_that_is_given_a_vote_votes_once_its_log_is_as_far(world: World) -> None:
    following = world.seat.log
    world.seat.attend()
    assert world.is_seated(), "nobody gave it a vote"
    await world.gain()
    assert not following.runs
    assert world.follower.following is None
    assert world.says_it_votes == [True]
    assert load_genesis(world.folder.genesis).voters == ("m1", "m2", "m4")


async def test_one_that_lost_its_vote_follows_from_where_it_stood(world: World) -> None:
    voter = await world.gain()
    voter.removed = True
    world.seat.attend()
    await eventually(lambda: world.seat.log is not voter)
    following = world.seat.log
    assert following.state() == voter.current
    await world.until(following)
    assert world.seat.log is following, "its own state says still that it votes"
    assert world.says_it_votes == [True, False]
    assert world.follower.following is following
    assert (world.folder.raft / "journal").exists(), "one voter's word deletes nothing"
    following.current = world.elect("m1", "m2")
    await world.until(following)
    assert load_genesis(world.folder.genesis) is None
    assert world.folder.former_genesis.exists()
    assert list(world.folder.raft.iterdir()) == []
    # The founder's old word does not bring it back; the cluster's new one does.
    with pytest.raises(IdentityError, match="has lost the vote"):
        await world.seat.accept_genesis(msgspec.structs.replace(FIRST, voters=("m4",)))
    await world.gain()
    assert world.says_it_votes == [True, False, True]


async def test_after_a_restart_it_sits_where_it_sat(world: World) -> None:
    await world.gain()
    await world.restart()
    voter = world.seat.log
    assert voter.votes
    voter.removed = True
    world.seat.attend()
    await world.seat._change
    world.seat.log.current = world.elect("m1", "m2")
    await world.until(world.seat.log)
    await world.restart()
    assert not world.seat.log.votes


async def test_a_copy_of_the_state_from_before_the_loss_gives_no_vote_back(world: World) -> None:
    """What it voted since is deleted: it could vote in the same terms again."""
    voter = await world.gain()
    voter.term = 7
    voter.removed = True
    old = world.committed
    world.seat.attend()
    await world.seat._change
    world.seat.log.current = world.elect("m1", "m2")
    await world.until(world.seat.log)
    await world.restart()
    following = world.seat.log
    following.current = old
    world.seat.attend()
    assert world.is_seated(), "by this state it votes, and a voter that lags names a leader"
    await world.gain()
    assert load_genesis(world.folder.genesis).term == 7, "it votes in later terms alone"


async def test_a_vote_that_a_recovered_cluster_gives_is_new_though_its_index_is_lower(
    world: World,
) -> None:
    """`raft recover` gave up what this member knows: it is at lower indexes, in later terms."""
    for _ in range(5):
        world.elect("m1", "m2", "m3")
    await world.hear_of_no_vote()
    world.recover("m1")
    await world.gain()


async def test_so_is_one_for_a_member_that_lost_its_vote_before(world: World) -> None:
    for _ in range(5):
        world.elect("m1", "m2", "m3")
    voter = await world.gain()
    voter.removed = True
    world.seat.attend()
    await world.seat._change
    world.seat.log.current = world.elect("m1", "m2")
    await world.until(world.seat.log)
    before = world.committed
    world.recover("m1")
    await world.gain()
    await world.restart()
    assert world.seat.log.votes
    assert before.electorate_index > world.committed.electorate_index


async def test_a_recovered_cluster_gives_no_vote_back_before_it_counts_alone(world: World) -> None:
    """Until then its state has an electorate from before; this member may have had a vote in it."""
    voter = await world.gain()
    voter.removed = True
    old = world.committed
    world.seat.attend()
    await world.seat._change
    world.seat.log.current = world.elect("m1", "m2")
    await world.until(world.seat.log)
    await world.restart()
    world.seat.log.current = msgspec.structs.replace(old, term=1002, index=world.committed.index)
    world.seat.log.term = 1002
    world.seat.attend()
    assert world.is_seated()
    assert not world.seat.log.votes


async def test_the_vote_of_another_cluster_is_another(tmp_path: Path) -> None:
    former = Genesis("c0", "", ("m4",), {}, index=10**6, term=10**6)
    StateFolder(tmp_path).former_genesis.write_bytes(msgspec.json.encode(former))
    world = World(tmp_path)
    await world.seat.start()
    await world.gain()
    assert load_genesis(world.folder.genesis).term == 0
    await world.seat.stop()


async def test_a_vote_that_the_quorum_may_lack_waits_for_no_leader(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would lead waits for this vote."""
    await world.hear_of_no_vote()
    following = world.seat.log
    following.leader_id = None
    following.current = world.elect("m1", "m2", "m4")
    world.seat.attend()
    assert world.is_seated(), "there may be one that was not heard yet"
    monkeypatch.setattr("sappers.agent.voting.seat.DOUBT_SECONDS", 0.0)
    following.commit_index = following.current.index + 1
    world.seat.attend()
    assert world.is_seated(), "what is committed next may take the vote away again"
    following.commit_index = following.current.index
    world.seat.attend()
    await eventually(lambda: world.opened[-1].votes and world.opened[-1].runs)


async def test_one_whose_files_are_damaged_follows_and_begins_again_once_it_is_removed(
    world: World,
) -> None:
    await world.gain()
    await world.seat.stop()
    (world.folder.raft / "journal").unlink()  # it is known that there was one
    world.seat = world.new_seat()
    await world.seat.start()
    assert str(world.folder.raft) in world.seat.trouble
    assert world.says_it_votes[-1] is False
    assert world.says_it_is_damaged
    following = world.seat.log
    assert not following.votes
    (world.folder.raft / "evidence").write_text("")
    following.current = world.elect("m1", "m2", "m4")
    world.seat.attend()
    assert world.is_seated(), "the others count on a memory that it has not got"
    assert world.seat.trouble
    following.current = world.elect("m1", "m2", "m3")
    world.seat.attend()
    await eventually(world.is_seated)
    assert world.seat.trouble == ""
    assert not world.says_it_is_damaged, "it may be given a vote from now on"
    assert (world.folder.damaged_raft / "evidence").exists()
    assert load_genesis(world.folder.genesis) is None
    await world.gain()


async def test_one_whose_files_are_found_damaged_while_it_runs_follows_from_where_it_stood(
    world: World,
) -> None:
    """The raft process ended and was started again; the agent was not."""
    voter = await world.gain()
    voter.damage = "raft/journal does not match its checksum"
    world.seat.attend()
    await eventually(lambda: world.seat.log is not voter and world.is_seated())
    following = world.seat.log
    assert following.state() == voter.current
    assert world.seat.trouble == voter.damage
    assert world.says_it_is_damaged
    assert not voter.runs, "it is started no more"
    assert (world.folder.raft / "journal").exists()
    await is_removed_and_begins_again(world)


async def test_one_that_is_given_a_vote_that_it_cannot_use_says_why(world: World) -> None:
    await world.hear_of_no_vote()
    world.seat.log.current = world.elect("m1", "m2", "m4")
    world.seat.attend()
    await eventually(lambda: world.opened[-1].votes and world.opened[-1].runs)
    world.opened[-1].damage = "raft/term is missing"
    await eventually(world.is_seated)
    assert world.seat.trouble == "raft/term is missing"
    assert world.says_it_is_damaged
    await is_removed_and_begins_again(world)


async def test_one_that_began_again_waits_for_a_new_vote_as_others_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it doubted a loss before its files were found damaged is over with them."""
    voter = await world.gain()
    voter.removed = True
    world.seat.attend()
    await eventually(lambda: world.seat.log is not voter and world.is_seated())
    monkeypatch.setattr("sappers.agent.voting.seat.DOUBT_SECONDS", 0.0)
    world.seat._open_voter_log = lambda _: refuses(LogDamaged("raft/journal is damaged"))
    world.seat.attend()
    await eventually(lambda: world.seat.trouble and world.is_seated())
    world.seat._open_voter_log = world.open_voter
    following = world.seat.log
    following.current = world.elect("m1", "m2", "m3")
    world.seat.attend()
    await eventually(world.is_seated)
    following.current = world.elect("m1", "m2", "m4")
    following.commit_index = following.current.index + 1
    world.seat.attend()
    assert world.is_seated(), "what is committed next may take the vote away again"


@pytest.mark.parametrize("name", ["raft/journal", "genesis.json", "former-genesis.json"])
async def test_a_folder_in_the_place_of_a_file_keeps_nobody_from_beginning_again(
    world: World, name: str
) -> None:
    await world.gain()
    await world.seat.stop()
    place = world.folder.root / name
    place.unlink(missing_ok=True)
    (place / "lost+found").mkdir(parents=True)
    world.seat = world.new_seat()
    damage = LogDamaged(f"{place} cannot be read: Is a directory")
    world.seat._open_voter_log = lambda _: refuses(damage)
    await world.seat.start()
    assert name in world.seat.trouble
    world.seat._open_voter_log = world.open_voter
    await is_removed_and_begins_again(world)
    assert (world.folder.damaged_raft / place.name).is_dir()


async def test_a_file_that_cannot_be_read_keeps_nobody_from_beginning_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    voter = await world.gain()
    voter.damage = "raft/journal cannot be read: Input/output error"
    world.seat.attend()
    await eventually(lambda: world.seat.log is not voter and world.is_seated())

    monkeypatch.setattr(vote_memory.shutil, "copy2", failing(errno.EIO))
    await is_removed_and_begins_again(world)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_without_room_for_a_copy_of_what_is_damaged_it_stays_where_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    folder = StateFolder(world.folder.root)
    folder.raft.mkdir(parents=True, exist_ok=True)
    (folder.raft / "journal").write_bytes(b"evidence")

    def copy(source: object, target: object) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(vote_memory.shutil, "copy2", copy)
    with pytest.raises((OSError, shutil.Error)):
        VoteMemory("m1", folder).put_away(ClusterState(index=1))
    assert (folder.raft / "journal").read_bytes() == b"evidence"


def refuses(error: Exception) -> Log:
    log = Log(ClusterState(index=1), votes=True)

    async def start() -> None:
        raise error

    log.start = start  # type: ignore[method-assign]
    return log


async def test_one_that_cannot_vote_yet_goes_on_following_and_tries_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.agent.voting.seat.RETRY_SECONDS", 0.0)
    await world.hear_of_no_vote()
    world.next_fails = True
    following = world.seat.log
    following.current = world.elect("m1", "m2", "m4")
    world.seat.attend()
    await world.seat._change
    assert world.seat.log is following
    await world.gain()


@pytest.mark.parametrize("left", [("raft-started", "raft/journal"), ("raft/journal",), ()])
async def test_a_loss_that_was_interrupted_ends_when_the_cluster_confirms_it(
    world: World, left: tuple[str, ...]
) -> None:
    voter = await world.gain()
    voter.removed = True
    world.seat.attend()
    await world.seat._change
    world.seat.log.current = world.elect("m1", "m2")
    await world.until(world.seat.log)
    world.folder.no_vote.unlink()
    for name in left:
        (world.folder.root / name).write_text("of an earlier life")
    await world.restart()
    assert bool(world.seat.trouble) == bool(left)
    assert world.says_it_is_damaged, "it would not use a vote that it is given now"
    world.seat.log.current = world.committed
    await world.until(world.seat.log)
    assert world.seat.trouble == ""
    assert not world.says_it_is_damaged
    voter = await world.gain()
    assert (world.folder.raft / "journal").read_text() == "a vote"
    assert voter.runs


def lose(folder: StateFolder, *names: str) -> None:
    for name in names:
        (folder.root / name).unlink()


@pytest.mark.parametrize(
    "lost", [("genesis.json",), ("genesis.json", "raft-started"), ("genesis.json", "raft/journal")]
)
async def test_where_the_genesis_is_missing_what_it_voted_with_is_neither_used_nor_deleted(
    world: World, lost: tuple[str, ...]
) -> None:
    """Entries that it acknowledged are there: a majority may be counting on them."""
    await world.gain()
    await world.seat.stop()
    (world.folder.raft / "journal").write_text("acknowledged entries")
    lose(world.folder, *lost)
    world.seat = world.new_seat()
    await world.seat.start()
    assert "genesis.json is missing" in world.seat.trouble
    assert world.says_it_is_damaged
    await begins_again_once_it_is_removed(world)
    if "raft/journal" not in lost:
        kept = world.folder.damaged_raft / "journal"
        assert kept.read_text() == "acknowledged entries"


@pytest.mark.parametrize("name", ["genesis.json", "former-genesis.json"])
@pytest.mark.parametrize("content", [b"", b"{", b'{"cluster_id": 3}'])
async def test_an_unreadable_genesis_keeps_it_from_voting_and_not_from_running(
    world: World, name: str, content: bytes
) -> None:
    await world.gain()
    await world.seat.stop()
    (world.folder.root / name).write_bytes(content)
    world.seat = world.new_seat()
    await world.seat.start()
    assert name in world.seat.trouble
    await begins_again_once_it_is_removed(world)
    assert (world.folder.damaged_raft / name).read_bytes() == content


async def test_for_want_of_descriptors_it_does_not_start_and_gives_no_vote_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.gain()
    await world.seat.stop()
    world.seat = world.new_seat()

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing(errno.EMFILE))
        with pytest.raises(SappersError, match="Too many open files"):
            await world.seat.start()
    assert world.seat.trouble == ""
    await world.restart()
    assert world.seat.log.votes


async def test_a_raft_folder_that_cannot_be_read_keeps_it_from_voting_and_not_from_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.gain()
    await world.seat.stop()
    world.seat = world.new_seat()

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", failing(errno.EIO))
        await world.seat.start()
    assert str(world.folder.raft) in world.seat.trouble
    assert world.says_it_is_damaged
    await is_removed_and_begins_again(world)


@pytest.mark.parametrize("where", ["the raft process", "the note that it has begun"])
async def test_a_first_voter_whose_vote_fails_at_first_votes_when_it_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A full disk, say: the genesis is on it, and the founder asks until it is taken."""
    world = World(tmp_path, "m1")
    await world.seat.start()
    with monkeypatch.context() as patched:
        if where == "the raft process":
            world.next_fails = True
        else:
            patched.setattr(vote_memory, "note_raft_started", failing(errno.ENOSPC))
        with pytest.raises((SappersError, OSError)):
            await world.seat.accept_genesis(FIRST)
    assert not any(log.runs for log in world.opened if log.votes), "the folder is taken"
    await asyncio.gather(*(world.seat.accept_genesis(FIRST) for _ in range(2)))
    assert world.seat.log.votes
    assert [log.runs for log in world.opened] == [False, False, True]
    await world.seat.stop()


async def test_an_empty_disk_under_an_old_id_has_no_vote_until_it_is_given_a_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have acknowledged what a majority without it never had."""
    await world.gain()
    await world.seat.stop()
    lose(world.folder, "genesis.json", "raft-started", "raft/journal")
    world.seat = world.new_seat()
    await world.seat.start()
    world.seat.log.current = world.committed
    world.seat.attend()
    assert world.is_seated(), "a founder may know that it never voted"
    assert world.says_it_is_damaged
    monkeypatch.setattr("sappers.agent.voting.seat.DOUBT_SECONDS", 0.0)
    world.seat.attend()
    await eventually(lambda: bool(world.seat.trouble) and world.is_seated())
    assert "the disk was replaced or emptied" in world.seat.trouble
    await begins_again_once_it_is_removed(world)


async def begins_again_once_it_is_removed(world: World) -> None:
    following = world.seat.log
    opened = len(world.opened)
    following.current = world.committed
    following.leader_id = None
    for leader_id in (None, "m2"):
        following.leader_id = leader_id
        world.seat.attend()
        await eventually(world.is_seated)
    assert len(world.opened) == opened, "it votes with nothing less than it had"
    with pytest.raises((IdentityError, LogDamaged)):
        await world.seat.accept_genesis(msgspec.structs.replace(FIRST, voters=("m3",)))
    await is_removed_and_begins_again(world)


async def is_removed_and_begins_again(world: World) -> None:
    world.seat.log.current = world.elect("m1", "m2", "m3")
    world.seat.attend()
    await eventually(world.is_seated)
    assert world.seat.trouble == ""
    assert not world.says_it_is_damaged
    voter = await world.gain()
    assert voter.votes
    assert not world.folder.no_vote.exists(), "without its files, its vote is no new one"


async def test_a_member_of_a_cluster_is_no_first_voter_of_another(world: World) -> None:
    """Any member can say that it founds one: the guests here would be of no state any more."""
    following = world.seat.log
    following.current = world.committed
    rival = Genesis("c2", "m9", ("m4", "m9"), {})
    with pytest.raises(IdentityError, match="m4 is of cluster c1, not c2"):
        await world.seat.accept_genesis(rival)
    assert world.seat.log is following
    assert not world.folder.genesis.exists()


async def test_a_first_voter_that_was_never_told_takes_the_founders_word_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.agent.voting.seat.DOUBT_SECONDS", 0.0)
    world.seat.log.current = world.elect("m1", "m2", "m4")
    world.seat.attend()
    await eventually(lambda: bool(world.seat.trouble) and world.is_seated())
    await world.seat.accept_genesis(Genesis("c1", "m1", ("m1", "m2", "m4"), {}))
    assert world.seat.log.votes
    assert world.seat.trouble == ""


async def test_a_newcomer_is_ready_for_a_vote_once_it_has_heard_that_it_has_none(
    world: World,
) -> None:
    assert world.says_it_is_damaged
    world.seat.log.leader_id = None
    world.seat.log.current = world.committed
    world.seat.attend()
    assert world.is_seated(), "it may be an old state"
    world.seat.log.leader_id = "m2"
    await world.hear_of_no_vote()
    assert not world.says_it_is_damaged
    await world.restart()
    assert not world.says_it_is_damaged
    await world.gain()


async def test_a_vote_that_is_taken_away_before_it_was_used_ends_the_attempt(world: World) -> None:
    await world.hear_of_no_vote()
    following = world.seat.log
    following.current = world.elect("m1", "m2", "m4")
    world.seat.attend()
    await eventually(lambda: world.opened[-1].votes and world.opened[-1].runs)
    following.current = world.elect("m1", "m2")
    world.opened[-1].removed = True
    await world.seat._change
    await world.until(following)
    assert world.seat.log is following
    assert load_genesis(world.folder.genesis) is None
    assert world.says_it_votes == []


@pytest.mark.parametrize("leader_id", ["m2", None])
async def test_a_false_word_that_the_vote_is_lost_costs_a_pause_and_no_memory(
    world: World, monkeypatch: pytest.MonkeyPatch, leader_id: str | None
) -> None:
    """With no leader, every voter may have been told the same."""
    voter = await world.gain()
    voter.removed = True
    world.seat.attend()
    await world.seat._change
    following = world.seat.log
    following.leader_id = leader_id
    world.seat.attend()
    assert world.seat.log is following
    assert world.is_seated(), "it waits for the committed state"
    assert load_genesis(world.folder.genesis) is not None
    monkeypatch.setattr("sappers.agent.voting.seat.DOUBT_SECONDS", 0.0)
    world.seat.attend()
    await eventually(lambda: world.opened[-1].votes and world.opened[-1].runs)
    again = world.opened[-1]
    assert again is not voter
    again.current = world.committed
    await world.until(again)
    assert world.says_it_votes == [True, False, True]

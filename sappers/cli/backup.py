"""`sappers-deploy backup`: the whole management state in one file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Reached
from sappers.cli.backup_file import write_backup
from sappers.cli.output import Form, Output
from sappers.cli.saved_record import Numbers
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.decisions.event_chain import broken_between, broken_end
from sappers.errors import ApiError, BackupError
from sappers.model.backup import BACKUP_FORMAT, Backup, TakenState
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state
from sappers.model.event import BrokenLink, Event, EventFilter

PAGE = 1000
_MINE = "the member in use"


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, 0600.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    as_it_is: Annotated[
        bool,
        typer.Option("--as-it-is", help="Without a quorum: the newest that any member here has."),
    ] = False,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
) -> None:
    """Write the management state and the record of events to a file; nothing in it is secret."""
    if file.exists():
        if not force:
            raise BackupError(f"{file} is there already", hint="name another file, or say --force")
        if not file.is_file():  # it would be replaced: a device of this machine
            raise BackupError(f"{file} is no file", hint="name another one")
    with open_cluster(cluster, addr) as client:
        view = client.view()
        taken = _newest(client) if as_it_is else client.take_backup()
        state = decode_state(taken.state)
        made = Backup(BACKUP_FORMAT, time.time(), view.cluster, taken)
        try:
            size, numbers = write_backup(file, made, gather_record(client, state))
        except OSError as error:
            raise BackupError(f"{file}: {error.strerror}", hint="choose another place") from error
    if output is Output.JSON:
        told = {"file": str(file), "bytes": size, "cluster": view.cluster, "index": taken.index}
        told |= {"events": numbers.count, "missing": numbers.missing}
        typer.echo(msgspec.json.encode(told).decode())
        return
    text = f"{file}: cluster {view.cluster} at index {taken.index}: {contents(state, numbers)}"
    console = Console(stderr=True)
    console.print(plain(f"{text}; {size / 1000:.1f} kB"), soft_wrap=True)
    if numbers.missing:
        text = f"no member that answered has {ranges(numbers.missing)}: the backup is without them"
        console.print(plain(text, "yellow"), soft_wrap=True)


def _newest(client: OperatorClient) -> TakenState:
    """Of all members that are reached, those that gossip does not hear included.

    Raises:
        BackupError: None answers.
        ApiError: As `OperatorClient.everyone`.
    """
    found: tuple[tuple[int, int], TakenState] | None = None
    for member in client.everyone(silent=True):
        with suppress(ApiError):
            taken = client.take_backup_at(member)
            progress = decode_state(taken.state).progress
            found = max(found or (progress, taken), (progress, taken), key=lambda one: one[0])
    if found is None:
        raise BackupError("no member gives its state", hint="sappers-deploy raft peers")
    return found[1]


def contents(state: ClusterState, events: Numbers) -> str:
    """What a backup has, for a person."""
    counts = (
        (len(state.workloads), "workload"),
        (len(state.images), "image"),
        (len(state.image_keys), "trusted key"),
        (events.count, "event"),
    )
    return ", ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts)


def ranges(missing: Iterable[tuple[int, int]]) -> str:
    """Ranges of events, for a person."""
    told = [f"{a} to {b}" if a != b else str(a) for a, b in missing]
    return f"events {', '.join(told)}"


def gather_record(client: OperatorClient, state: ClusterState) -> Iterator[Event]:
    """All events up to the state, oldest first, from the member in use, and from others its gaps.

    Raises:
        BackupError: What members have on record is not one chain: the past was changed.
        ApiError: As `OperatorClient.call`; not for members beside the first.
    """
    kept = tuple(event for event in state.events if event.number)
    if not kept:
        yield from state.events
        return
    before, teller = None, _MINE
    for name, run in _runs(client, kept, state.event_count):
        for event in run:
            if before is not None and (broken := broken_between(before, event)):
                raise _changed(broken, name if name != _MINE else teller)
            yield event
            before, teller = event, name
    if (broken := broken_end(before, state)) is not None:
        raise _changed(broken, teller)


def _changed(broken: BrokenLink, member: str) -> BackupError:
    return BackupError(
        f"the record of {member} is not as it was: event {broken.number}: {broken.reason}",
        hint="sappers-deploy events verify says where; with --addr one member alone is asked",
    )


def _runs(
    client: OperatorClient, kept: Sequence[Event], last: int
) -> Iterator[tuple[str, list[Event]]]:
    """Events up to a number that follow one another, oldest first, and who has them."""
    others: list[Reached] = []
    first = 1
    while first <= last:
        wanted = EventFilter(first=first)
        name = _MINE
        page: Sequence[Event] = [event for event in kept if event.number >= first]
        if page[0].number > first:
            mine = client.events(limit=PAGE, wanted=wanted).events
            page = _nearer(page, mine)
        if page[0].number > first:
            others = others or list(client.everyone())
        for member in others if page[0].number > first else ():
            with suppress(ApiError):  # what it has may be missing, and then is told
                found = _nearer(page, client.events_at(member, wanted, PAGE).events)
                if found is not page:
                    name, page = member.name, found
        run = [event for at, event in enumerate(page, page[0].number) if event.number == at]
        run = run[: last - run[0].number + 1]
        yield name, run
        first = run[-1].number + 1


def _nearer(page: Sequence[Event], other: Sequence[Event]) -> Sequence[Event]:
    """Which of two parts of a record begins earlier."""
    return other if other and other[0].number < page[0].number else page

"""`sappers-deploy backup`: the whole management state in one file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Reached
from sappers.api.wire import Events
from sappers.cli.backup_file import write_backup
from sappers.cli.session import Address, Cluster, Form, Output, open_cluster
from sappers.cli.status_view import plain
from sappers.decisions.event_chain import broken_in, gaps_in, merged
from sappers.errors import ApiError, BackupError
from sappers.model.backup import BACKUP_FORMAT, Backup
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state
from sappers.model.event import Event, EventFilter

PAGE = 1000


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, 0600.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
) -> None:
    """Write the management state and the record of events to a file; nothing in it is secret."""
    if file.exists() and not force:
        raise BackupError(f"{file} is there already", hint="name another file, or say --force")
    with open_cluster(cluster, addr) as client:
        view = client.view()
        taken = client.take_backup()
        state = decode_state(taken.state)
        events = gather_record(client, state)
    made = Backup(BACKUP_FORMAT, time.time(), view.cluster, taken, events)
    try:
        size = write_backup(file, made)
    except OSError as error:
        raise BackupError(f"{file}: {error.strerror}", hint="choose another place") from error
    missing = missing_in(events)
    if output is Output.JSON:
        told = {"file": str(file), "bytes": size, "cluster": view.cluster, "index": taken.index}
        typer.echo(msgspec.json.encode(told | {"events": len(events), "missing": missing}).decode())
        return
    text = f"{file}: cluster {view.cluster} at index {taken.index}: {contents(state, events)}"
    console = Console(stderr=True)
    console.print(plain(f"{text}; {size / 1000:.1f} kB"), soft_wrap=True)
    if missing:
        text = f"no member that answered has {numbers(missing)}: the backup is without them"
        console.print(plain(text, "yellow"), soft_wrap=True)


def contents(state: ClusterState, events: tuple[Event, ...]) -> str:
    """What a backup has, for a person."""
    counts = (
        (len(state.workloads), "workload"),
        (len(state.images), "image"),
        (len(state.image_keys), "trusted key"),
        (len(events), "event"),
    )
    return ", ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts)


def missing_in(events: Sequence[Event]) -> list[tuple[int, int]]:
    """Ranges of events that a backup is without, from 1 on."""
    return [(gap.first, gap.last) for gap in reversed(gaps_in(events))]


def numbers(missing: Iterable[tuple[int, int]]) -> str:
    """Ranges of events, for a person."""
    ranges = [f"{a} to {b}" if a != b else str(a) for a, b in missing]
    return f"events {', '.join(ranges)}"


def gather_record(client: OperatorClient, state: ClusterState) -> tuple[Event, ...]:
    """All events up to the state, from the member in use, and from others what it lacks.

    Raises:
        BackupError: What members have on record is not one chain: the past was changed.
        ApiError: As `OperatorClient.call`; not for members beside the first.
    """
    kept = tuple(event for event in state.events if event.number)
    if not kept:
        return tuple(state.events)
    last = state.event_count
    mine = _pages(lambda first: client.events(limit=PAGE, wanted=EventFilter(first=first)), 1, last)
    events = _checked(merged(kept, mine), state, "the member in use")
    for member in client.everyone() if gaps_in(events) else ():
        try:
            found = [
                event
                for gap in gaps_in(events)
                for event in _pages(partial(_page_at, client, member), gap.first, gap.last)
            ]
        except ApiError:
            continue  # what it has may be missing, and then is told
        events = _checked(merged(events, found), state, member.name)
    return events


def _checked(events: tuple[Event, ...], state: ClusterState, member: str) -> tuple[Event, ...]:
    if (broken := broken_in(events, state)) is not None:
        raise BackupError(
            f"the record of {member} is not as it was: event {broken.number}: {broken.reason}",
            hint="sappers-deploy events verify says where; with --addr one member alone is asked",
        )
    return events


def _page_at(client: OperatorClient, member: Reached, first: int) -> Events:
    return client.events_at(member, EventFilter(first=first), PAGE)


def _pages(ask: Callable[[int], Events], first: int, last: int) -> Iterator[Event]:
    """Events of some numbers, as far as they are there, page by page."""
    while first <= last:
        page = ask(first).events
        yield from (event for event in page if first <= event.number <= last)
        if len(page) < PAGE:
            return
        first = page[-1].number + 1

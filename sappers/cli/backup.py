"""`sappers-deploy backup`: the whole management state in one file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.api.operator_client import OperatorClient
from sappers.cli.backup_file import write_backup
from sappers.cli.session import Address, Cluster, Form, Output, open_cluster
from sappers.cli.status_view import plain
from sappers.decisions.backup import broken_in
from sappers.errors import BackupError
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
        events = _record(client, state)
    if (broken := broken_in(events, state)) is not None:
        raise BackupError(
            f"the record of events is not as it was: event {broken.number}: {broken.reason}",
            hint="sappers-deploy events verify says on which member; ask another one with --addr",
        )
    made = Backup(BACKUP_FORMAT, time.time(), view.cluster, taken, events)
    try:
        size = write_backup(file, made)
    except OSError as error:
        raise BackupError(f"{file}: {error.strerror}", hint="choose another place") from error
    if output is Output.JSON:
        told = {"file": str(file), "bytes": size, "cluster": view.cluster, "index": taken.index}
        typer.echo(msgspec.json.encode(told | {"events": len(events)}).decode())
        return
    text = f"{file}: cluster {view.cluster} at index {taken.index}: {contents(state, events)}"
    Console(stderr=True).print(plain(f"{text}; {size / 1000:.1f} kB"), soft_wrap=True)


def contents(state: ClusterState, events: tuple[Event, ...]) -> str:
    """What a backup has, for a person."""
    counts = (
        (len(state.workloads), "workload"),
        (len(state.images), "image"),
        (len(state.image_keys), "trusted key"),
        (len(events), "event"),
    )
    return ", ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts)


def _record(client: OperatorClient, state: ClusterState) -> tuple[Event, ...]:
    """All events up to the state, from the record of the member in use."""
    if not state.event_count:
        return tuple(state.events)
    return tuple(event for event in _pages(client) if 0 < event.number <= state.event_count)


def _pages(client: OperatorClient) -> Iterator[Event]:
    first = 1
    while True:
        page = client.events(limit=PAGE, wanted=EventFilter(first=first)).events
        yield from page
        if len(page) < PAGE:
            return
        first = page[-1].number + 1

"""`sappers-deploy listen`: hear the cluster talk on its hub."""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import typer

from sappers.api.operator_client import OperatorClient
from sappers.assembly.listening import listener_credentials, listening
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, cluster_folder, open_cluster
from sappers.cli.status_view import plain
from sappers.durable import write_durably
from sappers.errors import ApiError, HubError
from sappers.model import subjects
from sappers.model.commands import Entry, decode_proposal
from sappers.model.member import Member
from sappers.model.signed import Signed
from sappers.security.tls import Identity

TEXT_MAX = 400


def listen(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT", help="A subject of the hub, with its wildcards `*` and `>`."
        ),
    ] = ">",
    *,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after so many messages; Ctrl-C ends it, too.")
    ] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(
            "--credentials",
            metavar="FILE",
            help="Do not listen; write credentials that hear everything and say nothing, for "
            "`nats --creds FILE --tlsca ca.pem -s tls://HOST:4222 sub '>'`.",
        ),
    ] = None,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
) -> None:
    """Print what is said on the hub: entries of the log, events, health of guests, applications."""
    with open_cluster(cluster, addr) as client:
        text = _credentials(client, cluster_folder(cluster))
    if credentials is not None:
        write_durably(credentials, text.encode())
        typer.echo(f"{credentials}: keep it to yourself; it hears all guests")
        return
    # asyncio warns of every stream that was upgraded to TLS when its other end closes.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # Nothing but messages on stdout.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with open_cluster(cluster, addr) as client:
        view = client.view()
        servers = [one.member for one in view.members if one.member.id in view.hub_servers]
        if not servers:
            raise HubError("the cluster has no hub yet", hint="see sappers-deploy status")
        asyncio.run(_print(client.identity, text, servers, subject, count, output))


def _credentials(client: OperatorClient, folder: Path) -> str:
    """A member's key signs them; those of before have none, and let in whom the seed signed."""
    try:
        return client.call("GET", "/v1/hub-credentials").decode()
    except ApiError as error:
        if error.status != 404:
            raise
        return listener_credentials(folder)


async def _print(
    identity: Identity,
    credentials: str,
    servers: Sequence[Member],
    subject: str,
    count: int | None,
    output: Output,
) -> None:
    left = count
    done = asyncio.Event()
    unheard: OSError | None = None  # what is raised in `received` ends nothing

    async def received(on: str, payload: bytes) -> None:
        nonlocal left, unheard
        if done.is_set():
            return
        try:
            typer.echo(_line(output, on, payload))
        except OSError as error:
            unheard = error
            done.set()
        if left is not None and (left := left - 1) == 0:
            done.set()

    async with listening(identity, credentials, servers, subject, received):
        await done.wait()
    if unheard is not None:
        raise unheard


def _line(output: Output, subject: str, payload: bytes) -> str:
    now = datetime.now().astimezone()
    if output is Output.JSON:
        return as_json(now, subject, payload)
    when = now.strftime("%H:%M:%S.%f")[:-3]
    return f"{when} {plain(subject)} {plain(readable(subject, payload))}"


def as_json(now: datetime, subject: str, payload: bytes) -> str:
    """One message for programs, whole; a payload that is no text as base64."""
    said: dict[str, str] = {"time": now.isoformat(), "subject": subject}
    payload = _unsigned(subject, payload)
    try:
        said["payload"] = payload.decode()
    except UnicodeDecodeError:
        said["base64"] = base64.b64encode(payload).decode()
    return msgspec.json.encode(said).decode()


def readable(subject: str, payload: bytes) -> str:
    """A payload as one line: JSON or other text as it is, an entry of the log as JSON; cut."""
    payload = _unsigned(subject, payload)
    if subject == subjects.ENTRIES:
        try:
            entry = msgspec.msgpack.decode(payload, type=Entry)
            proposal = msgspec.to_builtins(decode_proposal(entry.payload))
            said = {"index": entry.index, "term": entry.term, "proposal": proposal}
            return _cut(msgspec.json.encode(said).decode())
        except msgspec.DecodeError:
            pass
    try:
        return _cut(payload.decode())
    except UnicodeDecodeError:
        return f"{len(payload)} bytes"


def _unsigned(subject: str, payload: bytes) -> bytes:
    """What the leader says of the log, without its signature."""
    if subject not in (subjects.ENTRIES, subjects.HEARTBEAT):
        return payload
    try:
        return msgspec.msgpack.decode(payload, type=Signed).body
    except msgspec.DecodeError:
        return payload


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TEXT_MAX else f"{line[:TEXT_MAX]}… ({len(text)} characters)"

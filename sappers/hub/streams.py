"""Durable messages on JetStream: streams, and what goes into them and comes out.

Only agents come here. A guest that could ask JetStream itself could have its answers delivered to
any subject, JetStream's own API among them; docs/adr/0014-messaging.md has what was tried.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import nats.errors
import nats.js.errors
from nats.js import api

from sappers.errors import HubError, StreamFull, TokenRefused
from sappers.hub.client import NatsHubClient
from sappers.hub.settings import STORE_BYTES
from sappers.model import subjects
from sappers.model.durable import KeptMessage, StoredMessage, StreamReading

STREAM_BYTES = 64 * 1024 * 1024
STREAM_SECONDS = 7 * 24 * 3600.0
MESSAGE_BYTES = 64 * 1024
REDELIVERED_SECONDS = 30.0
CONSUMER = "work"
STREAM_PREFIX = "APP_"
_SAME_MESSAGE_SECONDS = 120.0
_UNSETTLED_MAX = 1000
_CALL_SECONDS = 5.0
_TOKEN = re.compile(r"\$JS\.ACK(\.[A-Za-z0-9_-]+){7,12}")
_TOO_MANY_BYTES = 10077
_NOT_ENABLED = (10039, 10076)
_NO_ROOM = 10047


class NatsStreams:
    """Implements `ports.DurableStreams` over the agent's own connection to the hub."""

    def __init__(self, client: NatsHubClient) -> None:
        self._client = client

    async def streams(self) -> Mapping[str, StreamReading]:
        """Every workload's stream, by workload.

        Raises:
            HubError: The hub does not say, or keeps no streams at all.
        """
        found: dict[str, StreamReading] = {}
        async with said_plainly("streams"):
            streams, offset = self._client.jetstream(_CALL_SECONDS), 0
            while page := await streams.streams_info(offset=offset):
                for info in page:
                    name = info.config.name or ""
                    if name.startswith(STREAM_PREFIX):
                        found[name.removeprefix(STREAM_PREFIX)] = _reading(info)
                offset += len(page)
        return found

    async def keep(self, workload: str, replicas: int) -> None:
        """Make a workload's stream and its consumer, or make them as they should be.

        Raises:
            HubError: The hub refuses, or does not answer.
        """
        wanted = _config(workload, replicas)
        async with said_plainly(f"the stream of {workload}"):
            streams = self._client.jetstream(_CALL_SECONDS)
            try:
                await streams.update_stream(wanted)
            except nats.js.errors.NotFoundError:
                await streams.add_stream(wanted)
            await streams.add_consumer(
                wanted.name or "",
                api.ConsumerConfig(
                    durable_name=CONSUMER,
                    ack_policy=api.AckPolicy.EXPLICIT,
                    ack_wait=REDELIVERED_SECONDS,
                    max_ack_pending=_UNSETTLED_MAX,
                ),
            )

    async def remove(self, workload: str) -> None:
        """Remove a workload's stream and all that is in it; nothing where there is none.

        Raises:
            HubError: The hub refuses, or does not answer.
        """
        async with said_plainly(f"the stream of {workload}"):
            try:
                await self._client.jetstream(_CALL_SECONDS).delete_stream(_name(workload))
            except nats.js.errors.NotFoundError:
                return

    async def store(
        self, workload: str, name: str, payload: bytes, message_id: str
    ) -> StoredMessage:
        """Keep a message; returns once most of its stream's servers have it on their disks.

        Raises:
            StreamFull: The stream takes no more.
            HubError: The hub does not answer; it may or may not have been kept.
        """
        async with said_plainly(f"the stream of {workload}"):
            kept = await self._client.jetstream(_CALL_SECONDS).publish(
                f"{subjects.durable(workload)}.{name}",
                payload,
                stream=_name(workload),
                headers={"Nats-Msg-Id": message_id},
            )
        return StoredMessage(kept.seq, bool(kept.duplicate))

    async def fetch(
        self, workload: str, count: int, wait_seconds: float
    ) -> tuple[KeptMessage, ...]:
        """Messages that wait, at most `count`; none when none came in time.

        Raises:
            HubError: The hub does not answer.
        """
        async with said_plainly(f"the stream of {workload}"):
            streams = self._client.jetstream(_CALL_SECONDS)
            pulling = await streams.pull_subscribe_bind(consumer=CONSUMER, stream=_name(workload))
            try:
                messages = await pulling.fetch(count, timeout=max(wait_seconds, 0.1))
            except nats.errors.TimeoutError:
                return ()
            finally:
                await pulling.unsubscribe()
        return tuple(
            KeptMessage(each.subject, each.data, each.reply, each.metadata.num_delivered)
            for each in messages
        )

    async def waiting(self, workload: str) -> int:
        """How many messages are kept and not settled.

        Raises:
            HubError: The hub does not answer.
        """
        async with said_plainly(f"the stream of {workload}"):
            info = await self._client.jetstream(_CALL_SECONDS).stream_info(_name(workload))
        return int(info.state.messages)

    async def settle(self, workload: str, token: str, *, again: bool) -> None:
        """Have a message forgotten, or delivered again.

        Raises:
            TokenRefused: The token is none of this workload's.
            HubError: The hub does not answer.
        """
        words = token.split(".")
        mine = [_name(workload), CONSUMER]
        # With a domain and an account in front, or without.
        if not _TOKEN.fullmatch(token) or mine not in (words[2:4], words[4:6]):
            raise TokenRefused("that is no message of this workload")
        async with said_plainly(f"the stream of {workload}"):
            await self._client.ask(token, b"-NAK" if again else b"+ACK", _CALL_SECONDS)


def _name(workload: str) -> str:
    return f"{STREAM_PREFIX}{workload}"


def _config(workload: str, replicas: int) -> api.StreamConfig:
    return api.StreamConfig(
        name=_name(workload),
        subjects=[f"{subjects.durable(workload)}.>"],
        # What was acknowledged stays until it is settled: a full stream refuses what is new.
        retention=api.RetentionPolicy.WORK_QUEUE,
        discard=api.DiscardPolicy.NEW,
        max_bytes=STREAM_BYTES,
        max_age=STREAM_SECONDS,
        max_msg_size=MESSAGE_BYTES + 1024,  # its id is a header
        storage=api.StorageType.FILE,
        num_replicas=replicas,
        duplicate_window=_SAME_MESSAGE_SECONDS,
    )


def _reading(info: api.StreamInfo) -> StreamReading:
    config = info.config
    wanted = _config((config.name or "").removeprefix(STREAM_PREFIX), config.num_replicas or 0)
    same = all(
        getattr(config, field) == getattr(wanted, field)
        for field in ("subjects", "retention", "discard", "max_bytes", "max_age", "max_msg_size")
    )
    return StreamReading(config.num_replicas or 0, whole=same and info.state.consumer_count > 0)


@asynccontextmanager
async def said_plainly(what: str) -> AsyncIterator[None]:
    """What JetStream refuses, or does not answer, as HubError."""
    try:
        yield
    except nats.js.errors.APIError as error:
        if error.err_code in _NOT_ENABLED:
            raise HubError(
                "the hub keeps no durable messages", hint="docs/messaging.md says what to do"
            ) from error
        kind = StreamFull if error.err_code == _TOO_MANY_BYTES else HubError
        # What is said of several servers, of which none has room, has no number of its own.
        no_room = error.err_code == _NO_ROOM or "storage" in (error.description or "")
        room = (
            f"each hub server has room for the streams of {STORE_BYTES // STREAM_BYTES} workloads"
        )
        raise kind(f"{what}: {error.description}", hint=room if no_room else None) from error
    except (nats.errors.Error, OSError, LookupError, TypeError, ValueError) as error:
        # The last three: nats-py reads an answer that is none.
        raise HubError(f"{what}: {str(error) or type(error).__name__}") from error

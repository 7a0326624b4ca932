"""Calls to a Consul agent's HTTP API: off the event loop, each with an end.

py-consul blocks. So calls run in a few threads of their own, and the caller waits no longer than it
said, even for an answer that trickles in. A Consul that hangs makes calls fail, and never holds up
anything else of the agent.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import consul
import requests

from sappers.config import ConsulSettings
from sappers.errors import ConsulError

T = TypeVar("T")

# Of the socket, to connect and between bytes; a blocking query's own time comes on top.
ANSWER_SECONDS = 5.0
CALL_SECONDS = 8.0
_TOKEN_BYTES_MAX = 100
# What Consul calls a token. Whatever else a file holds (somebody may have put a link in its place)
# is never sent.
_TOKEN = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class ConsulCalls:
    """One Consul agent, as its settings say."""

    def __init__(
        self, settings: ConsulSettings, *, threads: int = 1, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        """`threads` is how many calls may be under way; further ones wait."""
        self._settings = settings
        self._answer_seconds = answer_seconds
        self._clients = threading.local()  # a session is for one thread
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="consul")

    async def call(
        self, work: Callable[[consul.Consul], T], *, timeout_seconds: float = CALL_SECONDS
    ) -> T:
        """What `work` returns; it runs in a thread.

        Raises:
            ConsulError: Consul does not answer, or answers an error.
        """
        loop = asyncio.get_running_loop()
        under_way = loop.run_in_executor(self._threads, partial(self.call_here, work))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await under_way
        except TimeoutError:
            raise self._error(f"no answer within {timeout_seconds:g} s") from None

    def close(self) -> None:
        """Begin no more calls; one that is under way ends by its timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def call_here(self, work: Callable[[consul.Consul], T]) -> T:
        """What `work` returns; for threads of the caller's own, since it blocks.

        Raises:
            ConsulError: As `call`.
        """
        try:
            return work(self._client())
        except requests.Timeout as error:
            raise self._error("no answer in time") from error
        except requests.ConnectionError as error:
            raise self._error("no connection") from error
        except requests.RequestException as error:
            # Its words may quote what was to be sent, the token among it.
            raise self._error(f"the call failed: {type(error).__name__}") from error
        except consul.ConsulException as error:
            raise self._error(_without_tokens(str(error))[:300]) from error

    def _client(self) -> consul.Consul:
        client: consul.Consul | None = getattr(self._clients, "client", None)
        if client is None:
            host, port = self._settings.endpoint
            client = self._clients.client = consul.Consul(
                host=f"[{host}]" if ":" in host else host,
                port=port,
                scheme="http",
                connections_timeout=self._answer_seconds,
            )
            client.http.session.trust_env = False  # no proxies, no ~/.netrc
        # Read each time: bootstrap may write it later. CONSUL_HTTP_TOKEN counts for nothing.
        client.token = _read_token(self._settings.token_file)
        return client

    def _error(self, what: str) -> ConsulError:
        return ConsulError(
            f"Consul at {self._settings.address}: {what}",
            hint="journalctl -u sappers-consul on the host says more",
        )


def _without_tokens(text: str) -> str:
    """What Consul says may repeat what it was shown."""
    return _TOKEN.sub("…", text)


def _read_token(path: str) -> str | None:
    if not path:
        return None
    hint = "run sappers-deploy bootstrap: it writes what is missing"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            text = file.read(_TOKEN_BYTES_MAX).decode(errors="replace").strip() if is_file else ""
    except OSError as error:
        raise ConsulError(f"{path}: {error.strerror}", hint=hint) from error
    if not _TOKEN.fullmatch(text):
        raise ConsulError(f"{path} holds no token: one is a UUID", hint=hint)
    return text

"""Hearing the hub from outside of the cluster, as a person with the cluster's keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sappers.errors import IdentityError
from sappers.hub.client import NatsHubClient
from sappers.hub.credentials import AgentCredentials
from sappers.model.member import Member
from sappers.ports import Received
from sappers.security.tls import Identity

ACCOUNT_SEED_FILE = "hub-account.seed"


def listener_credentials(folder: Path) -> str:
    """A credentials file that hears everything and says nothing.

    Args:
        folder: The cluster's keys.

    Raises:
        IdentityError: The hub account's seed is not in it.
        HubError: The seed is damaged.
    """
    path = folder / ACCOUNT_SEED_FILE
    try:
        return AgentCredentials(path.read_text()).operator()
    except OSError as error:
        raise IdentityError(
            f"{path}: {error.strerror}", hint="who listens to the hub needs the cluster's keys"
        ) from error


@asynccontextmanager
async def listening(
    identity: Identity,
    credentials: str,
    servers: Sequence[Member],
    subject: str,
    received: Received,
) -> AsyncIterator[None]:
    """While the block runs, `received` gets each message of a subject."""
    client = NatsHubClient(identity, lambda: credentials)
    await client.subscribe(subject, received)
    await client.connect(servers)
    try:
        yield
    finally:
        await client.close()

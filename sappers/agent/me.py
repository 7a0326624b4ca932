"""This member's description of itself: a stable id on disk, and what its host has."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from sappers.config import NAME_PATTERN, AgentSettings
from sappers.durable import write_durably
from sappers.errors import ConfigError
from sappers.model.log_format import newest_known
from sappers.model.member import Accelerator, Member, Resources
from sappers.ports import Membership

# What the host's system and the agent itself need; guests get the rest.
RESERVED_MIB = 512


def load_node_id(path: Path, node_name: str, given: str | None) -> str:
    """This member's id: the one on disk; on a new disk the given one, or a new one.

    Raises:
        ConfigError: The file is damaged, or another id is given than this disk has.
    """
    try:
        node_id = path.read_text().strip()
    except FileNotFoundError:
        node_id = given or f"{node_name}-{secrets.token_hex(3)}"
        _check(node_id, "--node-id")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(path, f"{node_id}\n".encode())
        return node_id
    _check(node_id, str(path))
    if given is not None and given != node_id:
        raise ConfigError(
            f"{path} says {node_id}, --node-id says {given}",
            hint="an id belongs to its disk; use another STATE_DIR for another id",
        )
    return node_id


def _check(node_id: str, where: str) -> None:
    if not NAME_PATTERN.fullmatch(node_id):
        raise ConfigError(
            f"{where}: {node_id!r} is no id: 1 to 63 lower-case letters, digits, `-`, `.`"
        )


def describe_member(
    settings: AgentSettings,
    node_id: str,
    accelerator: Accelerator,
    version: str,
    *,
    has_vote: bool,
) -> Member:
    """This member as others will see it."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    memory_mib = max(0, pages // 1024**2 - RESERVED_MIB)
    return Member(
        id=node_id,
        name=settings.node_name,
        address=settings.address,
        ports=settings.ports,
        resources=Resources(cpus=len(os.sched_getaffinity(0)), memory_mib=memory_mib),
        accelerator=accelerator,
        version=version,
        voter_tag=settings.voter_tag,
        has_vote=has_vote,
        zone=settings.zone,
        has_hub_key=True,
        log_format=newest_known(),
    )


class OwnDescription:
    """This member as the others see it: what changes is told by gossip.

    Attributes:
        member: As it was told last.
    """

    def __init__(self, member: Member, membership: Membership) -> None:
        self.member = member
        self._membership = membership

    async def tell_vote(self, *, votes: bool, damaged: bool = False) -> None:
        """Whether this member has a vote, or what it voted with is damaged."""
        await self._tell(
            msgspec.structs.replace(self.member, has_vote=votes, vote_is_damaged=damaged)
        )

    async def tell_images(self, images: tuple[str, ...]) -> None:
        """Of which images this member has something."""
        await self._tell(msgspec.structs.replace(self.member, images=images))

    async def _tell(self, member: Member) -> None:
        if member != self.member:
            self.member = member
            await self._membership.publish(member)

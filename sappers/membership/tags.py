"""A member as gossip carries it: at most 512 bytes of tags. Pure.

What comes in was sealed with the cluster's key, but its sender may be of a later version, broken
or hostile: unknown tags are ignored, and what makes no sense is no member. The address is never
taken from tags: gossip has tried the one that it hands over.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Literal, cast

import msgspec

from sappers.errors import MembershipError
from sappers.model.member import Accelerator, Member, MemberState, Ports, Resources

TAGS_MAX_BYTES = 512

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEXT_MAX = 128
_REASON_MAX_BYTES = 120
_IMAGE_DIGITS = 8
_IMAGES = re.compile(rf"([0-9a-f]{{{_IMAGE_DIGITS}}})*")


def encode_tags(member: Member) -> dict[str, str]:
    """The tags of a member; its accelerator's reason is cut where there is no room.

    Images get what room the rest leaves, the first ones first. They never change the reason: that
    is registered in the log, and images come and go.

    Raises:
        MembershipError: Zone and version leave no room for the rest.
    """
    tags = {
        "id": member.id,
        "n": member.name,
        "p": ",".join(str(port) for port in _agents_ports(member.ports)),
        "r": f"{member.resources.cpus},{member.resources.memory_mib}",
        "a": member.accelerator.kind,
        "v": member.version,
        "f": _flags(member),
        "z": member.zone,
        "w": "",
    }
    if member.ports.gateway:
        tags["g"] = str(member.ports.gateway)
    if member.log_format:
        tags["l"] = str(member.log_format)
    room = min(_REASON_MAX_BYTES, TAGS_MAX_BYTES - _size(tags))
    if room < 0:
        raise MembershipError(
            f"what {member.name} says of itself does not fit into {TAGS_MAX_BYTES} bytes",
            hint="shorten its zone",
        )
    tags["w"] = member.accelerator.reason.encode()[:room].decode(errors="ignore")
    left = TAGS_MAX_BYTES - _size({**tags, "i": ""})
    if fitting := member.images[: max(0, left // _IMAGE_DIGITS)]:
        tags["i"] = "".join(fitting)
    return tags


def decode_tags(tags: Mapping[str, str], gossip_address: str, state: MemberState) -> Member | None:
    """The member that tags describe, or None when they describe none."""
    try:
        host, _, port = gossip_address.rpartition(":")
        ports = Ports(*_numbers(tags["p"], 65535)[: len(_agents_ports(Ports()))])
        if "g" in tags:
            ports = msgspec.structs.replace(ports, gateway=_numbers(tags["g"], 65535)[0])
        cpus, memory_mib = _numbers(tags["r"], 2**40)[:2]
        if tags["a"] not in ("kvm", "tcg") or not all(map(_ID.fullmatch, (tags["id"], tags["n"]))):
            return None
        return Member(
            id=tags["id"],
            name=tags["n"],
            address=str(ipaddress.ip_address(host.strip("[]"))),
            ports=msgspec.structs.replace(ports, gossip=int(port)),
            resources=Resources(cpus, memory_mib),
            accelerator=Accelerator(cast(Literal["kvm", "tcg"], tags["a"]), _text(tags, "w")),
            version=_text(tags, "v"),
            voter_tag="t" in tags.get("f", ""),
            has_vote="v" in tags.get("f", ""),
            vote_is_damaged="d" in tags.get("f", ""),
            zone=_text(tags, "z"),
            state=state,
            images=_image_digests(tags.get("i", "")),
            has_hub_key="k" in tags.get("f", ""),
            log_format=_numbers(tags["l"], 2**16)[0] if "l" in tags else 0,
        )
    except (KeyError, ValueError, TypeError):
        return None


def _flags(member: Member) -> str:
    return (
        "t" * member.voter_tag
        + "v" * member.has_vote
        + "d" * member.vote_is_damaged
        + "k" * member.has_hub_key
    )


def _agents_ports(ports: Ports) -> tuple[int, ...]:
    """Those that every member has, in an order that never changes."""
    return (ports.gossip, ports.raft, ports.http, ports.hub, ports.hub_routes)


def _numbers(text: str, largest: int) -> list[int]:
    numbers = [int(part) for part in text[:_TEXT_MAX].split(",")]
    if not all(0 < number <= largest for number in numbers):
        raise ValueError(text)
    return numbers


def _image_digests(text: str) -> tuple[str, ...]:
    if len(text) > TAGS_MAX_BYTES or not _IMAGES.fullmatch(text):
        return ()
    places = range(0, len(text), _IMAGE_DIGITS)
    return tuple(text[place : place + _IMAGE_DIGITS] for place in places)


def _text(tags: Mapping[str, str], key: str) -> str:
    """Text that may be shown on a terminal."""
    return "".join(char for char in tags.get(key, "")[:_TEXT_MAX] if char.isprintable())


def _size(tags: Mapping[str, str]) -> int:
    """An upper bound of the encoded size: two bytes of length for each key and each value."""
    return sum(len(key.encode()) + len(value.encode()) + 4 for key, value in tags.items())

from __future__ import annotations

import kinship
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import MembershipError
from sappers.membership.tags import TAGS_MAX_BYTES, decode_tags, encode_tags
from sappers.model.member import Accelerator, Member, MemberState, Ports, Resources

KEY = "A" * 43 + "="
names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", fullmatch=True)
port = st.integers(1, 65535)
members = st.builds(
    Member,
    id=names,
    name=names,
    address=st.ip_addresses().map(str),
    ports=st.builds(Ports, port, port, port, port, port, st.just(0) | port),
    resources=st.builds(Resources, st.integers(1, 4096), st.integers(1, 2**30)),
    accelerator=st.builds(Accelerator, st.sampled_from(["kvm", "tcg"]), st.text(max_size=300)),
    version=names,
    voter_tag=st.booleans(),
    has_vote=st.booleans(),
    has_hub_key=st.booleans(),
    log_format=st.integers(0, 2**16),
    vote_is_damaged=st.booleans(),
    zone=names,
    state=st.sampled_from(MemberState),
    images=st.lists(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), max_size=80).map(tuple),
)


def gossip_address(member: Member) -> str:
    host = f"[{member.address}]" if ":" in member.address else member.address
    return f"{host}:{member.ports.gossip}"


@given(members)
def test_what_is_encoded_comes_back_but_for_the_end_of_the_reason(member: Member) -> None:
    back = decode_tags(encode_tags(member), gossip_address(member), member.state)
    assert back is not None
    cut = back.accelerator.reason
    assert back.images == member.images[: len(back.images)]
    whole = msgspec.structs.replace(back, accelerator=member.accelerator, images=member.images)
    assert whole == member
    printable = "".join(char for char in member.accelerator.reason if char.isprintable())
    assert printable.startswith(cut)


@given(members)
def test_images_take_only_the_room_that_is_left(member: Member) -> None:
    without = encode_tags(msgspec.structs.replace(member, images=()))
    tags = encode_tags(member)
    images = tags.pop("i", "")
    assert tags == without
    room = TAGS_MAX_BYTES - sum(len(k.encode()) + len(v.encode()) + 4 for k, v in tags.items())
    assert len(images) == 8 * len(member.images) or room - 5 - len(images) < 8


@given(members, st.text() | st.from_regex(r"[0-9a-f]*", fullmatch=True))
def test_images_that_make_no_sense_are_none(member: Member, text: str) -> None:
    tags = {**encode_tags(member), "i": text}
    back = decode_tags(tags, gossip_address(member), member.state)
    assert back is not None
    assert "".join(back.images) in (text, "")


@given(members)
def test_tags_fit_into_gossip(member: Member) -> None:
    kinship.Config.lan(keys=[KEY], meta=encode_tags(member), max_meta_bytes=TAGS_MAX_BYTES)


OPTIONAL = {"g", "i", "l"}  # as much known as those that every member has


@given(members, st.dictionaries(st.text().filter(lambda key: key not in OPTIONAL), st.text()))
def test_tags_of_a_later_version_are_ignored(member: Member, more: dict[str, str]) -> None:
    tags = encode_tags(member)
    assert decode_tags({**more, **tags}, gossip_address(member), member.state) is not None
    later = {**tags, "p": tags["p"] + ",7", "r": tags["r"] + ",8", "f": tags["f"] + "x"}
    assert decode_tags(later, gossip_address(member), member.state) == decode_tags(
        tags, gossip_address(member), member.state
    )


@given(members, st.data())
def test_garbage_is_no_member_and_nothing_worse(member: Member, data: st.DataObject) -> None:
    tags = encode_tags(member)
    for key in data.draw(st.sets(st.sampled_from(sorted(tags)))):
        if data.draw(st.booleans()):
            tags[key] = data.draw(st.text())
        else:
            del tags[key]
    back = decode_tags(tags, data.draw(st.text() | st.just("10.0.0.1:7946")), MemberState.ALIVE)
    if back is not None:
        assert (back.id + back.name + back.zone + back.version).isprintable()


def test_what_does_not_fit_is_refused() -> None:
    member = Member(
        "a", "a", "10.0.0.1", Ports(), Resources(1, 1), Accelerator("tcg", ""), "1", zone="z" * 600
    )
    with pytest.raises(MembershipError, match="does not fit"):
        encode_tags(member)

from __future__ import annotations

import base64
import itertools
import zlib

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from sappers.consensus.state_machine import apply
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state, encode_state
from sappers.model.commands import (
    Command,
    Entry,
    PlaceAllocation,
    Proposal,
    PutWorkload,
    ReportAllocation,
    SetMemberState,
    StopWorkload,
    encode_proposal,
)
from sappers.model.event import Event, event_digest, event_in, event_line
from sappers.model.member import MemberState
from sappers.model.repair_commands import OpenRepair
from tests.unit.worlds import allocation, commit, founded, workload

# What the version before numbers, causes and `by` wrote: a snapshot, and the two entries after it.
OLD_SNAPSHOT = (
    "c-q}nJC7VS9N%0Xil`z)LC2JUVCC05oQ4w;C47aE$M)<_ZfCsM-py?abOZ&ZL0SpXN0WW8qV&+9w9(REgZK!PDe*"
    "jD_o6!~Qm8W1c;@f<y=?#I&(8ZBJ{TD*b)1Qk!+BN+d3tN+UgXy{av-@?npydCnZq(iWsbM~Q4$-e$5NZ=s(PsAc"
    "9yx!6Zh%|H|wX;VdZF6uw2gj%2>2yLTG8s3W9ERqxn#2Ykpkxlrh<G_tASZ%~HGT{x$1cJKTNx>ZwEC-T7`)5ok5"
    "C((FF`X4!L6?z2f}?ZDJXb7>yV_;6&7HjZBDNt|cN?sjL(ICt8eaHSv4PMoKwmiHD~GNXz`p}cW^x~vRjs+fZ=?1"
    "J@JRT)^;d$H;>6IYKfW)D;$pUjPQtaCQV#&TPaW0MtJzU;KuBFkA%nyCw?agO)S@$1g<yXhP@&f(rUeBC*G7oD%~"
    "D}6FhOqjDR8w?a@*5RA8w*LM3v3SetQ5&gr=nIiKQ2X|vbw0~H<64dLjmaL!IGMP-|F{M}@2p+8eJNsQUw-j-V|P"
    ">AiBIIjOrIO8hC^3RCUKt?V!B{1c59{!IhKVrzdUZ5$WhZoW;V;^e?T?y^S0%5Q#Eok#nOzDd#=;C{^PzmwZFA>u"
    "dRE@#KT^_T4vq!nYi9<tD%<TOpVNwmh<`r&Q}MV+uA|b?a4jg|Bz!P_x!6G+pCwz`}nZ_iI*AADld_qDm<5uo_LL"
    "cyI!0AXC88=!~6Qn%blGcha4m+g*4;=1W|}X8XzDU4k%3tib768LP7y?zzN_!@<Eis(B}+c!Z{OdG&c^TIlg@m&9"
    "jEMdrxJ>!D8giV*FYkX0IuFsaCo7?}5HbvCp7PKuG-*a6$mUB*Xz^Gy*a~5upgDD4>8O0iaBV6j2<}h$7}=PEt-<"
    "#Wyb~zVil((OxmSOfkAjaY`6P3Gr#@11=zB91B7GC=ek5GK^&82Rsp&`-$K|6hh2`07X$4@lZrT`1rzqvsL`T8z{"
    "zm#rQJC_$tLPC21t0RG<W>VU;dGzCe_ND4|d?0IBab1EmrqoJT36Dffjh03d#X30P_Q?a1{K^QhGLdZ~k3r6xB@?"
    "cXdlI$CNuWSKT+n`Tg*{NJCo<ALgBuEqTWoxD4B"
)
OLD_ENTRIES = (
    (
        "gQaP1WMy~<q;zF+Z2_lnVR>wCVPwStA%&`PWpQ<7b97&6WTJ96sBm&`aBp*Ea-wZ9q;zR*Wy?Sr00000005|CZ*6"
        "U1Ze(+jf~0hLaAmA;b#yIvZ*psFZ((GpcW-iQY;R#?i==L0ZDplsWo&G3rD<(pXJvw<ZeeX@rD$brY;UGyX=i0~b"
        "lE^;WMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpJyWMpKjZDnn"
        "5a(Q2EX=2QPs%Ld&b97&DZ*p|aACReNZ*z2CaBp&Sz@=kvb#8P4sB&d?X>)0BZUCfXZ){}3q;hX;WvgLuaBOK~VR"
        "UJ4Zl`l)a&~EBWuT>OX>MzCkgIHEVPs`;Uvy=1ZNL"
    ),
    (
        "gQaP1WMy~=q;zF+Z2_lnVR>wCVPwRJg{pF8adl;LbYE#?qH;K>aB^>OZ*ygGqHQsxbZKp6%Rn9g000000H|YcZEa"
        "z0WOI>(q;z?3Ww3K)bS-UVZDM6|Epv2XbY-b+Wo=?*a$jj=qHQy!b97;JWv6p>b8uy2bf$7;VRLV8u4iv^b7^oOb"
        "76UNAaif4Y-M3&WpZD1WpZu6"
    ),
)
OLD_HEAD = "106157c75274c6ad8b78158dbc9b1b872a54365b3c8d8c677b24e92a6daa300e"


def members_go(state: MemberState) -> st.SearchStrategy[Command]:
    names = st.sampled_from(("m1", "m2", "m3"))
    return st.builds(SetMemberState, names, st.just(state), st.text(max_size=8))


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    *(members_go(state) for state in MemberState),
    st.builds(PutWorkload, st.builds(workload, count=st.integers(0, 3))),
    st.just(StopWorkload("hello")),
    st.builds(
        PlaceAllocation,
        st.builds(
            allocation,
            st.integers(1, 3),
            revision=st.integers(6, 12),
            replaces=st.sampled_from(("", "hello-00000001", "nobody")),
        ),
        st.text(max_size=8),
    ),
    st.builds(
        ReportAllocation,
        st.sampled_from(("hello-00000001", "hello-00000002")),
        st.sampled_from(AllocationStatus),
        st.text(max_size=8),
    ),
    st.builds(OpenRepair, st.just("r1"), st.sampled_from(("m1", "m2")), st.just("dead")),
)
ENTRIES = st.lists(st.lists(COMMANDS, min_size=1, max_size=4), max_size=12)


def entries(batches: list[list[Command]], first: int) -> list[Entry]:
    return [
        Entry(
            number,
            1,
            encode_proposal(
                Proposal(f"r{number}", "m1", float(number), tuple(batch), by="operator/anna")
            ),
        )
        for number, batch in enumerate(batches, start=first)
    ]


def check_chain(events: tuple[Event, ...], head: str) -> None:
    for before, after in itertools.pairwise(events):
        assert after.previous == event_digest(before)
        assert after.number == before.number + 1
    assert event_digest(events[-1]) == head


@given(ENTRIES, st.integers(0, 12))
@settings(max_examples=60)
def test_the_chain_is_the_same_on_a_replica_that_starts_from_a_snapshot(
    batches: list[list[Command]], stops_at: int
) -> None:
    begin = founded()
    one = other = begin
    for place, entry in enumerate(entries(batches, begin.index + 1)):
        if place == stops_at:
            other = decode_state(encode_state(other))
        one, said = apply(one, entry)
        other, also = apply(other, entry)
        assert said == also
    assert one == other
    assert one.event_head == other.event_head
    assert one.event_count == len(one.events)
    check_chain(one.events, one.event_head)
    assert all(0 <= event.cause < event.number for event in one.events)


@given(ENTRIES, st.data())
@settings(max_examples=60)
def test_whatever_is_changed_in_the_past_the_head_is_another(
    batches: list[list[Command]], data: st.DataObject
) -> None:
    state = founded()
    for entry in entries(batches, state.index + 1):
        state, _ = apply(state, entry)
    lines = [event_line(event) for event in state.events]
    which = data.draw(st.integers(0, len(lines) - 1))
    where = data.draw(st.integers(0, len(lines[which]) - 1))
    changed = bytearray(lines[which])
    changed[where] ^= data.draw(st.integers(1, 255))
    lines[which] = bytes(changed)
    assert not holds(lines, state.event_head)


def holds(lines: list[bytes], head: str) -> bool:
    """As anybody can check it with `sha256sum`."""
    events = [event for line in lines if (event := event_in(line)) is not None]
    if len(events) < len(lines):
        return False
    digests = [event_digest(event) for event in events]
    same = all(event_line(event) == line for event, line in zip(events, lines, strict=True))
    return same and [*(one.previous for one in events[1:]), head] == digests


def test_the_story_of_a_lost_guest_is_linked_and_not_guessed() -> None:
    state, _ = commit(founded(), PutWorkload(workload()), time=10.0)
    revision = state.workloads["hello"].revision
    first = allocation("hello-00000002", revision=revision, member_id="m2")
    state, _ = commit(state, PlaceAllocation(first, "room"), time=11.0)
    state, _ = commit(state, ReportAllocation(first.id, AllocationStatus.HEALTHY, "well"))
    state, _ = commit(state, SetMemberState("m2", MemberState.SUSPECT, "gossip says so"))
    state, _ = commit(state, SetMemberState("m2", MemberState.DEAD, "gossip says so"))
    # Between cause and effect others come to pass, at the same time.
    state, _ = commit(state, SetMemberState("m3", MemberState.SUSPECT, "gossip says so"))
    state, _ = commit(state, ReportAllocation(first.id, AllocationStatus.LOST, "m2 is dead"))
    second = allocation("hello-00000001", revision=revision, replaces=first.id)
    state, _ = commit(
        state,
        PlaceAllocation(second, "room"),
        OpenRepair("repair-1", "m2", "dead for 15 s"),
    )
    state, _ = commit(state, ReportAllocation(second.id, AllocationStatus.STARTING, "booting"))
    by_number = {event.number: event for event in state.events}
    event = state.events[-1]
    story = []
    while event is not None:
        story.append((event.kind, event.subject))
        event = by_number.get(event.cause)
    assert story[::-1] == [
        ("member.suspect", "m2"),
        ("member.dead", "m2"),
        ("allocation.lost", first.id),
        ("allocation.placed", second.id),
        ("allocation.starting", second.id),
    ]
    opened = next(one for one in state.events if one.kind == "repair.opened")
    assert by_number[opened.cause].kind == "member.dead"


def test_who_asked_is_in_the_event() -> None:
    proposal = Proposal("r", "m2", 1.0, (PutWorkload(workload()),), by="operator/anna")
    state = founded()
    state, outcome = apply(state, Entry(state.index + 1, 3, encode_proposal(proposal)))
    (event,) = outcome.events
    assert (event.by, event.member_id, event.term, event.cause) == ("operator/anna", "m2", 3, 0)


def test_a_time_that_is_none_is_refused() -> None:
    state, outcome = commit(founded(), StopWorkload("hello"), time=float("nan"))
    assert "no time" in outcome.refused
    assert decode_state(encode_state(state)) == state


def old_state() -> ClusterState:
    return decode_state(zlib.decompress(base64.b85decode(OLD_SNAPSHOT)))


def old_entries() -> list[Entry]:
    return [msgspec.msgpack.decode(base64.b85decode(text), type=Entry) for text in OLD_ENTRIES]


def test_what_an_earlier_version_wrote_gives_the_same_chain_as_then() -> None:
    state = old_state()
    assert (state.event_count, len(state.events)) == (0, 5)
    for entry in old_entries():
        state, outcome = apply(state, entry)
        assert not outcome.refused
    assert event_digest(state.events[-1]) == OLD_HEAD


def test_the_chain_of_an_earlier_version_goes_on_with_numbers() -> None:
    state = old_state()
    for entry in old_entries():
        state, _ = apply(state, entry)
    state, outcome = commit(state, SetMemberState("m3", MemberState.DEAD, "gossip says so"))
    (event,) = outcome.events
    assert (event.number, event.previous) == (8, OLD_HEAD)
    assert (state.event_count, state.event_head) == (8, event_digest(event))


def test_the_table_of_newest_events_is_bounded() -> None:
    state = founded()
    for number in range(1700):
        name = f"w{number}"
        state, _ = commit(state, PutWorkload(workload(name)))
        state, _ = commit(state, StopWorkload(name))
    assert len(state.newest_events) < 1100
    assert state.newest_events["member/m1"] > 0

"""Commands that nobody means: the state machine refuses or takes them, and no decision breaks.

Any member may propose anything, and what is committed is in every agent's state for good: one that
made decisions fail would end each agent at each start.
"""

from __future__ import annotations

import math
import random
from typing import Any, get_args

import msgspec
import pytest
from msgspec import inspect

from sappers.agent.leading.repairs import healers_to_hear
from sappers.agent.view import build_view
from sappers.consensus.state_machine import apply
from sappers.decisions.electorate import choose_heir, plan_electorate
from sappers.decisions.fencing import ended_badly, members_to_fence
from sappers.decisions.forgetting import forgotten_by_the_log
from sappers.decisions.leader_time import LeaderTime
from sappers.decisions.mesh import assign_ports, plan_mesh, reconcile_intentions
from sappers.decisions.reconcile_cluster import reconcile_cluster
from sappers.decisions.reconcile_member import reconcile_member
from sappers.decisions.reconcile_services import wanted_services
from sappers.decisions.routing import choose_routes, routed_services
from sappers.decisions.streams import plan_streams
from sappers.decisions.wanted_images import wanted_images
from sappers.model.cluster_state import ClusterState
from sappers.model.codec import decode_state, encode_state, state_as_json
from sappers.model.commands import (
    AdoptFormat,
    Command,
    Entry,
    Proposal,
    PutWorkload,
    encode_proposal,
)
from sappers.model.observation import MemberObservation, RaftRole, RaftStatus
from sappers.model.policy import ElectorateSettings, FencingSettings, HealthSettings
from tests.unit.worlds import commit, founded, workload

STEPS = 25
_WORDS = (
    "m1", "m2", "m3", "m9", "web", "web-1", "healer", "monitor", "", "x" * 64, "é",
    "10.0.0.1", "999.9", "::1", "ssh-ed25519 AAAA", "allocation.lost",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 3, 80, 2**31, 2**53, 2**63 - 1, -(2**63))
_KINDS = [inspect.type_info(one) for one in get_args(Command) if one is not AdoptFormat]


def senseless(kind: inspect.Type, chance: random.Random) -> Any:
    """Some value of a type."""
    match kind:
        case inspect.StrType():
            return chance.choice(_WORDS)
        case inspect.IntType():
            return chance.choice(_NUMBERS)
        case inspect.FloatType():
            return chance.choice((0.0, 1.0, -1.0, 1e9, 1e300, -1e300, math.inf, math.nan))
        case inspect.BytesType():
            return chance.choice((b"", b"x", b"\xff" * 9))
        case inspect.BoolType():
            return chance.random() < 0.5
        case inspect.UnionType(types=kinds):
            return senseless(chance.choice(kinds), chance)
        case inspect.LiteralType(values=values):
            return chance.choice(values)
        case inspect.EnumType(cls=members):
            return chance.choice(list(members))
        case inspect.VarTupleType(item_type=item):
            return tuple(senseless(item, chance) for _ in range(chance.randrange(4)))
        case inspect.StructType(cls=struct, fields=fields):
            wanted = [one for one in fields if one.required or chance.random() < 0.6]
            return struct(**{one.name: senseless(one.type, chance) for one in wanted})
    assert isinstance(kind, inspect.NoneType), kind
    return None


def entries(seed: int) -> list[Entry]:
    """Proposals of a few such commands each; what cannot be encoded is left out."""
    chance, made = random.Random(seed), []
    for number in range(STEPS):
        commands = tuple(
            senseless(chance.choice(_KINDS), chance) for _ in range(chance.choice((1, 1, 2)))
        )
        time = chance.choice((0.0, 1000.0, 1e300, -5.0))
        proposal = Proposal(f"q{number}", "m1", time, commands, by="member/m1")
        made.append(Entry(0, 1, encode_proposal(proposal)))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_what_any_member_may_propose_breaks_nothing(seed: int) -> None:
    state, _ = commit(founded(3), PutWorkload(workload("web", count=2)))
    for one in entries(seed):
        entry = msgspec.structs.replace(one, index=state.index + 1)
        before, (state, outcome) = state, apply(state, entry)
        assert state.index == entry.index
        if not outcome.refused and state.requests != before.requests:
            decide(state)
    encoded = encode_state(state, ordered=True)
    assert encode_state(decode_state(encoded), ordered=True) == encoded


def decide(state: ClusterState) -> None:
    """All that agents decide by a state at each turn of their loops."""
    gossip = tuple(one for _, one in sorted(state.members.items()))
    raft = RaftStatus(RaftRole.LEADER, state.term, "m1", state.index, state.index, state.electorate)
    observed = MemberObservation(gossip=gossip, raft=raft, caught_up=True, leading_seconds=1000.0)
    reconcile_cluster(state, observed, 1000.0, FencingSettings(), steady_seconds=1000.0)
    plan_electorate(state, raft, set(), LeaderTime(1000.0, 1000.0), ElectorateSettings())
    choose_heir(state, raft)
    members_to_fence(state, ended_badly(state))
    healers_to_hear(state)
    plan_streams(state, {}, {}, 1000.0)
    reconcile_intentions(state, ())
    choose_routes(state, {}, ())
    routed_services(state)
    forgotten_by_the_log(state, gossip)
    for member in gossip:
        plan = reconcile_member(state, observed, member.id, 1000.0, HealthSettings())
        wanted_services(state, member, plan)
        wanted_images(state, member.id)
        plan_mesh(state, member, assign_ports(state, member, {}, lambda *_: True))
    build_view(
        cluster="c",
        me_id="m1",
        state=state,
        age_seconds=0.0,
        raft=raft,
        gossip=gossip,
        healths={},
    )
    state_as_json(state)

"""When a cluster that is being written to is whole again."""

from __future__ import annotations

from sappers.model.member import MemberState
from tests.e2e.lab_cluster import LabCluster, until

WHOLE_SECONDS = 300.0


def await_well(cluster: LabCluster) -> None:
    """Return once all agents live, follow one leader, have what there was when this was asked,
    and the hub runs; nothing needs a person.

    Raises:
        AssertionError: Not within five minutes; says what lacks.
    """
    names = cluster.hosts()
    newest = 0

    def look() -> bool:
        nonlocal newest
        healths = [cluster.health(name) for name in names]
        newest = newest or max(one.applied_index for one in healths)
        assert {one.leader_id for one in healths} == {healths[0].leader_id}, healths
        assert healths[0].leader_id, healths
        assert all(one.applied_index >= newest for one in healths), healths
        assert {one.hub for one in healths} <= {"running", "-"}, healths
        assert all(one.hub_connected for one in healths), healths
        view = cluster.view()
        assert {m.member.name for m in view.members} == set(names), view.members
        assert all(m.member.state is MemberState.ALIVE for m in view.members), view.members
        assert not view.attention, view.attention
        return True

    until(look, WHOLE_SECONDS, "the cluster is whole")

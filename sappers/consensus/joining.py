"""Joining: what a member that was given a vote starts its raft process with."""

from __future__ import annotations

from sappers.model.cluster_state import ClusterState
from sappers.model.view import Genesis


def joiners_record(state: ClusterState, first: Genesis | None = None) -> Genesis:
    """The start record of a member that the committed electorate names.

    It votes in later terms than the state's alone: whatever it voted for in an earlier life, with
    a raft folder that is gone, it cannot vote for again.

    Args:
        state: Of a replica that has applied the entry which added the member.
        first: The cluster's genesis where it is at hand; knows addresses of the first voters.
    """
    known = dict(first.addresses) if first else {}
    known.update(state.voter_addresses)
    return Genesis(
        cluster_id=state.cluster_id,
        founder="",
        voters=tuple(sorted(state.electorate)),
        addresses={voter: known[voter] for voter in state.electorate if voter in known},
        image_keys=state.image_keys,
        index=state.electorate_index,
        term=state.term,
        electorate_term=state.electorate_term,
    )

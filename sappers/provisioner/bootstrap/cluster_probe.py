"""What bootstrap asks of a running cluster, and when the cluster counts as formed. Pure but for
the interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap.run import HostRun


class ClusterProbe(Protocol):
    """Asks agents how they are; the composition root gives one that speaks the HTTP API."""

    def health(self, host: HostRun) -> MemberHealth:
        """What this host's agent says of itself.

        Raises:
            ApiError: It does not answer; MemberUnreachable when nothing listens.
        """


def find_missing(
    answers: Mapping[str, MemberHealth | str], *, settled_index: int
) -> tuple[str, ...]:
    """What is not yet true of a formed cluster, for people; empty when all is.

    Args:
        answers: By host: what its agent says, or why it does not answer.
        settled_index: What every agent must have applied: the highest commit index of an
            earlier look, so that a busy cluster is formed too.
    """
    silent = {name: answer for name, answer in answers.items() if isinstance(answer, str)}
    healths = [answer for answer in answers.values() if isinstance(answer, MemberHealth)]
    if silent:
        return tuple(f"{name} does not answer: {why}" for name, why in sorted(silent.items()))
    unfounded = sorted(health.name for health in healths if not health.cluster_id)
    if unfounded:
        return (f"{', '.join(unfounded)} {_have(unfounded)} not joined a cluster",)
    return (*_disagreements(healths), *_hub(healths), *_behind(healths, settled_index))


def has_quorum(answers: Mapping[str, MemberHealth | str]) -> bool:
    """Whether any agent that answers knows a leader."""
    return any(isinstance(answer, MemberHealth) and answer.leader_id for answer in answers.values())


def highest_commit(answers: Mapping[str, MemberHealth | str]) -> int:
    """The highest commit index that any agent knows."""
    return max(
        (answer.commit_index for answer in answers.values() if isinstance(answer, MemberHealth)),
        default=0,
    )


def _disagreements(healths: list[MemberHealth]) -> tuple[str, ...]:
    clusters = Counter(health.cluster_id for health in healths)
    if len(clusters) > 1:
        return (f"{len(clusters)} clusters: " + ", ".join(sorted(clusters)),)
    leaderless = sorted(health.name for health in healths if not health.leader_id)
    if leaderless:
        return (f"{', '.join(leaderless)} {_have(leaderless)} no leader",)
    leaders = {health.leader_id for health in healths}
    if len(leaders) > 1:
        return (f"{len(leaders)} leaders: " + ", ".join(sorted(map(str, leaders))),)
    return ()


def _hub(healths: list[MemberHealth]) -> tuple[str, ...]:
    down = sorted(health.name for health in healths if health.hub == "down")
    if down:
        return (f"the hub is down on {', '.join(down)}",)
    if not any(health.hub == "running" for health in healths):
        return ("the hub runs nowhere yet",)
    apart = sorted(health.name for health in healths if not health.hub_connected)
    return (f"{', '.join(apart)} {_have(apart)} no connection to the hub",) if apart else ()


def _behind(healths: list[MemberHealth], settled_index: int) -> tuple[str, ...]:
    late = sorted(health.name for health in healths if health.applied_index < settled_index)
    return (f"{', '.join(late)} {_have(late)} not reached index {settled_index}",) if late else ()


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"

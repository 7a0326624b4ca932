"""What a run did to each host, phase by phase, and Ansible's counts over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from sappers.errors import SappersError

CLUSTER_PHASE = "cluster"


class Outcome(StrEnum):
    """How a phase ended on a host. The words mean what they mean to Ansible."""

    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNREACHABLE = "unreachable"

    @property
    def is_good(self) -> bool:
        """Whether the host may go on to the next phase."""
        return self not in (Outcome.FAILED, Outcome.UNREACHABLE)


class PhaseResult(msgspec.Struct, frozen=True):
    """What one phase did on one host.

    Attributes:
        changes: What changed, or would have in check mode, one phrase each.
        errors: Why it failed; more than one where a host has several problems.
    """

    title: str
    outcome: Outcome
    changes: tuple[str, ...] = ()
    errors: tuple[SappersError, ...] = ()
    seconds: float = 0.0


class HostCounts(msgspec.Struct, frozen=True):
    """A line of the recap. As in Ansible, `ok` counts what changed too."""

    ok: int
    changed: int
    unreachable: int
    failed: int
    skipped: int


class Recap(msgspec.Struct, frozen=True):
    """A whole run.

    Attributes:
        hosts: Results in the order of the phases, by host name, in inventory order.
        cluster_error: Why the cluster as a whole is not well at the end, or None.
    """

    hosts: Mapping[str, Sequence[PhaseResult]]
    cluster_error: SappersError | None = None
    seconds: float = 0.0

    @property
    def problems(self) -> tuple[SappersError, ...]:
        """Every error of every host, then the cluster's."""
        found = [e for results in self.hosts.values() for r in results for e in r.errors]
        return (*found, *((self.cluster_error,) if self.cluster_error else ()))

    @property
    def changed(self) -> bool:
        """Whether anything changed on any host."""
        return any(counts.changed for counts in self.counts().values())

    def counts(self) -> dict[str, HostCounts]:
        """Ansible's numbers, by host name."""
        return {name: count_outcomes(results) for name, results in self.hosts.items()}


def count_outcomes(results: Sequence[PhaseResult]) -> HostCounts:
    """Ansible's numbers for one host."""
    outcomes = [result.outcome for result in results]
    return HostCounts(
        ok=outcomes.count(Outcome.OK) + outcomes.count(Outcome.CHANGED),
        changed=outcomes.count(Outcome.CHANGED),
        unreachable=outcomes.count(Outcome.UNREACHABLE),
        failed=outcomes.count(Outcome.FAILED),
        skipped=outcomes.count(Outcome.SKIPPED),
    )

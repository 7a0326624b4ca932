"""Who founds a cluster, and with how many: decided once, before the first agent is told.

Invariant: the decision is on disk before any host learns of it and never changes, since two
founders would make two clusters that never merge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from sappers.durable import write_durably
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.control.kept_json import read_kept

FOUNDING_FILE = "founding.json"


class Founding(msgspec.Struct, frozen=True):
    """The decision.

    Attributes:
        founder: The member whose agent founds the cluster.
        voters: How many agents must have met.
    """

    founder: str
    voters: int


def choose_founding(plan: ClusterPlan, present: Collection[str]) -> Founding:
    """The first in the plan's order that is present now."""
    founder = next(name for name in plan.founders() if name in present)
    return Founding(founder, plan.founding_voters)


def load_founding(folder: Path) -> Founding | None:
    """The decision of an earlier run, or None.

    Raises:
        ConfigError: The file is damaged.
    """
    return read_kept(
        folder / FOUNDING_FILE,
        Founding,
        hint="restore it: `bootstrap` in one host's /var/lib/sappers/agent.toml is not 0; "
        "that host is the founder",
    )


def decide_founding(
    folder: Path, plan: ClusterPlan, present: Callable[[], Collection[str]], *, check: bool
) -> Founding:
    """The earlier decision, or a new one, kept unless in check mode. One thread at a time."""
    founding = load_founding(folder)
    if founding is None:
        founding = choose_founding(plan, present())
        if not check:
            write_durably(folder / FOUNDING_FILE, msgspec.json.encode(founding) + b"\n")
    return founding

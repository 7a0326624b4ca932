"""The log's format: what every member must know to apply the log as all others do.

While agents of two versions run, an entry must mean the same to both. So whatever changes what an
entry does to the state is of a new format, and takes effect once the log has it: a new command, a
new field of one that `apply` heeds, or another meaning of what there is. The leader has a format
adopted (`decisions.formats`) once all members say that they know it. To bring one:

- `FORMAT` is one more.
- A new command says it: `since_format: ClassVar[int] = 2`. One with a new field says it where that
  is used: by a property, 0 while it has its default. What needs more than the log has is refused.
- Where what is known does something else, its step asks for `state.format >= 2`.
- Fields of `ClusterState` are filled by such steps alone.
- What is new is written down in `tests/unit/model/log_fields.toml`, which a test compares.

Before a release all that is new since the last one may share one format.
"""

from __future__ import annotations

from sappers.errors import UpgradeNeeded

FORMAT = 1


def newest_known() -> int:
    """The newest format that this program knows."""
    return FORMAT


def check_known(wanted: int) -> None:
    """See that this program knows a log of a format.

    Raises:
        UpgradeNeeded: It does not.
    """
    if wanted > newest_known():
        raise UpgradeNeeded(
            f"the log has format {wanted}, and this version knows {newest_known()} at most",
            hint="sappers-deploy bootstrap brings it the cluster's version",
        )

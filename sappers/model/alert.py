"""An alert: what the monitor says is wrong, for as long as it is."""

from __future__ import annotations

import msgspec

ALERTS_KEPT = 64


class Alert(msgspec.Struct, frozen=True):
    """One thing that is wrong; told apart by kind and subject.

    Attributes:
        kind: Dotted name such as `guest.silent`.
        subject: What it is about: an allocation or member id, or a workload's name.
        text: One clause for a person.
        raised_at: Unix time in seconds when the cluster agreed on it; 0 before.
    """

    kind: str
    subject: str
    text: str
    raised_at: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.kind, self.subject

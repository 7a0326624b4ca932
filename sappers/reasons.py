"""What goes wrong again and again, told apart from what is new, which alone is logged."""

from __future__ import annotations

from collections.abc import Collection, Hashable


class Reasons:
    """The last reason that each subject failed for."""

    def __init__(self) -> None:
        self._reasons: dict[Hashable, str] = {}

    def is_new(self, subject: Hashable, reason: str) -> bool:
        """Whether the subject's last failure, if it is not forgotten, had another reason."""
        before, self._reasons[subject] = self._reasons.get(subject), reason
        return reason != before

    def forget(self, subject: Hashable) -> None:
        """It is well: its next failure is new."""
        self._reasons.pop(subject, None)

    def keep_only(self, subjects: Collection[Hashable]) -> None:
        """Forget all others."""
        for gone in self._reasons.keys() - set(subjects):
            del self._reasons[gone]

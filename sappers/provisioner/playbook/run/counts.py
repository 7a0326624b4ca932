"""Ansible's counts, one line a host."""

from __future__ import annotations

import msgspec

from sappers.provisioner.playbook.tasks.judge import Judged, Outcome


class Counts(msgspec.Struct):
    """How the tasks of one host ended. As in Ansible `ok` counts what changed, too."""

    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0
    rescued: int = 0
    ignored: int = 0

    @property
    def took_part(self) -> bool:
        """Whether any task was for the host."""
        return any(msgspec.structs.astuple(self))

    def add(self, judged: Judged) -> None:
        """One more task."""
        outcome = judged.outcome
        if outcome is Outcome.UNREACHABLE and judged.goes_on:
            self.ok += judged.weight
            self.ignored += 1
        elif outcome is Outcome.FAILED:
            self.failed += 1
        elif outcome is Outcome.UNREACHABLE:
            self.unreachable += 1
        elif outcome is Outcome.SKIPPED:
            self.skipped += 1
        else:
            self.ok += judged.weight
            self.changed += bool(judged.result.get("changed"))
            self.ignored += outcome is Outcome.IGNORED

    def rescue(self) -> None:
        """A failure was mended after all."""
        self.failed -= 1
        self.rescued += 1

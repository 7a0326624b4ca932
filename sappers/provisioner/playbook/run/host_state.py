"""How far one host is in a run: what is known of it, what it has called, whether it goes on."""

from __future__ import annotations

import msgspec

from sappers.provisioner.playbook.language.model import Role, Task
from sappers.provisioner.playbook.tasks.judge import Judged, Outcome
from sappers.provisioner.playbook.tasks.variables import HostFacts


class HostState(msgspec.Struct):
    """What a run knows of one host.

    Attributes:
        notified: Handlers that were called, in order.
        failed: The task it failed at; `unreachable` beside where it was lost.
        along: The failure of another host that it shares (`any_errors_fatal`), or an include that
            was not there: plays that follow go without it also if it is mended, as in Ansible.
        struck: It shares what failed with `run_once`: no `rescue` of that block mends it.
        held: Failures that `always`, or handlers that are forced, come before.
        cleared: `meta: clear_host_errors` took its failure away.
        over: It takes no part any more although it is well (`end_host`).
        left: Roles of whose tasks it takes no part any more (`end_role`).
        ran: By their key, roles of the play of which a task was run, and not skipped.
    """

    name: str
    facts: HostFacts = HostFacts()
    notified: dict[str, None] = msgspec.field(default_factory=dict)
    failed: Judged | None = None
    along: Judged | None = None
    struck: bool = False
    unreachable: bool = False
    held: list[Judged | None] = msgspec.field(default_factory=list)
    cleared: bool = False
    over: bool = False
    left: list[Role] = msgspec.field(default_factory=list)
    ran: dict[str, Role] = msgspec.field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        """Whether it goes on."""
        return self.failed is None and not self.over

    @property
    def is_unbroken(self) -> bool:
        """Whether it goes on, and not only through what comes after its failure."""
        return self.is_well and not any(self.held)

    def begin_play(self) -> None:
        """Nothing of how the play before went for it counts, but what is known and its failure."""
        self.over = False
        self.ran.clear()
        self.notified.clear()

    def fail(self, judged: Judged) -> None:
        """It has failed, or was lost, at a task of its own."""
        self.failed = judged
        self.cleared = False
        self.unreachable = judged.outcome is Outcome.UNREACHABLE

    def fail_along(self, judged: Judged, *, struck: bool = False) -> None:
        """As `along` says."""
        self.failed = self.along = judged
        self.cleared = False
        self.struck = struck

    def hold_back(self) -> None:
        """It goes on for now, although it may have failed."""
        self.held.append(self.failed)
        self.failed = None

    def give_back(self) -> None:
        """It has failed as it had before, unless that was cleared meanwhile."""
        held = self.held.pop() if self.held else None
        self.failed = self.failed or held

    def clear_errors(self) -> bool:
        """It has not failed; whether it had. What it was taken out of it does not go on with."""
        had_failed = self.failed is not None or any(self.held)
        self.cleared = self.cleared or had_failed
        self.over = self.over or self.failed is not None
        self.failed, self.along, self.unreachable = None, None, False
        self.held.clear()
        return had_failed

    @property
    def is_out(self) -> bool:
        """Whether plays that follow go without it."""
        return self.failed is not None or self.along is not None

    @property
    def is_left_out(self) -> bool:
        """Whether that is for what another host failed at."""
        return self.along is not None and self.failed in (None, self.along)

    def takes(self, task: Task) -> bool:
        """Whether it takes part in a task, as far as roles go."""
        role = task.inherited.role
        if role is not None and self.ran.get(role.key, role) is not role:
            return False
        return not any(role is left for role in task.inherited.roles for left in self.left)

    def depends(self, task: Task) -> bool:
        """Whether that depends on what came of tasks before."""
        role = task.inherited.role
        return role is not None and role.is_again and role.key not in self.ran

    def note(self, judged: Judged) -> None:
        """A task has ended on it."""
        role = judged.task.inherited.role
        if role and role.key and judged.outcome not in (Outcome.SKIPPED, Outcome.UNREACHABLE):
            self.ran.setdefault(role.key, role)

"""How far one host is in a run: what is known of it, what it has called, whether it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from sappers.provisioner.playbook.language.model import Role, Task
from sappers.provisioner.playbook.tasks.judge import Judged, Outcome
from sappers.provisioner.playbook.tasks.variables import HostFacts


@dataclass
class HostState:
    """What a run knows of one host.

    Attributes:
        notified: Handlers that were called, in order.
        failed: The task it failed at; `unreachable` beside where it was lost.
        along: The failure of another host that it shares (`any_errors_fatal`), or an include that
            was not there: plays that follow go without it also if it is mended, as in Ansible.
        struck: It shares what failed with `run_once`: no `rescue` of that block mends it.
        over: It takes no part any more although it is well (`end_host`).
        left: Roles of whose tasks it takes no part any more (`end_role`).
    """

    name: str
    facts: HostFacts = field(default_factory=HostFacts)
    notified: dict[str, None] = field(default_factory=dict)
    failed: Judged | None = None
    along: Judged | None = None
    struck: bool = False
    unreachable: bool = False
    over: bool = False
    left: list[Role] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether it goes on."""
        return self.failed is None and not self.over

    def fail(self, judged: Judged) -> None:
        """It has failed, or was lost, at a task of its own."""
        self.failed = judged
        self.unreachable = judged.outcome is Outcome.UNREACHABLE

    def fail_along(self, judged: Judged, *, struck: bool = False) -> None:
        """As `along` says."""
        self.failed = self.along = judged
        self.struck = struck

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
        return not any(role is left for role in task.inherited.roles for left in self.left)

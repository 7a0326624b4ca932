"""What the command line asks of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from sappers.provisioner.playbook.templates.origin import MANAGED


class RunOptions(msgspec.Struct, frozen=True):
    """The options of a run.

    Attributes:
        extra: `-e`; templates in it are rendered.
        tags, skip_tags: Which tasks; no tags mean all.
        start_at_task: Its name or a pattern; what stands before it is not run.
        skip_offline: Hosts that do not answer take no part.
        user, private_key_file, connection: How to log in, where nothing else says it.
        ssh_arguments: Arguments of ssh and timeouts, by the variables that they stand in for.
        gathering: When plays gather facts: unless they say no (implicit), only where they say so
            (explicit), or of hosts of which nothing is known yet (smart).
        managed: What `ansible_managed` says where nobody has set it; `origin.py` fills it in.
    """

    check: bool = False
    diff: bool = False
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)
    tags: frozenset[str] = frozenset({"all"})
    skip_tags: frozenset[str] = frozenset()
    limit: str | None = None
    forks: int = 20
    verbosity: int = 0
    start_at_task: str | None = None
    skip_offline: bool = False
    user: str | None = None
    private_key_file: Path | None = None
    connection: str | None = None
    ssh_arguments: Mapping[str, str] = msgspec.field(default_factory=dict)
    become: bool = False
    become_user: str | None = None
    become_method: str | None = None
    force_handlers: bool = False
    gathering: str = "implicit"
    managed: str = MANAGED

    def selects(self, tags: frozenset[str]) -> bool:
        """Whether tasks with these tags are run; `always` and `never` as in Ansible."""
        named = tags or {"untagged"}
        chosen = "always" in tags or bool(self.tags & named)
        if "never" not in tags:
            chosen = chosen or "all" in self.tags or ("tagged" in self.tags and bool(tags))
        if "all" in self.skip_tags:
            return chosen and "always" in tags and "always" not in self.skip_tags
        skipped = self.skip_tags & named or ("tagged" in self.skip_tags and tags)
        return chosen and not skipped

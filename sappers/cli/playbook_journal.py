"""The journal of a run of playbooks, as the command line asks for it: `--resume`, `@retry`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sappers.config import control_home
from sappers.errors import ConfigError, JournalError
from sappers.provisioner.playbook.journal.fingerprint import fingerprint
from sappers.provisioner.playbook.journal.journal import (
    Journal,
    journal_path,
    read_standing,
    refuse_if_running,
)
from sappers.provisioner.playbook.journal.ledger import Ledger
from sappers.provisioner.playbook.journal.resume import (
    Standing,
    begun_by,
    records_of,
    resumed_options,
)

if TYPE_CHECKING:
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
    from sappers.provisioner.playbook.language.model import Play
    from sappers.provisioner.playbook.tasks.options import RunOptions

RETRY = "@retry"


class RunJournal:
    """Where the journal of these playbooks on this inventory is, and what the last run left."""

    def __init__(self, playbooks: Sequence[Path], inventory: Sequence[str]) -> None:
        self._playbooks = ", ".join(map(str, playbooks))
        self._inventory = inventory
        self._path = journal_path(control_home(os.environ).runs, playbooks, inventory)

    def begin(
        self, plays: Sequence[Play], options: RunOptions, secrets: SecretTexts, *, kept: bool
    ) -> Ledger:
        """The ledger of a new run.

        Args:
            kept: Whether it is written down.
        """
        if not kept:
            return Ledger(secrets=secrets)
        begun = begun_by(options, fingerprint(plays), time.time())
        return Ledger(lambda: Journal.begin(self._path, [begun]), None, secrets)

    def resume(
        self,
        plays: Sequence[Play],
        options: RunOptions,
        secrets: SecretTexts,
        *,
        kept: bool,
        say: Callable[[str], None],
    ) -> tuple[Ledger, RunOptions]:
        """The ledger of a run that goes on with the last one, and its options.

        Raises:
            JournalError: There is nothing to go on with, or it was another playbook.
        """
        refuse_if_running(self._path)
        standing = self._standing()
        options = resumed_options(options, standing, fingerprint(plays))
        say(_told(standing))
        records = records_of(standing)
        begin = (lambda: Journal.begin(self._path, records)) if kept else None
        return Ledger(begin, standing, secrets), options

    def limit(self, limit: str | None) -> str | None:
        """A limit with the hosts in the place of `@retry`, and of `@FILE` those it lists.

        Raises:
            ConfigError: There are none, or the file cannot be read.
        """
        if limit is None or "@" not in limit:
            return limit
        return ",".join(self._hosts_of(part.strip()) for part in limit.split(","))

    def _hosts_of(self, part: str) -> str:
        if not part.startswith("@"):
            return part
        if part != RETRY:
            try:
                lines = Path(part[1:]).expanduser().read_text().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"--limit {part}: {error}") from error
            names = [line.strip() for line in lines if line.strip() and line[0] != "#"]
        else:
            names = list(self._standing().unfinished)
        if not names:
            what = "no host failed in the last run" if part == RETRY else "it lists no host"
            raise ConfigError(f"--limit {part}: {what}", hint="leave out --limit to run on all")
        return ",".join(names)

    def _standing(self) -> Standing:
        standing = read_standing(self._path)
        if standing is None:
            raise JournalError(
                f"there is no run to go on with: none of {self._playbooks} with "
                f"-i {' -i '.join(self._inventory)} has left a journal in {self._path.parent}",
                hint="leave out --resume and @retry to run it from the beginning; a journal is "
                "found by the same playbooks and the same -i, and --check and --step leave none",
            )
        return standing


def _told(standing: Standing) -> str:
    began = datetime.fromtimestamp(standing.begun.at).astimezone()
    count = sum(len(past.done) for past in standing.hosts.values())
    hosts = ", ".join(standing.unfinished) or "no host"
    return (
        f"resuming the run of {began:%Y-%m-%d %H:%M:%S}: {count} results are taken over; "
        f"to be finished on {hosts}"
    )

"""What stands of a run, by its journal; pure. A resumed run takes it over and does the rest.

A host's results stand up to the first failure that no `rescue` took care of. The tasks from there
on are done anew. What they had changed already would show no more then, so they count as changed
even where nothing is left to change: handlers run rather twice than never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from sappers.errors import JournalError
from sappers.provisioner.playbook.journal.records import (
    VERSION,
    Begun,
    Done,
    Ended,
    Mended,
    Playing,
    Record,
    Sent,
    Unsure,
)
from sappers.provisioner.playbook.tasks.options import RunOptions


class Past(msgspec.Struct, frozen=True):
    """One host's.

    Attributes:
        done: What stands, in order.
        unsure: Tasks, by key, that may have changed the host without a result that stands.
    """

    done: tuple[Done, ...] = ()
    unsure: tuple[str, ...] = ()


class Standing(msgspec.Struct, frozen=True):
    """What stands of a run.

    Attributes:
        failed: Hosts that failed or were lost.
        ended: It came to its end.
    """

    begun: Begun
    taking_part: tuple[str, ...] = ()
    hosts: Mapping[str, Past] = msgspec.field(default_factory=dict)
    failed: tuple[str, ...] = ()
    ended: bool = False

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The hosts that failed; all of them where the run was cut off."""
        return self.failed if self.ended else self.taking_part

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.ended and not self.failed


class _HostFold(msgspec.Struct):
    done: list[Done] = msgspec.field(default_factory=list)
    sent: list[str] = msgspec.field(default_factory=list)
    unsure: list[str] = msgspec.field(default_factory=list)
    failed_at: int | None = None

    def add(self, record: Done) -> None:
        self.unsure = _without(self.unsure, record.task)
        self.sent = _without(self.sent, record.task)
        if record.failed and self.failed_at is None:
            self.failed_at = len(self.done)
        if record.outcome == "failed":
            self.sent = []  # the host stopped there; of one that was lost nobody knows
        self.done.append(record)

    def past(self) -> Past:
        stands = len(self.done) if self.failed_at is None else self.failed_at
        again = [one.task for one in self.done[stands:] if one.failed or one.outcome == "changed"]
        unsure = self.unsure + _missing(again + self.sent, self.unsure)
        return Past(tuple(self.done[:stands]), tuple(unsure))


def _without(keys: list[str], key: str) -> list[str]:
    found = list(keys)
    if key in found:
        found.remove(key)
    return found


def _missing(keys: Iterable[str], known: Iterable[str]) -> list[str]:
    """Keys that are not known yet; of one that is there twice both are."""
    left = list(known)
    found = []
    for key in keys:
        if key in left:
            left.remove(key)
        else:
            found.append(key)
    return found


def what_stands(records: Iterable[Record]) -> Standing | None:
    """What stands of a run; None where not even its beginning was written."""
    begun: Begun | None = None
    taking_part: dict[str, None] = {}
    folds: dict[str, _HostFold] = {}
    ended = False
    for record in records:
        match record:
            case Begun():
                begun = record
            case Playing(hosts=hosts):
                taking_part.update(dict.fromkeys(hosts))
            case Ended():
                ended = True
            case Sent(host=host, tasks=tasks):
                folds.setdefault(host, _HostFold()).sent = list(tasks)
            case Unsure(host=host, tasks=tasks):
                folds.setdefault(host, _HostFold()).unsure = list(tasks)
            case Mended(host=host):
                folds.setdefault(host, _HostFold()).failed_at = None
            case Done(host=host):
                folds.setdefault(host, _HostFold()).add(record)
    if begun is None:
        return None
    return Standing(
        begun,
        tuple(taking_part),
        {host: fold.past() for host, fold in folds.items()},
        tuple(host for host, fold in folds.items() if fold.failed_at is not None),
        ended,
    )


def records_of(standing: Standing) -> list[Record]:
    """The shortest journal of which the same stands: what a resumed run begins with."""
    records: list[Record] = [standing.begun, Playing(standing.taking_part)]
    for host, past in standing.hosts.items():
        for done in past.done:
            records.append(done)
            if done.failed:  # what stands of failures is mended
                records.append(Mended(host))
        if past.unsure:
            records.append(Unsure(host, past.unsure))
    return records


def begun_by(options: RunOptions, fingerprint: str, now: float) -> Begun:
    """The first record of a run."""
    return Begun(
        version=VERSION,
        fingerprint=fingerprint,
        at=now,
        limit=options.limit,
        tags=tuple(sorted(options.tags)),
        skip_tags=tuple(sorted(options.skip_tags)),
        start_at_task=options.start_at_task,
        extra=tuple(sorted(options.extra)),
    )


def resumed_options(options: RunOptions, standing: Standing, fingerprint: str) -> RunOptions:
    """The options of a run that goes on with another: what that one was asked for counts.

    Raises:
        JournalError: Nothing is left to do, it was another playbook, or something else is asked.
    """
    begun = standing.begun
    if standing.is_over:
        raise JournalError(
            "nothing is left to resume: the last run ended well on all hosts",
            hint="leave out --resume to run it again from the beginning",
        )
    if begun.fingerprint != fingerprint:
        raise JournalError(
            "the playbook, or a file that it imports, has changed since the run that is to be "
            "resumed: which of its tasks are done cannot be told",
            hint="take the change back; or write `--limit @retry` in the place of --resume: that "
            "runs all of it on the hosts that are not done",
        )
    asked = begun_by(options, fingerprint, begun.at)
    plain = begun_by(RunOptions(), fingerprint, begun.at)
    for name in ("limit", "tags", "skip_tags", "start_at_task"):
        if getattr(asked, name) not in (getattr(plain, name), getattr(begun, name)):
            option = f"--{name.replace('_', '-')}"
            message = f"{option} is not what the run that failed was asked for"
            raise JournalError(message, hint=f"leave out {option}: --resume knows what it was")
    missing = sorted(set(begun.extra) - set(asked.extra))
    if missing:
        message = f"the run that failed was given -e {', '.join(missing)}, and this one is not"
        raise JournalError(message, hint="give it again: values of -e are not kept")
    return replace(
        options,
        limit=begun.limit,
        tags=frozenset(begun.tags),
        skip_tags=frozenset(begun.skip_tags),
        start_at_task=begun.start_at_task,
    )

"""What a run writes down as it goes, and what it takes over of the run that it resumes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from sappers.errors import JournalError
from sappers.provisioner.playbook.journal.journal import Journal
from sappers.provisioner.playbook.journal.records import (
    Done,
    Ended,
    Mended,
    Playing,
    Record,
    Sent,
    key_of,
    shown_key,
)
from sappers.provisioner.playbook.journal.resume import Standing
from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.tasks.judge import Judged, Outcome

_NOT_KEPT = "its result was not kept in the journal"
# They change nothing, whatever became of them.
_READERS = frozenset({"find", "ping", "setup", "slurp", "stat", "wait_for", "wait_for_connection"})


class Ledger:
    """One run's. What is about a host is called from one thread at a time.

    Args:
        begin: Begins the journal, when the first task does: a run that cannot even begin, or has
            nothing to do, leaves the journal of the one before. None keeps nothing.
        standing: Of the run that is resumed.
        secrets: What must not be written down; what is met on the way is added.
    """

    def __init__(
        self,
        begin: Callable[[], Journal] | None = None,
        standing: Standing | None = None,
        secrets: SecretTexts | None = None,
    ) -> None:
        self._begin = begin
        self._journal: Journal | None = None
        self._begin_lock = threading.Lock()
        self._playing: list[Record] = []  # plays that began before the journal
        self._secrets = secrets or SecretTexts()
        self._past: dict[str, deque[Done]] = {}
        self._unsure: dict[str, list[str]] = {}
        self._keys: dict[Task, str] = {}
        for host, past in standing.hosts.items() if standing else ():
            self._past[host] = deque(past.done)
            again = [
                one.task for one in past.done if not one.is_enough and one.outcome == "changed"
            ]
            self._unsure[host] = [*past.unsure, *again]

    # What was

    def has_past(self, host: str) -> bool:
        """Whether results of a host are left to be taken over."""
        return bool(self._past.get(host))

    def take_over(self, host: str, task: Task) -> Judged | None:
        """A task's result of before; None where it has to be run, for the first time or again.

        Raises:
            JournalError: Another task was run here.
        """
        past = self._past.get(host)
        if not past:
            return None
        self.check(host, task)
        done = past[0]
        if not done.is_enough:
            return None
        past.popleft()
        return _judged(done, task)

    def check(self, host: str, task: Task) -> None:
        """Raises JournalError where another task than this one comes next on a host."""
        past = self._past.get(host)
        if past and past[0].task != self._key(task):
            done = past[0]
            raise JournalError(
                f"{host} cannot be resumed: after what the journal holds comes {done.name!r} "
                f"({shown_key(done.task)}), and now it would be {task.title!r} "
                f"({shown_key(self._key(task))})",
                hint="the task, what is included, or variables that decide, have changed: "
                "run it without --resume",
            )

    def who_ran(self, task: Task, hosts: Iterable[str]) -> str | None:
        """The host that a task of `run_once` was run on before."""
        key = self._key(task)
        return next((one for one in hosts if self.has_past(one) and self._past[one][0].task == key),
                    None)  # fmt: skip

    def counts_as_changed(self, host: str, task: Task) -> bool:
        """Whether a task may have changed the host before, without a result that told so."""
        unsure = self._unsure.get(host)
        if not unsure or self._key(task) not in unsure:
            return False
        unsure.remove(self._key(task))
        return task.module not in _READERS

    # What is

    def cover(self, secret: str) -> None:
        """A secret that was met: it is not written down, nor shown by who shares `secrets`."""
        self._secrets.add(secret)

    def playing(self, hosts: Sequence[str]) -> None:
        """A play begins. Raises JournalError."""
        playing = Playing(tuple(hosts))
        if self._journal is None:
            self._playing.append(playing)
        else:
            self._journal.append(playing)

    def sending(self, host: str, tasks: Sequence[Task]) -> None:
        """Tasks are about to be sent. What was written before is on the disk after it."""
        journal = self._begun()
        if journal is None:
            return
        again = self._past.get(host)
        keys = tuple(key for key in map(self._key, tasks) if not (again and again[0].task == key))
        journal.append(Sent(host, keys))
        journal.sync()

    def note(self, host: str, judged: Judged) -> None:
        """A task has ended on a host."""
        past = self._past.get(host)
        if past and past[0].task == self._key(judged.task):
            past.popleft()  # it was only run to know again what it told
            if not judged.failed:
                return
        if (journal := self._begun()) is not None:
            journal.append(self._done(host, judged))

    def mended(self, host: str) -> None:
        """A failure was taken care of."""
        self._append(Mended(host))

    def ended(self) -> None:
        """The run is at its end."""
        self._append(Ended())

    def close(self) -> None:
        """Write the journal to its end."""
        if self._journal is not None:
            self._journal.close()

    def _key(self, task: Task) -> str:
        if (key := self._keys.get(task)) is None:  # each host asks, and a digest takes a while
            key = self._keys[task] = key_of(task)
        return key

    def _append(self, record: Record) -> None:
        if self._journal is not None:
            self._journal.append(record)

    def _begun(self) -> Journal | None:
        """The journal, begun by the first that asks; hosts' threads do."""
        with self._begin_lock:
            if self._journal is None and self._begin is not None:
                journal = self._begin()
                journal.append(*self._playing)
                self._journal = journal
            return self._journal

    def _done(self, host: str, judged: Judged) -> Done:
        told = [judged.result, *(result for _, result in judged.items)]
        result = None if judged.no_log or judged.elsewhere else _as_json(judged.result)
        module = judged.task.module
        names = [judged.name, *judged.notified]
        secret = (
            self._secrets.are_in(names)
            or _as_json(names) is None
            or (result is not None and self._secrets.hidden_result(module, result) != result)
        )
        return Done(
            host=host,
            task=self._key(judged.task),
            name=module if secret else judged.name,
            outcome=judged.outcome.value,
            result=None if secret else result,
            notified=() if secret else judged.notified,
            no_log=judged.no_log,
            needed=bool(judged.task.register) or any("ansible_facts" in one for one in told),
        )


def _as_json(value: Any) -> Any:
    """The value, if it is the same when it is read again; else None.

    It is not where it holds bytes that are no text, as names of files may.
    """
    try:
        kept = msgspec.json.decode(msgspec.json.encode(value))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return kept if kept == value else None


def _judged(done: Done, task: Task) -> Judged:
    outcome = Outcome(done.outcome)
    result = done.result
    if result is None:
        result = {
            "changed": outcome is Outcome.CHANGED,
            "failed": done.failed or outcome is Outcome.IGNORED,
            "msg": _NOT_KEPT,
        }
        if outcome is Outcome.SKIPPED:
            result["skipped"] = True
    looped = task.loop is not None or bool(task.loop_with)
    items = tuple((None, one) for one in result.get("results", ()) if looped)
    return Judged(
        task, done.name, result, outcome, items, done.no_log, done.notified, replayed=True
    )

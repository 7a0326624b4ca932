"""A run of playbooks as JSON: one event a line, the recap last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import asdict

from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.run.engine import RunReport
from sappers.provisioner.playbook.tasks.judge import Judged


class EventLines:
    """Writes a run as events; satisfies `Watcher`.

    Args:
        write: Takes one line at a time.
        secrets: Covered in what users, hosts and files say, not in what the run says of itself.
    """

    def __init__(self, write: Callable[[str], None], secrets: SecretTexts) -> None:
        self._write = write
        self._secrets = secrets
        self._hide = secrets.hidden
        self._task = ""

    def play(self, name: str, *, empty: bool = False) -> None:
        """A play begins."""
        del empty  # no results follow
        self._event("play", name=self._hide(name))

    def task(self, task: Task, name: str) -> None:
        """The results of a task follow."""
        self._task = name
        self._event(
            "task",
            name=self._hide(name),
            module=task.module,
            place=self._hide(str(task.place)),
            handler=task.is_handler,
        )

    def result(self, host: str, judged: Judged) -> None:
        """How it ended on a host; without the result itself where `no_log` says so."""
        told: dict[str, Any] = {}
        if not judged.no_log:
            told["result"] = self._secrets.hidden_result(judged.task.module, judged.result)
        if judged.others:
            told["delegates"] = self._hide(list(judged.others))
        self._event(
            "result",
            host=self._hide(host),
            task=self._hide(self._task),
            outcome=judged.outcome.value,
            changed=bool(judged.result.get("changed")),
            seconds=round(judged.seconds, 3),
            **told,
        )

    def note(self, text: str) -> None:
        """Something about the run itself."""
        self._event("note", text=self._hide(text))

    def listing(
        self,
        play: str,
        hosts: Sequence[str] | None,
        tasks: Sequence[tuple[str, Sequence[str]]] | None,
    ) -> None:
        """A play that is not run: its hosts, its tasks with their tags."""
        told: dict[str, Any] = {} if hosts is None else {"hosts": list(hosts)}
        if tasks is not None:
            told["tasks"] = [{"name": name, "tags": list(tags)} for name, tags in tasks]
        self._event("listing", **self._hide({"play": play, **told}))

    def profile(
        self, tasks: Mapping[tuple[int, str], Mapping[str, float]], report: RunReport
    ) -> None:
        """How long it took to get into each host; how long tasks took is with each result."""
        del tasks
        connect = {host: round(took, 3) for host, took in report.connect_seconds.items()}
        self._event("profile", connect_seconds=self._secrets.hidden_names(connect))

    def recap(self, report: RunReport) -> None:
        """The last event: counts by host."""
        hosts = {name: asdict(count) for name, count in report.counts.items()}
        self._event(
            "recap",
            hosts=self._secrets.hidden_names(hosts),
            offline=self._hide(list(report.offline)),
            seconds=round(report.seconds, 3),
        )

    def _event(self, event: str, **fields: Any) -> None:
        self._write(json.dumps({"event": event, **fields}, default=str))

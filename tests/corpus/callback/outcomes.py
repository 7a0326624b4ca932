"""An Ansible callback that writes how each task ended on each host, one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ansible.plugins.callback import CallbackBase

sys.path.append(str(Path(__file__).parents[1]))
from keys import keys_of

DOCUMENTATION = """
name: outcomes
type: aggregate
short_description: writes outcomes
description: [writes outcomes]
"""


def message(told: dict) -> object:
    """What a `debug` says, in a loop of each item."""
    items = told.get("results")
    return told.get("msg") if items is None else [one.get("msg") for one in items]


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "outcomes"

    def _write(self, **line: object) -> None:
        with Path(os.environ["OUTCOMES"]).open("a") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def _result(self, outcome: str, result, **more: object) -> None:
        told = result._result
        if result._task.action in ("meta", "ansible.builtin.meta"):
            return
        if outcome == "ok" and told.get("changed"):
            outcome = "changed"
        said = result._task.action == "debug" and outcome in ("ok", "changed")
        self._write(
            task=result._task.get_name().strip(), host=result._host.get_name(),
            outcome=outcome, msg=message(told) if said else None, keys=keys_of(told),
            module=result._task.action, **more,
        )  # fmt: skip

    def v2_runner_on_ok(self, result) -> None:
        self._result("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False) -> None:
        self._result("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result) -> None:
        self._result("skipped", result)

    def v2_runner_on_unreachable(self, result) -> None:
        self._result("unreachable", result)

    def v2_playbook_on_stats(self, stats) -> None:
        for host in sorted(stats.processed):
            found = stats.summarize(host)
            self._write(recap=host, counts=found)

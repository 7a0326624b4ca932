"""How a run of playbooks is shown: task after task, as Ansible's users know it, then the recap."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import asdict
from rich.console import Console
from rich.text import Text

from sappers.cli.harmless import harmless
from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.run.engine import RunReport
from sappers.provisioner.playbook.tasks.judge import Judged, Outcome

_STYLES = {
    Outcome.OK: "green",
    Outcome.CHANGED: "yellow",
    Outcome.SKIPPED: "cyan",
    Outcome.FAILED: "bold red",
    Outcome.IGNORED: "red",
    Outcome.UNREACHABLE: "bold red",
}
_WIDTH = 79
_CENSORED = "(not shown: no_log)"
# What is long, or said elsewhere; all of it is shown with -v.
_QUIET = ("ansible_facts", "diff", "invocation", "stdout_lines", "stderr_lines", "results")

_NO = ("false", "no", "off", "0")


class TaskLines:
    """Writes a run as text; satisfies `Watcher`.

    Args:
        secrets: Covered in what users, hosts and files say, not in what the run says of itself.
        adhoc: Results are what the command is for: shown with facts, and as programs print them.
    """

    def __init__(
        self,
        console: Console,
        *,
        verbosity: int = 0,
        secrets: SecretTexts | None = None,
        adhoc: bool = False,
    ) -> None:
        self._console = console
        self._verbosity = verbosity
        self._secrets = secrets or SecretTexts()
        self._hide = self._secrets.hidden_text
        self._adhoc = adhoc
        self._place = ""

    def play(self, name: str, *, empty: bool = False) -> None:
        """The play's heading."""
        self._heading(f"PLAY [{self._hide(name)}]")
        if empty:
            self._print("skipping: no hosts matched", "cyan")

    def task(self, task: Task, name: str) -> None:
        """The task's heading."""
        kind = "RUNNING HANDLER" if task.is_handler else "TASK"
        self._heading(f"{kind} [{self._hide(name)}]")
        self._place = str(task.place) if task.place.line else ""

    def result(self, host: str, judged: Judged) -> None:
        """One line a host, or one an item; what changed, and why it failed."""
        for number, (label, result) in enumerate(judged.items):
            where = _where(host, judged.delegates[number : number + 1])
            shown = self._label(judged, label)
            self._line(where, judged, result, _outcome_of(result), f" => (item={shown})")
        where = _where(host, judged.others)
        if not judged.items or judged.outcome is Outcome.UNREACHABLE:
            self._line(where, judged, judged.result, judged.outcome, "")
        elif judged.outcome is Outcome.FAILED or judged.outcome is Outcome.IGNORED:
            self._line(where, judged, {"msg": judged.result.get("msg")}, Outcome.FAILED, "")
        if judged.outcome in (Outcome.FAILED, Outcome.IGNORED) and self._place:
            self._print(f"  the task is at {self._hide(self._place)}", "dim")
            self._place = ""  # said once, not for each host
        if judged.outcome is Outcome.IGNORED:
            self._print("...ignoring", "cyan")

    def _line(
        self, host: str, judged: Judged, result: Mapping[str, Any], outcome: Outcome, item: str
    ) -> None:
        for diff in result.get("diff") or () if not judged.no_log else ():
            self._diff(diff)
        word = {Outcome.SKIPPED: "skipping", Outcome.FAILED: "failed", Outcome.IGNORED: "failed"}
        line = f"{word.get(outcome, outcome.value)}: [{self._hide(host)}]{item}"
        shown = self._secrets.hidden_result(judged.task.module, result)
        if outcome is Outcome.OK and (included := _included(judged.task, shown)):
            line = f"included: {included} for {self._hide(host)}{item}"
        printed = ""
        if judged.no_log:
            line += f" => {_CENSORED}" if result.get("failed") or self._verbosity else ""
        elif _is_for_people(judged.task) and outcome is not Outcome.SKIPPED:
            line += f" => {_as_json(_told(shown, judged.task.module), indent=4)}"
        elif self._adhoc and self._verbosity == 1 and "rc" in shown and "stdout" in shown:
            line += f" rc={shown['rc']}"
            parts = [shown["stdout"], shown.get("stderr")]
            printed = "".join(f"{part.rstrip()}\n" for part in map(str, filter(None, parts)))
        elif outcome in (Outcome.FAILED, Outcome.IGNORED, Outcome.UNREACHABLE) or self._verbosity:
            told = _told(shown) if self._verbosity < 2 else shown
            if self._adhoc and "ansible_facts" in shown:
                told["ansible_facts"] = shown["ansible_facts"]
            line += f" => {_as_json(told, indent=4 if self._adhoc and len(told) == 1 else None)}"
        self._print(line, _STYLES[outcome])
        if printed:
            self._print(printed.rstrip("\n"))

    def _diff(self, diff: Mapping[str, Any]) -> None:
        shown = {name: self._hide(str(text)) for name, text in diff.items()}
        lines = difflib.unified_diff(
            shown.get("before", "").splitlines(), shown.get("after", "").splitlines(),
            f"before: {shown.get('before_header', '')}", f"after: {shown.get('after_header', '')}",
            lineterm="",
        )  # fmt: skip
        for line in lines:
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            self._print(line, style)

    def _heading(self, text: str) -> None:
        text = harmless(text)
        self._print("")
        self._print(f"{text} {'*' * max(3, _WIDTH - len(text) - 1)}", "bold")

    def _print(self, text: str, style: str = "") -> None:
        shown = Text(harmless(text), style=style)
        self._console.print(shown, soft_wrap=True, highlight=False)

    def listing(
        self,
        play: str,
        hosts: Sequence[str] | None,
        tasks: Sequence[tuple[str, Sequence[str]]] | None,
    ) -> None:
        """A play that is not run: its hosts, its tasks with their tags."""
        self._print(f"play: {self._hide(play)}", "bold")
        for host in hosts or ():
            self._print(f"  {self._hide(host)}")
        for name, tags in tasks or ():
            shown = ", ".join(map(self._hide, tags))
            self._print(f"  {self._hide(name)}" + (f"    [{shown}]" if tags else ""))

    def note(self, text: str) -> None:
        """Something about the run itself."""
        self._print(self._hide(text), "bold")

    def profile(
        self, tasks: Mapping[tuple[int, str], Mapping[str, float]], report: RunReport
    ) -> None:
        """Where the time went."""
        from sappers.cli.playbook_profile import render_profile

        self._console.print(render_profile(tasks, report, self._hide), highlight=False)

    def recap(self, report: RunReport) -> None:
        """Ansible's lines, one a host."""
        self._heading("PLAY RECAP")
        named = {harmless(name): count for name, count in report.counts.items()}
        counts = self._secrets.hidden_names(named)
        width = max(map(len, counts), default=0)
        for name, count in counts.items():
            bad = count.failed or count.unreachable
            style = "red" if bad else "yellow" if count.changed else "green"
            numbers = " ".join(f"{field}={value:<4}" for field, value in asdict(count).items())
            line = Text.assemble((f"{name:<{width}}", style), f" : {numbers}".rstrip())
            self._console.print(line, soft_wrap=True, highlight=False)
        for name in report.offline:
            self._print(f"{self._hide(name)} : offline, left out", "cyan")

    def _label(self, judged: Judged, label: Any) -> str:
        if judged.no_log:
            return _CENSORED
        shown = self._secrets.hidden(label)
        return shown if isinstance(shown, str) else _as_json(shown)


def _included(task: Task, result: Mapping[str, Any]) -> str:
    """The file of tasks, or the role, that a task has included; else nothing."""
    if task.module not in ("include_tasks", "include_role"):
        return ""
    return str(result.get("include") or result.get("include_args", {}).get("name", ""))


def _where(host: str, others: Sequence[str]) -> str:
    """As Ansible: the task's host, and the one that did it instead."""
    return f"{host} -> {others[0]}" if len(others) == 1 and others[0] else host


def _outcome_of(result: Mapping[str, Any]) -> Outcome:
    if result.get("unreachable"):
        return Outcome.UNREACHABLE
    if result.get("failed"):
        return Outcome.FAILED
    if result.get("skipped"):
        return Outcome.SKIPPED
    return Outcome.CHANGED if result.get("changed") else Outcome.OK


def _told(result: Mapping[str, Any], module: str = "") -> dict[str, Any]:
    if module == "debug" and "msg" in result:  # for the item there is the label
        return {"msg": result["msg"]}
    dull = ("changed", "failed") if not result.get("failed") else ("failed",)
    return {key: value for key, value in result.items() if key not in (*_QUIET, *dull)}


def _is_for_people(task: Task) -> bool:
    """Whether what it says is what it is there for: it is shown whole, as Ansible does."""
    quiet = task.arguments.get("quiet", False)
    return task.module == "debug" or (task.module == "assert" and str(quiet).lower() in _NO)


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, default=str, ensure_ascii=False, indent=indent)

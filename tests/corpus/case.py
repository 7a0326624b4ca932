"""One playbook of the corpus, run by Ansible or by us on fresh folders, and what came of it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.journal.ledger import Ledger
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.run.engine import Engine
from sappers.provisioner.playbook.tasks.judge import Judged
from sappers.provisioner.playbook.tasks.options import RunOptions
from sappers.security.vault import open_vault
from tests.corpus.keys import Keys, keys_of
from tests.corpus.server import web_server

HERE = Path(__file__).parent
CASES = sorted(path.stem for path in (HERE / "cases").glob("*.yml"))
VAULT_PASSWORD = HERE / "cases/files/vault/password"
# The options of a case that has some, as we and as Ansible take them.
OPTIONS: dict[str, tuple[RunOptions, tuple[str, ...]]] = {
    "tags": (RunOptions(tags=frozenset({"a", "b"})), ("--tags", "a,b")),
    "task_tags_skip": (
        RunOptions(skip_tags=frozenset({"two", "never"})), ("--skip-tags", "two,never"),
    ),
    "play_limit": (RunOptions(limit="h1:h3"), ("--limit", "h1:h3")),
    "play_tags": (RunOptions(tags=frozenset({"web"})), ("--tags", "web")),
    "play_localhost_limit": (RunOptions(limit="h1:db"), ("--limit", "h1:db")),
    "include_tags": (RunOptions(tags=frozenset({"a"})), ("--tags", "a")),
    "pairs_check": (RunOptions(check=True), ("--check",)),
    "pairs_tags": (RunOptions(tags=frozenset({"tagged"})), ("--tags", "tagged")),
    "pairs_tags_never": (RunOptions(tags=frozenset({"all", "never"})), ("--tags", "all,never")),
    "pairs_tags_skipped": (
        RunOptions(tags=frozenset({"one"}), skip_tags=frozenset({"two", "always"})),
        ("--tags", "one", "--skip-tags", "two,always"),
    ),
    "pairs_tags_untagged": (RunOptions(tags=frozenset({"untagged"})), ("--tags", "untagged")),
    "roles_again_tags": (RunOptions(tags=frozenset({"t"})), ("--tags", "t")),
    "vault": (RunOptions(), ("--vault-password-file", str(VAULT_PASSWORD))),
}  # fmt: skip
_PLAIN: tuple[RunOptions, tuple[str, ...]] = (RunOptions(), ())


@dataclass
class Outcomes:
    """What a run did: per task and host, per host, and to the files.

    Attributes:
        keys: Task, host, module and the keys of the result, in order.
        diffs: What of ours said how files change, with `diff`.
    """

    tasks: list[list[Any]] = field(default_factory=list)
    keys: Keys = field(default_factory=list)
    diffs: list[list[Any]] = field(default_factory=list)
    recap: dict[str, dict[str, int]] = field(default_factory=dict)
    tree: dict[str, list[str]] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """For a file, and to compare: hosts may end a task in any order."""
        return {"tasks": sorted(self.tasks, key=str), "recap": self.recap, "tree": self.tree}


def tree_of(root: Path) -> dict[str, list[str]]:
    """Kind, mode and content or target of all below a folder."""
    found: dict[str, list[str]] = {}
    own = str(root)
    above = [str(parent) for parent in root.parents if parent != parent.parent]
    for path in sorted(root.rglob("*")):
        if ".git" in path.parts:  # objects and logs know when they were made
            continue
        name = path.relative_to(root).as_posix()
        if path.is_dir() and any(f"/{name}".endswith(parent) for parent in above):
            continue  # on the way to a copy of this folder
        name = name.replace(own.lstrip("/"), "ROOT")
        mode = f"{stat.S_IMODE(path.lstat().st_mode):04o}"
        if path.is_symlink():
            found[name] = ["link", str(path.readlink()).replace(str(root), "ROOT")]
        elif path.is_dir():
            found[name] = ["directory", mode]
        else:
            content = path.read_bytes()
            text = "(binary)" if b"\0" in content else content.decode().replace(str(root), "ROOT")
            found[name] = ["file", mode, text]
    return found


def _harmless(value: Any, root: Path, server: str) -> Any:
    text = json.dumps(value, default=str).replace(str(root), "ROOT").replace(server, "SERVER")
    return json.loads(text.replace(str(HERE), "/CORPUS"))  # of whichever checkout


def _decrypt(envelope: str) -> str:
    return open_vault(envelope, [VAULT_PASSWORD.read_text().strip()])


class _Kept:
    def __init__(self, outcomes: Outcomes, root: Path, server: str) -> None:
        self._outcomes = outcomes
        self._root = root
        self._server = server
        self._name = ""

    def play(self, name: str, *, empty: bool = False) -> None:
        pass

    def task(self, task: Task, name: str) -> None:
        self._name = name

    def result(self, host: str, judged: Judged) -> None:
        told = not judged.no_log and judged.outcome.value in ("ok", "changed")
        said = judged.task.module == "debug" and told
        each = [result.get("msg") for _, result in judged.items]
        message = (each or judged.result.get("msg")) if said else None
        entry = [self._name, host, judged.outcome.value, message]
        self._outcomes.tasks.append(_harmless(entry, self._root, self._server))
        keys = keys_of(judged.result)
        self._outcomes.keys.append([self._name, host, judged.task.module, keys])
        results = [result for _, result in judged.items] or [judged.result]
        if diffs := [diff for result in results for diff in result.get("diff") or ()]:
            self._outcomes.diffs.append([self._name, host, diffs])


def run_ours(
    case: str,
    root: Path,
    options: RunOptions | None = None,
    ledger: Ledger | None = None,
    extra: Mapping[str, str] | None = None,
) -> Outcomes:
    """Run a case with our engine; `options` instead of the case's own, variables beside them."""
    root.mkdir(exist_ok=True)
    with web_server() as server:
        variables = {"root": str(root), "server": server, **(extra or {})}
        return _run_ours(case, root, options, variables, ledger)


def _run_ours(
    case: str,
    root: Path,
    options: RunOptions | None,
    extra: Mapping[str, str],
    ledger: Ledger | None,
) -> Outcomes:
    outcomes = Outcomes()
    options = options or OPTIONS.get(case, _PLAIN)[0]
    options = replace(options, extra=extra)
    inventory = load_inventory(HERE / "inventory.ini", extra=extra)
    kept = _Kept(outcomes, root, extra["server"])
    engine = Engine(inventory, options, kept, decrypt=_decrypt, ledger=ledger)
    path = HERE / "cases" / f"{case}.yml"
    report = engine.run(load_playbook(path, _decrypt, extra=extra))
    outcomes.recap = {name: asdict(count) for name, count in report.counts.items()}
    outcomes.tree = tree_of(root)
    return outcomes


def run_ansible(case: str, root: Path, program: str, python: str) -> Outcomes:
    """Run a case with `ansible-playbook`."""
    root.mkdir(exist_ok=True)
    with web_server() as server:
        return _run_ansible(case, root, program, python, server)


def _run_ansible(case: str, root: Path, program: str, python: str, server: str) -> Outcomes:
    log = root.with_suffix(".jsonl")
    log.unlink(missing_ok=True)
    environment = {
        **os.environ, "OUTCOMES": str(log), "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "outcomes", "ANSIBLE_PYTHON_INTERPRETER": python,
        "ANSIBLE_PIPELINING": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "LC_ALL": "C.UTF-8",
        "ANSIBLE_RETRY_FILES_ENABLED": "0", "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_COLLECTIONS_PATH": str(Path(program).parents[1] / "collections"),
    }  # fmt: skip
    path = HERE / "cases" / f"{case}.yml"
    command = [program, str(path), "-i", str(HERE / "inventory.ini")]
    command += ["-e", f"root={root}", "-e", f"server={server}"]
    done = subprocess.run(
        [*command, *OPTIONS.get(case, _PLAIN)[1]], env=environment, capture_output=True, text=True,
        check=False, cwd=root, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if not log.exists():
        raise RuntimeError(done.stderr or done.stdout)
    outcomes = Outcomes()
    for line in map(json.loads, log.read_text().splitlines()):
        if "recap" in line:
            outcomes.recap[line["recap"]] = recap_of(line["counts"])
        else:
            entry = [line["task"], line["host"], line["outcome"], line["msg"]]
            outcomes.tasks.append(_harmless(entry, root, server))
            outcomes.keys.append([line["task"], line["host"], line["module"], line["keys"]])
    outcomes.tree = tree_of(root)
    return outcomes


def recap_of(counts: Mapping[str, int]) -> dict[str, int]:
    """Ansible's counts of one host, under the names that it prints."""
    names = ("ok", "changed", "unreachable", "failures", "skipped", "rescued", "ignored")
    return {name.replace("failures", "failed"): counts.get(name, 0) for name in names}

"""One playbook by Ansible and by us at the same time, each on its own host, and what they told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sappers.config import ControlHome
from tests.corpus.ansible import Ansible
from tests.corpus.case import HERE as CORPUS
from tests.corpus.case import Outcomes, recap_of, tree_of
from tests.corpus.keys import keys_of
from tests.sameness.hosts import State, Twins
from tests.sameness.stepwise import Events, written_stepwise

# Of the same name for both, on this machine and on the hosts; behind it are three folders.
ROOT = Path("/srv/sameness")
_SECONDS = 1200.0  # more than Ansible ever takes, on a machine that does other things, too
_MOUNTED = 'mkdir -p "$1" && mount --bind "$0" "$1" && shift && exec "$@"'


@dataclass(frozen=True)
class Ran:
    """A playbook by both.

    Attributes:
        announced: What we said before that we would do, as events.
        done: What we then did.
        touched: What asking changed on our host or here, a line each.
    """

    ansible: Outcomes
    ours: Outcomes
    announced: Events
    done: Events
    touched: Sequence[str]


class Players:
    """Ansible and we, with an inventory for each in which all names are its own host.

    Args:
        server: Address of the web server that playbooks ask.
    """

    def __init__(
        self, twins: Twins, ansible: Ansible, home: ControlHome, folder: Path, server: str
    ) -> None:
        self._ansible = ansible
        self._home = home
        self._folder = folder
        self._server = server
        for name, host in zip(("ansible", "ours"), twins.names, strict=True):
            shutil.copytree(CORPUS / "group_vars", folder / name / "corpus/group_vars")
            text = (CORPUS / "inventory.ini").read_text()
            wanted = (
                f"ansible_host={twins.address(host)}\nansible_user=root\n"
                f"ansible_ssh_private_key_file={twins.lab.key}\n"
                f"ansible_ssh_common_args='-o UserKnownHostsFile={twins.lab.known_hosts}'\n"
            )
            text = text.replace("ansible_connection=local\n", wanted)
            (folder / name / "corpus/inventory.ini").write_text(text)
            (folder / name / "control").mkdir()
            (folder / name / "ansible.cfg").touch()

    def close(self) -> None:
        """Leave nothing on this machine."""
        with suppress(OSError):  # it is not there, or another run's
            ROOT.rmdir()

    def run(
        self, path: Path, options: Sequence[str], look: Callable[[], State] | None = None
    ) -> Ran:
        """What Ansible and what we made of a playbook.

        Args:
            look: Tells what is on our host: then we announce first what we would make of it.
        """
        root = ROOT / path.stem
        given = self._given(path, root, options)
        with ThreadPoolExecutor(2) as pool:
            ansible = pool.submit(self._by_ansible, given, root)
            announced, touched = self._announce(given, root, look) if look else ([], [])
            done = self._events(given, root)
            return Ran(ansible.result(), outcomes_of(done), announced, done, touched)

    def run_stepwise(self, path: Path, options: Sequence[str]) -> Events:
        """A playbook by us, in which each task is announced right before; nothing if none can."""
        root = ROOT / path.stem
        folder = self._folder / "ours/corpus/stepwise"
        shutil.copytree(path.parent, folder, dirs_exist_ok=True)
        if not written_stepwise(path, folder / path.name):
            return ()
        return self._events(self._given(folder / path.name, root, options), root)

    def _given(self, path: Path, root: Path, options: Sequence[str]) -> list[str]:
        variables = ("-e", f"root={root}", "-e", f"server={self._server}")
        return [str(path), "--diff", *variables, *options]

    def _announce(
        self, given: Sequence[str], root: Path, look: Callable[[], State]
    ) -> tuple[Events, list[str]]:
        """What we would do, and what was changed by asking."""

        (self._folder / "ours/control" / root.name).mkdir(exist_ok=True)

        def everything() -> State:
            control = tree_of(self._folder / "ours/control")
            return {**look(), **{f"here {name}": what for name, what in control.items()}}

        before = everything()
        announced = self._events([*given, "--check"], root)
        after = everything()
        return announced, [
            f"{name}: {before.get(name, 'nothing')!r}, then {after.get(name, 'nothing')!r}"
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]

    def _by_ansible(self, given: Sequence[str], root: Path) -> Outcomes:
        folder = self._folder / "ansible"
        log = folder / "outcomes.jsonl"
        log.unlink(missing_ok=True)
        environment = {
            "OUTCOMES": str(log), "ANSIBLE_CALLBACK_PLUGINS": str(CORPUS / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "outcomes", "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self._ansible.collections),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "ssh"),
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3", "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        command = [str(self._ansible.playbook), *given]
        done = self._run("ansible", command, environment, root)
        if not log.exists():
            raise RuntimeError(f"Ansible: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        outcomes = Outcomes()
        for line in map(json.loads, log.read_text().splitlines()):
            if "recap" in line:
                outcomes.recap[line["recap"]] = recap_of(line["counts"])
            else:
                outcomes.tasks.append([line["task"], line["host"], line["outcome"], line["msg"]])
                outcomes.keys.append([line["task"], line["host"], line["module"], line["keys"]])
        (folder / "said").write_text(done.stdout + done.stderr)
        return outcomes

    def _events(self, given: Sequence[str], root: Path) -> Events:
        """A run by us."""
        program = Path(sys.executable).with_name("sappers-deploy")
        environment = {
            "SAPPERS_HOME": str(self._home.data), "SAPPERS_CACHE": str(self._home.cache),
            "NO_COLOR": "1",
        }  # fmt: skip
        command = [str(program), "playbook", "run", *given, "-o", "json"]
        done = self._run("ours", command, environment, root)
        (self._folder / "ours/said").write_text(done.stdout + done.stderr)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        if not events or events[-1]["event"] != "recap":
            raise RuntimeError(f"ours: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return events

    def _run(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], root: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run it where `ROOT` is a folder of its own."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ANSIBLE_", "SAPPERS_"))
        }
        control = self._folder / name / "control"
        (control / root.name).mkdir(exist_ok=True)
        inventory = str(self._folder / name / "corpus/inventory.ini")
        unshared = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNTED]
        return subprocess.run(
            [*unshared, str(control), str(ROOT), *command, "-i", inventory],
            env=kept | dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=_SECONDS,
        )  # fmt: skip


def outcomes_of(events: Events) -> Outcomes:
    """What a run of ours did, from its events."""
    outcomes = Outcomes()
    module = ""
    for line in events:
        if line["event"] == "task":
            module = line["module"]
        elif line["event"] == "result":
            said = module == "debug" and line["outcome"] in ("ok", "changed")
            message = _message(line.get("result", {})) if said else None
            outcomes.tasks.append([line["task"], line["host"], line["outcome"], message])
            keys = keys_of(line["result"]) if "result" in line else None  # with `no_log`
            outcomes.keys.append([line["task"], line["host"], module, keys])
        elif line["event"] == "recap":
            outcomes.recap = line["hosts"]
    return outcomes


def _message(result: Mapping[str, Any]) -> Any:
    """What a `debug` says, in a loop of each item."""
    items = result.get("results")
    return result.get("msg") if items is None else [one.get("msg") for one in items]

"""A machine for one walk: a network of its own, in which commands run as a person types them.

Ports are those of everyday life (8500, 8080, 4222), so a walk needs an empty network: a namespace
with one address. What was typed, and what came of it, is kept as a page of Markdown.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.ssh_server import NAMESPACE, unpacked_openssh

ADDRESS = "10.99.0.1"
COMMAND_SECONDS = 180.0
LOOK_SECONDS = 0.2
_LINES_SHOWN = 40


class Page:
    """What a walk printed, step by step."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def step(self, title: str, text: str = "") -> None:
        """Begin a step of the walk."""
        print(f"\n## {title}\n{text}")
        self._parts.append(f"## {title}\n" + (f"\n{text}\n" if text else ""))

    def say(self, text: str) -> None:
        """What a test saw, for the reader."""
        print(text)
        self._parts.append(f"{text}\n")

    def show(self, command: str, output: str) -> None:
        """A command and what it printed."""
        lines = [line.rstrip() for line in output.rstrip().splitlines()]
        if len(lines) > _LINES_SHOWN:
            lines = [*lines[: _LINES_SHOWN - 1], f"… and {len(lines) - _LINES_SHOWN + 1} lines"]
        text = "\n".join((f"$ {command}", *lines))
        print(text)
        self._parts.append(f"```\n{text}\n```\n")

    @property
    def text(self) -> str:
        """The page so far."""
        return "\n".join(self._parts)


class Machine:
    """One machine: a network namespace, a working folder, and what was started in it.

    Attributes:
        consul: The program, or None with the reason in `why_no_consul`.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.page = Page()
        self.consul: Path | None = None
        self.why_no_consul = ""
        for name in ("bin", "user"):
            (folder / name).mkdir()
        self._name = f"walk-{os.getpid()}"
        self._environment = os.environ | {
            "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder / "user"),
            "SAPPERS_HOME": str(folder / "home"),
            "SAPPERS_CACHE": str(cache),
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def up(self) -> None:
        """Make its network."""
        for command in (
            f"ip netns add {self._name}",
            f"ip -n {self._name} link set lo up",
            f"ip -n {self._name} link add walk0 type bridge",
            f"ip -n {self._name} address add {ADDRESS}/24 dev walk0",
            f"ip -n {self._name} link set walk0 up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True, text=True)

    def down(self) -> None:
        """End everything in it, and remove its network."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + 10
            while self._pids() and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
        for process in self._started:
            process.wait(10)
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)

    def run(
        self, command: str, *, code: int = 0, show: bool = True, seconds: float = COMMAND_SECONDS
    ) -> str:
        """What a command line prints; it must end with `code`."""
        done = subprocess.run(
            self._inside(command),
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )
        if show:
            self.page.show(command, done.stdout)
        assert done.returncode == code, f"{command}: {done.returncode}: {done.stdout}"
        return done.stdout

    def start(self, command: str, log: str) -> subprocess.Popen[bytes]:
        """Start a command line in the background; what it says goes to a file."""
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(
                self._inside(f"exec {command}"),
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._started.append(process)
        self.page.show(f"{command} 2>>{log} &", "")
        return process

    def start_sshd(self) -> None:
        """An SSH server at the machine's address, with keys and logins of its own."""
        binaries, folder = unpacked_openssh(), self.folder / "ssh"
        (folder / "etc").mkdir(parents=True)
        key = folder / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        sshd = "sshd:x:4000:65534::/run/sshd:/usr/sbin/nologin\n"
        (folder / "etc" / "passwd").write_text(Path("/etc/passwd").read_text() + sshd)
        (folder / "sshd_config").write_text(
            f"ListenAddress {ADDRESS}\nHostKey {key}\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder}/user/.ssh/authorized_keys\n"
        )
        inside = [
            "ip",
            "netns",
            "exec",
            self._name,
            "unshare",
            "--mount",
            "--propagation",
            "private",
        ]
        command = [*inside, "sh", "-c", NAMESPACE, "sh", str(binaries), str(folder)]
        self._started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))

    def log(self, name: str) -> str:
        """What a file says so far."""
        return (self.folder / name).read_text(errors="replace")

    def _inside(self, command: str) -> list[str]:
        return ["ip", "netns", "exec", self._name, "bash", "-c", command]

    def _pids(self) -> list[int]:
        done = subprocess.run(
            ["ip", "netns", "pids", self._name], check=False, capture_output=True, text=True
        )
        return [int(pid) for pid in done.stdout.split()]

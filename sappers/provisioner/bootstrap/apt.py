"""apt on a host, through the SSH connection where need be: waits for its lock, ends what hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sappers.errors import CommandFailed
from sappers.provisioner.bootstrap.apt_hints import describe, find_lock_holder, hint_for
from sappers.provisioner.bootstrap.apt_proxy import LOOPBACK, AptProxy
from sappers.provisioner.bootstrap.package_requests import REFUSAL, PackageRequests
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.bootstrap.turns import Turns
from sappers.provisioner.executor.executor import CommandResult
from sappers.provisioner.modules.step import TIMED_OUT

_LOCK_SECONDS = 180.0
_LOCK_PAUSE_SECONDS = 2.0
_APT_SECONDS = 1200.0
_FETCH_SECONDS = 240.0
_TURN_SECONDS = 60.0
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}


class Apt:
    """Runs apt on hosts; their packages come through the proxy where there is one.

    Attributes:
        updates: Taken by whoever fetches lists.
    """

    def __init__(self, proxy: AptProxy) -> None:
        self._proxy = proxy
        # Several clients that ask apt-cacher-ng for an index that it is just fetching can get a
        # part of it, and then apt waits for ever.
        self.updates = Turns(_TURN_SECONDS)

    def fetch(self, host: HostRun, command: Sequence[str]) -> None:
        """Run what only downloads; when it hangs it is ended, and goes on from where it was."""
        for last in (False, False, True):
            try:
                return self.run(host, command, timeout_seconds=_FETCH_SECONDS)
            except CommandFailed as error:
                if last or error.exit_code != TIMED_OUT:
                    raise
                host.note(f"apt hangs since {_FETCH_SECONDS:.0f} s; once more")
        return None

    @contextmanager
    def options(self, host: HostRun) -> Iterator[list[str]]:
        """Options for the command line, none of which stays on the host; good within the block."""
        options = [
            "Dpkg::Options::=--force-confold",
            "Acquire::Retries=2",
            "APT::Update::Error-Mode=any",
        ]
        with self.proxy(host) as address:
            if address:
                options.append(f"Acquire::http::Proxy={address}")
            yield [argument for option in options for argument in ("-o", option)]

    @contextmanager
    def proxy(self, host: HostRun) -> Iterator[str]:
        """The proxy's address as the host sees it, good within the block; empty without one."""
        port = self._proxy.port()
        if port is None:
            yield ""
            return
        assert host.connection is not None
        with host.connection.open_reverse_tunnel(
            0, (LOOPBACK, port), gate=PackageRequests, refusal=REFUSAL
        ) as there:
            yield f"http://{LOOPBACK}:{there}"

    def run(
        self, host: HostRun, command: Sequence[str], *, timeout_seconds: float = _APT_SECONDS
    ) -> None:
        """Run it; wait, within a limit, for another package run on the host to end."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            done = host.executor.run(
                command,
                timeout_seconds=timeout_seconds,
                environment=_ENVIRONMENT,
                on_line=lambda line: _follow(host, line),
            )
            if done.exit_code == 0:
                return
            holder = find_lock_holder(done.output)
            if holder is None or time.monotonic() > deadline:
                break
            host.note(f"waiting for another package run to end ({describe(*holder)})")
            time.sleep(_LOCK_PAUSE_SECONDS)
        raise CommandFailed(
            host.name, _shown(command), done.exit_code, done.output, hint=_hint(done)
        )


def _hint(done: CommandResult) -> str:
    known = hint_for(done.output)
    return known or "look at /var/log/apt/term.log on the host, then run this again"


def _follow(host: HostRun, line: str) -> None:
    if line.startswith(("Waiting for", "E:", "Get:", "Setting up")):
        host.note(line.strip())


def _shown(command: Sequence[str]) -> str:
    words = iter(command)
    return " ".join(word for word in words if word != "-o" or not next(words))

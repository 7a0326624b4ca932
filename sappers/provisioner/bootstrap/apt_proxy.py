"""Debian packages for hosts without internet: a caching proxy on this machine, for one run.

It is a process of our own with its own settings, cache and port on loopback; the system's service
of that name is neither used nor touched. Hosts reach it through their SSH connection.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from sappers.errors import SappersError

LOOPBACK = "127.0.0.1"
_PROGRAM = "/usr/sbin/apt-cacher-ng"
_START_SECONDS = 15.0
_PORTS = range(20_000, 32_000)
# The proxy ends with this process even if that is killed: then the pipe to `cat` closes. $0 is the
# run's own folder, $1 the program.
_GUARD = """\
exec 3<&0
"$1" -c "$0" &
proxy=$!
(cat <&3 > /dev/null; kill $proxy) &
wait $proxy
rm -rf "$0"
"""


class AptProxy:
    """Starts when first asked for; several threads may ask."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._port: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def port(self) -> int | None:
        """Its port on this machine's loopback; None when apt-cacher-ng is not installed.

        Raises:
            SappersError: It does not start; carries its output.
        """
        with self._lock:
            if self._port is None and shutil.which(_PROGRAM):
                self._port = self._start()
            return self._port

    def _start(self) -> int:
        folder = Path(tempfile.mkdtemp(prefix="sappers-apt-"))
        port = _free_port()
        settings = folder / "acng.conf"
        settings.write_text(
            f"CacheDir: {self._own_cache(folder)}\nLogDir: {folder}\nSocketPath: {folder}/socket\n"
            f"PidFile: {folder}/pid\nSupportDir: /usr/lib/apt-cacher-ng\nPort: {port}\n"
            f"BindAddress: {LOOPBACK}\nForeGround: 1\nExThreshold: 30\nReportPage:\n"
            f"{_upstream_proxy()}"
        )
        log = folder / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, str(folder), _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us; we end it
            )
        self._stack.callback(_end, process)
        _await_port(port, process, log)
        return port

    def _own_cache(self, scratch: Path) -> Path:
        """The lasting cache; a throw-away one while another run uses that."""
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._stack.enter_context((self._cache / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return scratch / "cache"
        return self._cache / "packages"


def _free_port() -> int:
    """A free port of those that apt-cacher-ng can bind: it takes higher ones for negative."""
    for port in random.sample(_PORTS, len(_PORTS)):
        try:
            with socket.create_server((LOOPBACK, port)):
                return port
        except OSError:
            continue
    raise SappersError(f"no port of {LOOPBACK} from {_PORTS[0]} to {_PORTS[-1]} is free")


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.05)
    raise SappersError(
        f"apt-cacher-ng does not start: {log.read_text(errors='replace').strip()[-500:]}",
        hint="its cache may be damaged; delete the folder `apt` below SAPPERS_CACHE",
    )


def _upstream_proxy() -> str:
    proxy = os.environ.get("http_proxy", "")
    return f"Proxy: {proxy}\n" if proxy else ""

"""A real Consul for tests: Debian's binary, fetched once into the cache, and agents in dev mode."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sappers.config import ConsulSettings, control_home
from sappers.provisioner.bootstrap.consul_program import CONSUL_VERSION, FETCH_CONSUL

# Of the binary that the amd64 package of this version holds.
PROGRAM_SHA256 = "a449efb10a03df3cb9310f3a54d933ccda7c4faba4f421f183fc90a82056798e"
START_SECONDS = 120.0
_ACCESS_LISTS = """
acl = {
  enabled = true
  default_policy = "deny"
  tokens = { master = "%(token)s", agent = "%(token)s" }
}
"""


@cache
def consul_program() -> Path:
    """The binary; skips the test, with the reason, where it cannot be had."""
    folder = control_home(os.environ).cache / "consul" / CONSUL_VERSION
    program = folder / "consul"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fetched = Path(scratch) / "consul"
            done = subprocess.run(
                ["sh", "-c", FETCH_CONSUL, "sh", fetched],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            if done.returncode:
                pytest.skip(f"no Consul {CONSUL_VERSION} can be had: {done.stderr[-300:]}")
            fetched.replace(program)
    found = hashlib.sha256(program.read_bytes()).hexdigest()
    if found != PROGRAM_SHA256:
        pytest.skip(f"{program} is not the Consul that tests know: SHA-256 {found}")
    return program


class DevConsul:
    """One Consul agent in dev mode on a loopback address; what it knows is in memory."""

    def __init__(self, address: str, folder: Path, token: str = "") -> None:
        """With a token it has access lists, denies by default, and the token may do everything."""
        token_file = folder / "consul-token"
        if token:
            token_file.write_text(f"{token}\n")
        self.settings = ConsulSettings(
            enabled=True, address=f"{address}:8500", token_file=str(token_file) if token else ""
        )
        self._address = address
        self._folder = folder
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with nothing in it, and wait until it leads."""
        with (self._folder / f"consul-{self._address}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [consul_program(), "agent", "-dev", f"-bind={self._address}",
                 f"-client={self._address}", "-serf-wan-port=-1", f"-node=node-{self._address}",
                 *(("-hcl", _ACCESS_LISTS % {"token": self._token}) if self._token else ())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder,
                env={"PATH": os.environ["PATH"]},
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.get("/v1/status/leader"):
                    return
            except OSError:
                pass
            assert self._process.poll() is None, "Consul ended; see its log"
            assert time.monotonic() < deadline, f"Consul has no leader within {START_SECONDS} s"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def get(self, path: str) -> Any:
        """What its HTTP API answers, decoded."""
        with urllib.request.urlopen(self._request(path), timeout=30) as answer:
            return json.load(answer)

    def put(self, path: str, body: Any = None, *, method: str = "PUT") -> None:
        """A write to its HTTP API."""
        request = self._request(path)
        request.data = b"" if body is None else json.dumps(body).encode()
        request.method = method
        urllib.request.urlopen(request, timeout=30).close()

    def _request(self, path: str) -> urllib.request.Request:
        headers = {"X-Consul-Token": self._token} if self._token else {}
        return urllib.request.Request(f"http://{self.settings.address}{path}", headers=headers)

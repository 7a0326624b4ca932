"""`sappers --let-healers-in`: the cluster may log in to this host to start this agent again."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from sappers.agent.running import RunningAgent
from sappers.api.operator_client import OperatorClient
from sappers.api.problems import decoded
from sappers.api.wire import RepairAccess, WantedRepairKey
from sappers.assembly.by_hand import ClusterKeys, ensure_repair_authority
from sappers.config import StateFolder
from sappers.durable import write_durably
from sappers.errors import HostUnfit, IdentityError
from sappers.model.repair import KnownAccess, RepairLogin
from sappers.provisioner.repair.access import access_line, with_member_access
from sappers.security.repair_authority import renew_access

SSH_PORT = 22
_KEYSCAN_SECONDS = 20


def let_healers_in(
    client: OperatorClient, folder: StateFolder, running: RunningAgent, keys: ClusterKeys | None
) -> str:
    """Accept the cluster's certificates for this member, and tell the cluster how to log in.

    Returns:
        What was done, for a person.

    Raises:
        IdentityError: The cluster's keys are not here.
        HostUnfit: This host has no SSH server at the member's address.
        ApiError: The cluster does not take it.
    """
    if keys is None:
        raise IdentityError(
            "--let-healers-in needs the cluster's keys",
            hint="run it where they are, or say where with --cluster-keys",
        )
    authority = ensure_repair_authority(keys)
    login = RepairLogin(
        member_id=running.node_id,
        port=SSH_PORT,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        become=False,
        host_keys=_host_keys(running),
        start=(os.path.abspath(sys.argv[0]), str(folder.root)),  # noqa: PTH100 — links stay
    )
    path = Path.home() / ".ssh" / "authorized_keys"
    _write_line(path, access_line(authority.public, running.node_id), running.node_id)
    seed = keys.identity.hub.account_seed.strip()
    found = decoded(client.call("GET", "/v1/repair-key"), RepairAccess)
    known = KnownAccess(found.public, found.logins, found.image_keys, found.number)
    image_keys = (keys.signing_key.public,)
    given = renew_access(authority, seed, (login,), image_keys, known, time.time())
    if given is not None:
        key, logins = given
        wanted = WantedRepairKey(
            key.public, key.sealed, logins, key.image_keys, key.signature, key.number
        )
        client.call("PUT", "/v1/repair-key", content=msgspec.json.encode(wanted))
    return f"healers may log in as {login.user} to start {running.node_id} again (line in {path})"


def _write_line(path: Path, line: str, member_id: str) -> None:
    """Every line but this member's stays: other agents of this host have theirs."""
    before = path.read_bytes() if path.exists() else b""
    after = with_member_access(before, line, member_id)
    if after == before:
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    write_durably(path, after, mode=mode)


def _host_keys(running: RunningAgent) -> tuple[str, ...]:
    """What this host's SSH server shows; it is asked here, on its own host."""
    command = ["ssh-keyscan", "-p", str(SSH_PORT), running.address]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_KEYSCAN_SECONDS
        )
        said = done.stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    found = (line.split() for line in said.splitlines() if not line.startswith("#"))
    keys = tuple(sorted({f"{words[1]} {words[2]}" for words in found if len(words) == 3}))
    if not keys:
        raise HostUnfit(
            running.node_id,
            f"no SSH server answers at {running.address} port {SSH_PORT}",
            hint="healers log in over SSH: start sshd, and install openssh-client for ssh-keyscan",
        )
    return keys

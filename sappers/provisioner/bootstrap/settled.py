"""What a host had before this run: whose member it is, and what its agent was started with."""

from __future__ import annotations

import secrets
from pathlib import PurePosixPath

import msgspec

from sappers.config import StateFolder
from sappers.errors import CommandFailed, HostUnfit
from sappers.provisioner.bootstrap.node_ids import NodeIds
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.places import CURRENT, STATE_FOLDER
from sappers.security.possession import Possession

_STATE = StateFolder(PurePosixPath(STATE_FOLDER))  # type: ignore[arg-type]
# Written after a start that worked: a run killed before that starts the agent again.
_STARTED_WITH_PATH = f"{STATE_FOLDER}/started-with"


class Settled(msgspec.Struct, frozen=True):
    """What was found on a host.

    Attributes:
        node_id: Its own; one made up for it where it has none.
        is_member: It had one.
        certificate: PEM; empty where there is none.
        version: Folder name of the agent that `current` names, or empty.
        started_with: The fingerprint of what its agent was started with, or empty.
    """

    node_id: str
    is_member: bool = False
    certificate: bytes = b""
    version: str = ""
    started_with: str = ""


class _Settings(msgspec.Struct):
    """The part of a host's `agent.toml` that says where it belongs."""

    cluster: str = ""


def look_at(host: str, executor: Executor, cluster: str, ids: NodeIds) -> Settled:
    """Ask a host; changes nothing.

    Raises:
        HostUnfit: It is of another cluster, or says that it is a member that it may not be.
    """
    _refuse_stranger(host, executor.read_file(str(_STATE.settings)), cluster)
    node_id = _text(executor.read_file(str(_STATE.node_id)))
    certificate = executor.read_file(str(_STATE.pki / "cert.pem")) or b""

    def prove(challenge: str) -> Possession:
        return Possession(certificate, _request(executor, challenge))

    if node_id:
        ids.claim(node_id, host, prove)
    link = executor.stat([CURRENT])[CURRENT]
    return Settled(
        is_member=bool(node_id),
        node_id=node_id or f"{host}-{secrets.token_hex(3)}",
        certificate=certificate,
        version=(link.target or "") if link is not None else "",
        started_with=_text(executor.read_file(_STARTED_WITH_PATH)),
    )


def _request(executor: Executor, name: str) -> bytes:
    """A request for a certificate of that name, by the host's key; empty where there is none."""
    key = str(_STATE.pki / "key.pem")
    try:
        done = executor.run(["openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}"])
    except CommandFailed:
        return b""
    return done.stdout.encode()


def _text(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace").strip()


def _refuse_stranger(host: str, settings: bytes | None, wanted: str) -> None:
    try:
        cluster = msgspec.toml.decode(settings, type=_Settings).cluster if settings else ""
    except (ValueError, RecursionError):
        return  # it is written anew
    if cluster not in ("", wanted):
        raise HostUnfit(
            host,
            f"it is a member of cluster {cluster}, not of {wanted}",
            hint=f"name the cluster with sappers_cluster={cluster}, or stop sappers.service "
            f"there and remove {STATE_FOLDER}",
        )

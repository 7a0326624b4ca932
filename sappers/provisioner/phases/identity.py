"""Who a host is in the cluster: id, key, certificate, and the keys that all members share; and
who may come to repair it.

Invariant: a host's private key is made on the host and never leaves it; only the request does.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import PurePosixPath

import msgspec

from sappers.config import StateFolder
from sappers.errors import HostUnfit, IdentityError
from sappers.provisioner.control_identity import ControlIdentity
from sappers.provisioner.node_ids import NodeIds
from sappers.provisioner.places import STATE_FOLDER
from sappers.provisioner.plan import ClusterPlan
from sappers.provisioner.repair_key import let_healers_in
from sappers.provisioner.run import HostRun

_STATE = StateFolder(PurePosixPath(STATE_FOLDER))  # type: ignore[arg-type]
_KEY = str(_STATE.pki / "key.pem")
_CERTIFICATE = str(_STATE.pki / "cert.pem")
# What all members have in common.
_SHARED = (
    str(_STATE.pki / "ca.pem"),
    str(_STATE.gossip_key),
    str(_STATE.hub_seed),
    str(_STATE.hub / "operator.jwt"),
    str(_STATE.hub / "account.jwt"),
)
_MAKE_KEY = (
    "umask 077; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.new "
    "&& sync $1.new && mv $1.new $1"
)


class _Settled(msgspec.Struct):
    """The part of a host's `agent.toml` that says where it belongs."""

    cluster: str = ""


class Identity:
    """Leaves the host with `node_id` and everything that proves it."""

    title = "identity"

    def __init__(
        self,
        plan: ClusterPlan,
        identity: ControlIdentity | None,
        ids: NodeIds,
        repair_key: str | None,
    ) -> None:
        """`identity` and the public `repair_key` are None only in check mode, before a real run."""
        self._plan = plan
        self._identity = identity
        self._ids = ids
        self._repair_key = repair_key

    def run(self, host: HostRun) -> str | None:
        """Raises HostUnfit when the host is of another cluster, or says it is another member."""
        self._refuse_stranger(host)
        for folder in (_STATE.root, _STATE.pki, _STATE.hub):
            host.ensure_folder(str(folder), mode=0o700)
        host.node_id = self._ensure_node_id(host)
        let_healers_in(host, self._repair_key)
        if self._identity is None:
            host.changes += [f"file {path}" for path in (_KEY, _CERTIFICATE, *_SHARED)]
            return None
        certificate = self._ensure_certificate(host, self._identity)
        shared = (
            self._identity.authority.cert_pem,
            self._identity.gossip_key.encode(),
            self._identity.hub.account_seed.encode(),
            self._identity.hub.operator_jwt.encode(),
            self._identity.hub.account_jwt.encode(),
        )
        for path, content in zip(_SHARED, shared, strict=True):
            host.write_file(path, content, mode=0o600)
        host.identity_digest = hashlib.sha256(b"\0".join((certificate, *shared))).hexdigest()
        return None

    def _refuse_stranger(self, host: HostRun) -> None:
        text = host.executor.read_file(str(_STATE.settings))
        try:
            cluster = msgspec.toml.decode(text, type=_Settled).cluster if text else ""
        except (ValueError, RecursionError):
            return  # it is written anew
        if cluster not in ("", self._plan.name):
            raise HostUnfit(
                host.name,
                f"it is a member of cluster {cluster}, not of {self._plan.name}",
                hint=f"name the cluster with sappers_cluster={cluster}, or stop sappers.service "
                f"there and remove {STATE_FOLDER}",
            )

    def _ensure_node_id(self, host: HostRun) -> str:
        path = str(_STATE.node_id)
        found = host.executor.read_file(path)
        if found and (node_id := found.decode(errors="replace").strip()):
            self._ids.claim(node_id, host.name)
            return node_id
        node_id = f"{host.name}-{secrets.token_hex(3)}"
        host.write_file(path, f"{node_id}\n".encode(), mode=0o600)
        return "" if host.check else node_id

    def _ensure_certificate(self, host: HostRun, identity: ControlIdentity) -> bytes:
        has_key = host.executor.stat([_KEY])[_KEY] is not None
        found = host.executor.read_file(_CERTIFICATE) if has_key else None
        if found is not None and identity.renewal_of(found, host.member.address) is None:
            return found
        if host.check:
            lacking = (_CERTIFICATE,) if has_key else (_KEY, _CERTIFICATE)
            host.changes += [f"file {path}" for path in lacking]
            return b""
        if not has_key:
            # A certificate of a lost key must not be taken for the new key's.
            host.executor.remove(_CERTIFICATE)
            host.executor.check(["sh", "-c", _MAKE_KEY, "sh", _KEY])
            host.changes.append(f"file {_KEY}")
        request = host.executor.check(
            ["openssl", "req", "-new", "-key", _KEY, "-subj", f"/CN={host.node_id}"]
        )
        try:
            signed = identity.sign_agent(request.stdout.encode(), host.node_id, host.member.address)
        except IdentityError as error:
            raise HostUnfit(host.name, error.message, hint=error.hint) from error
        host.write_file(_CERTIFICATE, signed, mode=0o644)
        return signed

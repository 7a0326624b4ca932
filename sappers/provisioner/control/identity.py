"""A cluster's secrets on the control machine: CA, operator's certificate, gossip and hub keys.

Invariant: each is made once, and none but the gossip key is ever replaced, for a replaced CA or
key would lock out every member. They are complete before the first host sees one of them. Written
under the run's lock.
"""

from __future__ import annotations

import base64
import getpass
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sappers.durable import write_durably
from sappers.errors import IdentityError
from sappers.model.gossip_keys import GossipKeys, parse_gossip_keys
from sappers.provisioner.control.record import (
    CA_FILE,
    OPERATOR_CERTIFICATE_FILE,
    OPERATOR_KEY_FILE,
)
from sappers.security.authority import (
    Authority,
    create_authority,
    create_operator,
    needs_renewal,
    sign_request,
    sign_service_request,
)

_CA_KEY_FILE = "ca.key"
_GOSSIP_KEY_FILE = "gossip.key"
_GOSSIP_KEY_BYTES = 32
_HUB_FILES = {
    "operator_jwt": "hub-operator.jwt",
    "account_jwt": "hub-account.jwt",
    "account_seed": "hub-account.seed",
}


class HubSecrets(msgspec.Struct, frozen=True):
    """What a cluster's hub servers trust and what admits users to it; see the hub's credentials."""

    operator_jwt: str
    account_jwt: str
    account_seed: str

    def __repr__(self) -> str:
        return "HubSecrets(…)"


class ControlIdentity(msgspec.Struct, frozen=True):
    """A cluster's secrets, complete.

    Attributes:
        gossip_key: Base64 of 32 random bytes; while another is taken on, a line for each.
    """

    authority: Authority
    gossip_key: str
    hub: HubSecrets

    def __repr__(self) -> str:
        return "ControlIdentity(…)"

    def sign_agent(self, csr_pem: bytes, node_id: str, address: str) -> bytes:
        """A certificate (PEM) for an agent's request.

        Raises:
            IdentityError: The request is damaged.
        """
        return sign_request(
            self.authority, csr_pem, node_id=node_id, role="agent", addresses=(address,)
        )

    def sign_service(self, csr_pem: bytes, node_id: str, names: Sequence[str]) -> bytes:
        """A certificate (PEM) for another program on a member's host.

        Raises:
            IdentityError: The request is damaged.
        """
        return sign_service_request(self.authority, csr_pem, node_id=node_id, names=names)

    def service_renewal_of(self, cert_pem: bytes, names: Sequence[str]) -> str | None:
        """Why such a certificate must be signed again, or None."""
        return needs_renewal(cert_pem, self.authority.cert_pem, (), time.time(), names=names)

    def renewal_of(self, cert_pem: bytes, address: str) -> str | None:
        """Why an agent's certificate must be signed again, or None."""
        return needs_renewal(cert_pem, self.authority.cert_pem, (address,), time.time())


def has_authority(folder: Path) -> bool:
    """Whether the cluster has an authority, which may have signed already; here or elsewhere."""
    return (folder / CA_FILE).exists()


def load_control_identity(folder: Path) -> ControlIdentity | None:
    """The cluster's secrets, or None while they are not all there."""
    try:
        hub = {field: (folder / name).read_text() for field, name in _HUB_FILES.items()}
        return ControlIdentity(
            Authority((folder / CA_FILE).read_bytes(), (folder / _CA_KEY_FILE).read_bytes()),
            (folder / _GOSSIP_KEY_FILE).read_text(),
            HubSecrets(**hub),
        )
    except FileNotFoundError:
        return None


def create_gossip_key() -> str:
    """A new one, base64."""
    return base64.b64encode(secrets.token_bytes(_GOSSIP_KEY_BYTES)).decode()


def load_gossip_keys(folder: Path) -> GossipKeys:
    """The cluster's gossip keys, as its folder has them.

    Raises:
        IdentityError: There are none, or they are damaged.
    """
    path = folder / _GOSSIP_KEY_FILE
    hint = "only the machine whose folder of the cluster has it can replace it"
    try:
        return parse_gossip_keys(path.read_text())
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}", hint=hint) from error
    except msgspec.ValidationError as error:
        raise IdentityError(f"{path} is damaged", hint=hint) from error


def save_gossip_keys(folder: Path, keys: GossipKeys) -> None:
    """Keep these, before any member has them."""
    write_durably(folder / _GOSSIP_KEY_FILE, keys.text.encode())


def ensure_control_identity(
    folder: Path, cluster: str, create_hub: Callable[[str], HubSecrets]
) -> ControlIdentity:
    """The cluster's secrets, made if they are missing. An interrupted run's are completed.

    Raises:
        IdentityError: The CA's certificate is there without its key.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    authority = _ensure_authority(folder, cluster)
    _ensure_operator(folder, authority)
    gossip = folder / _GOSSIP_KEY_FILE
    if not gossip.exists():
        write_durably(gossip, f"{create_gossip_key()}\n".encode())
    if not all((folder / name).exists() for name in _HUB_FILES.values()):
        hub = create_hub(cluster)
        for field, name in _HUB_FILES.items():
            write_durably(folder / name, f"{getattr(hub, field).strip()}\n".encode())
    identity = load_control_identity(folder)
    assert identity is not None
    return identity


def _ensure_authority(folder: Path, cluster: str) -> Authority:
    certificate, key = folder / CA_FILE, folder / _CA_KEY_FILE
    if certificate.exists():
        if not key.exists():
            raise IdentityError(
                f"{key}: no such file, but {CA_FILE} is there",
                hint="restore it from a backup; without it no certificate can be signed",
            )
        return Authority(certificate.read_bytes(), key.read_bytes())
    # The key first: the certificate's presence says that both are whole.
    authority = create_authority(cluster)
    write_durably(key, authority.key_pem)
    write_durably(certificate, authority.cert_pem)
    return authority


def _ensure_operator(folder: Path, authority: Authority) -> None:
    certificate, key = folder / OPERATOR_CERTIFICATE_FILE, folder / OPERATOR_KEY_FILE
    if certificate.exists() and key.exists():
        renewal = needs_renewal(certificate.read_bytes(), authority.cert_pem, (), time.time())
        if renewal is None:
            return
    # The certificate last, and none while the key is being replaced.
    certificate.unlink(missing_ok=True)
    cert_pem, key_pem = create_operator(authority, _user())
    write_durably(key, key_pem)
    write_durably(certificate, cert_pem)


def _user() -> str:
    """Who makes it, for people; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"

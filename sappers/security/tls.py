"""Who this process is, who the other end of a TLS connection is, and the contexts between them.

Invariant: an identity comes from a certificate that the cluster's own authority signed. Its URI
name `sappers://<cluster>/<role>/<id>` says who it is; host names and addresses say nothing.

Only the standard library's TLS is used here: the raft process needs no more, and its memory counts.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import msgspec

from sappers.errors import FIT_OUT_AGAIN, IdentityError

Role = Literal["agent", "operator"]
# Every agent's certificate carries this name, for callers that do not know whom they will meet.
AGENT_SERVER_NAME = "agent.sappers"


class PeerIdentity(msgspec.Struct, frozen=True):
    """Who a certificate speaks for."""

    node_id: str
    role: Role
    cluster: str


class Identity(msgspec.Struct, frozen=True):
    """This process's own certificate: the three files, checked, and what they say.

    Attributes:
        ca: Certificate of the cluster's authority.
        cert: Certificate signed by it.
        key: Private key of `cert`; readable by its owner only.
    """

    ca: Path
    cert: Path
    key: Path
    node_id: str
    role: Role
    cluster: str


# Every context that lives, and whose it is: certificates are renewed in all of them at once.
_contexts: WeakKeyDictionary[ssl.SSLContext, Identity] = WeakKeyDictionary()


def server_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.3 for listeners; a client without a certificate of the cluster is refused."""
    context = _context(identity, ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.3 for callers; connect with `server_hostname` = "agent.sappers" or a node id."""
    return _context(identity, ssl.PROTOCOL_TLS_CLIENT)


def peer_identity(peer: ssl.SSLObject | ssl.SSLSocket | Mapping[str, Any]) -> PeerIdentity:
    """Who is at the other end: of a TLS object, or in what its `getpeercert()` returned.

    Raises:
        IdentityError: There is no verified certificate, or it names nobody.
    """
    certificate = (
        peer.getpeercert() if isinstance(peer, ssl.SSLObject | ssl.SSLSocket) else peer
    ) or {}
    names = cast(tuple[tuple[str, str], ...], certificate.get("subjectAltName", ()))
    return identity_in([value for kind, value in names if kind == "URI"], "the other end")


def renew_contexts() -> None:
    """Have every context of this process use what the certificate files hold now.

    Connections that are open go on; the next handshakes show the new certificate. An authority
    that was trusted stays so until the process ends.

    Raises:
        IdentityError: Files do not fit together; all contexts are as they were.
    """
    for identity in set(_contexts.values()):
        _load(
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), identity
        )  # a trial: it must not half succeed
    for context, identity in list(_contexts.items()):
        _load(context, identity)


def _context(identity: Identity, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(context, identity)
    _contexts[context] = identity
    return context


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    try:
        context.load_verify_locations(identity.ca)
        context.load_cert_chain(identity.cert, identity.key)
    except OSError as error:  # ssl.SSLError is one
        raise IdentityError(f"{identity.cert.parent}: {error}", hint=FIT_OUT_AGAIN) from error


def identity_in(uris: list[str], where: str) -> PeerIdentity:
    """Who the URI names of a verified certificate speak for.

    Raises:
        IdentityError: They name nobody; `where` says whose certificate it was.
    """
    for uri in uris:
        parts = urlsplit(uri)
        role, _, node_id = parts.path.removeprefix("/").partition("/")
        if parts.scheme == "sappers" and node_id and role in ("agent", "operator"):
            return PeerIdentity(node_id, cast(Role, role), parts.netloc)
    raise IdentityError(f"{where}: its certificate names no member or operator of a cluster")

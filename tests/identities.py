"""Throw-away clusters' identities, for tests of any room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sappers.security.authority import (
    Authority,
    create_authority,
    create_operator,
    create_request,
    sign_request,
)
from sappers.security.identity import load_identity
from sappers.security.tls import Identity


def make_cluster_identities(
    folder: Path,
    names: Sequence[str],
    *,
    cluster: str = "test",
    addresses: Sequence[str] = ("127.0.0.1",),
    authority: Authority | None = None,
) -> dict[str, Identity]:
    """An agent's identity for each name, signed by one authority, in `folder/<name>/pki`."""
    authority = authority or create_authority(cluster)
    return {name: make_identity(folder, name, authority, addresses) for name in names}


def make_identity(
    folder: Path, name: str, authority: Authority, addresses: Sequence[str] = ("127.0.0.1",)
) -> Identity:
    """An agent's identity in `folder/<name>/pki`."""
    key_pem, csr_pem = create_request(name)
    cert_pem = sign_request(
        authority, csr_pem, node_id=name, role="agent", addresses=addresses, days=1
    )
    return _write(folder / name / "pki", authority, cert_pem, key_pem)


def make_operator_identity(folder: Path, authority: Authority, name: str = "operator") -> Identity:
    """An operator's identity in `folder/<name>/pki`."""
    cert_pem, key_pem = create_operator(authority, name)
    return _write(folder / name / "pki", authority, cert_pem, key_pem)


def _write(pki: Path, authority: Authority, cert_pem: bytes, key_pem: bytes) -> Identity:
    pki.mkdir(parents=True, exist_ok=True)
    (pki / "ca.pem").write_bytes(authority.cert_pem)
    (pki / "cert.pem").write_bytes(cert_pem)
    (pki / "key.pem").touch(mode=0o600)
    (pki / "key.pem").write_bytes(key_pem)
    return load_identity(pki)

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from sappers.errors import IdentityError
from sappers.security.authority import create_authority
from sappers.security.identity import load_identity
from sappers.security.tls import (
    Identity,
    PeerIdentity,
    client_context,
    peer_identity,
    server_context,
)
from tests.identities import make_cluster_identities, make_operator_identity


async def shake_hands(server: Identity, client: Identity | None, name: str = "agent.sappers"):
    """Both ends' view of the other: (what the server saw, what the client saw)."""
    seen: asyncio.Queue[PeerIdentity] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(peer_identity(writer.get_extra_info("ssl_object")))
        writer.write(b"x")
        writer.close()

    context = client_context(client) if client else ssl.create_default_context(cafile=server.ca)
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(server))
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name
        )
        try:
            if await reader.read() != b"x":
                raise ConnectionError("refused")
            return await seen.get(), peer_identity(writer.get_extra_info("peercert"))
        finally:
            writer.close()


async def test_two_members_know_each_other(tmp_path: Path) -> None:
    ids = make_cluster_identities(tmp_path, ["a", "b"])
    seen = await shake_hands(ids["a"], ids["b"])
    assert seen == (PeerIdentity("b", "agent", "test"), PeerIdentity("a", "agent", "test"))
    await shake_hands(ids["a"], ids["b"], name="a")


async def test_an_operator_is_known_as_one(tmp_path: Path) -> None:
    authority = create_authority("test")
    ids = make_cluster_identities(tmp_path, ["a"], authority=authority)
    operator = make_operator_identity(tmp_path, authority)
    assert (await shake_hands(ids["a"], operator))[0] == PeerIdentity(
        "operator", "operator", "test"
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(operator, ids["a"])


async def test_strangers_are_refused_at_both_ends(tmp_path: Path) -> None:
    ours = make_cluster_identities(tmp_path / "ours", ["a"])["a"]
    theirs = make_cluster_identities(tmp_path / "theirs", ["a"])["a"]
    with pytest.raises(ssl.SSLError):
        await shake_hands(theirs, ours)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shake_hands(ours, None)
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(ours, ours, name="b")


def test_old_tls_is_off(tmp_path: Path) -> None:
    identity = make_cluster_identities(tmp_path, ["a"])["a"]
    for context in (server_context(identity), client_context(identity)):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert client_context(identity).check_hostname


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    pki = make_cluster_identities(tmp_path, ["a"])["a"].ca.parent
    (pki / name).write_bytes(b"\xff garbage")
    with pytest.raises(IdentityError, match=name):
        load_identity(pki)
    (pki / name).unlink()
    with pytest.raises(IdentityError, match=f"{name}: No such file"):
        load_identity(pki)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    identity = make_cluster_identities(tmp_path, ["a"])["a"]
    identity.key.chmod(0o644)
    with pytest.raises(IdentityError, match="mode 0644") as caught:
        load_identity(identity.key.parent)
    assert "chmod 600" in (caught.value.hint or "")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    ids = make_cluster_identities(tmp_path, ["a", "b"])
    other = make_cluster_identities(tmp_path / "other", ["a"])["a"]
    a = ids["a"].cert.parent
    key = ids["a"].key.read_bytes()
    ids["a"].key.write_bytes(ids["b"].key.read_bytes())
    with pytest.raises(IdentityError, match="not the key"):
        load_identity(a)
    ids["a"].key.write_bytes(key)
    ids["a"].ca.write_bytes(other.ca.read_bytes())
    with pytest.raises(IdentityError, match="did not sign it"):
        load_identity(a)


def test_a_certificate_that_names_nobody_is_refused() -> None:
    for certificate in ({}, {"subjectAltName": (("DNS", "a"), ("URI", "https://a/agent/b"))}):
        with pytest.raises(IdentityError):
            peer_identity(certificate)

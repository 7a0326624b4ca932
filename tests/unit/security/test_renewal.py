"""Certificates that are replaced while contexts are in use."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sappers.security.authority import create_authority
from sappers.security.renewal import Renewal
from sappers.security.tls import Identity, client_context, server_context
from tests.identities import make_cluster_identities


def shown_by(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[object, object]:
    """The serial numbers of both certificates, as the other side sees them."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    at_client = client.wrap_bio(to_client, to_server, server_hostname="agent.sappers")
    at_server = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [at_client, at_server, at_server]
    for _ in range(5):
        for end in waiting:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    seen = at_client.getpeercert(), at_server.getpeercert()
    return tuple(one["serialNumber"] for one in seen if one)  # type: ignore[return-value]


@pytest.fixture
def authority() -> object:
    return create_authority("test")


def make(folder: Path, authority: object, name: str = "a") -> Identity:
    return make_cluster_identities(folder, [name], authority=authority)[name]  # type: ignore[arg-type]


def test_the_next_handshake_shows_the_new_certificate(tmp_path: Path, authority: object) -> None:
    identity = make(tmp_path, authority)
    server, client = server_context(identity), client_context(identity)
    renewal = Renewal(identity)
    before = shown_by(server, client)
    assert not renewal.look()
    make(tmp_path, authority)
    assert renewal.look()
    after = shown_by(server, client)
    assert len(before) == len(after) == 2
    assert not set(before) & set(after)
    assert (renewal.count, renewal.look()) == (1, False)


@pytest.mark.parametrize("what", ["cert.pem", "key.pem", "another member", "another authority"])
def test_what_is_no_good_is_not_used(tmp_path: Path, authority: object, what: str) -> None:
    identity = make(tmp_path, authority)
    server, client = server_context(identity), client_context(identity)
    renewal = Renewal(identity)
    before = shown_by(server, client)
    if what == "another authority":
        other = make(tmp_path / "other", create_authority("test"))
        identity.cert.write_bytes(other.cert.read_bytes())
        identity.key.write_bytes(other.key.read_bytes())
    elif what == "another member":
        other = make(tmp_path / "other", authority, "b")
        identity.cert.write_bytes(other.cert.read_bytes())
        identity.key.write_bytes(other.key.read_bytes())
    else:  # only half of it is there yet
        other = make(tmp_path / "other", authority)
        (identity.cert.parent / what).write_bytes((other.cert.parent / what).read_bytes())
    assert not renewal.look()
    assert shown_by(server, client) == before

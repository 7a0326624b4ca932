from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from sappers.errors import IdentityError
from sappers.model.signed import Signed
from sappers.security.authority import create_authority
from sappers.security.messages import MessageSigner
from tests.identities import make_cluster_identities, make_operator_identity

DAY = 86400.0


def test_who_said_it_is_proven(tmp_path: Path) -> None:
    ids = make_cluster_identities(tmp_path, ["a", "b"])
    message = MessageSigner(ids["a"]).sign("s", b"word")
    assert MessageSigner(ids["b"]).open("s", message) == ("a", b"word")


def test_what_no_member_signed_for_the_subject_is_refused(tmp_path: Path) -> None:
    authority = create_authority("test")
    ids = make_cluster_identities(tmp_path, ["a", "b"], authority=authority)
    operator = make_operator_identity(tmp_path, authority)
    stranger = make_cluster_identities(tmp_path / "other", ["a"])["a"]
    a, b = MessageSigner(ids["a"]), MessageSigner(ids["b"])
    good = msgspec.msgpack.decode(a.sign("s", b"word"), type=Signed)
    certificate_of_b = msgspec.msgpack.decode(b.sign("s", b""), type=Signed).certificate
    for bad in (
        b"",
        b"word",
        b"\x84\xa4more" + b"\x91" * 100_000,
        a.sign("another", b"word"),
        MessageSigner(stranger).sign("s", b"word"),
        MessageSigner(operator).sign("s", b"word"),
        *(
            msgspec.msgpack.encode(msgspec.structs.replace(good, **change))
            for change in (
                {"body": b"other"},
                {"signature": b""},
                {"certificate": b"none"},
                {"certificate": certificate_of_b},
            )
        ),
    ):
        with pytest.raises(IdentityError):
            b.open("s", bad)


def test_a_certificate_is_good_for_its_time_only(tmp_path: Path) -> None:
    identity = make_cluster_identities(tmp_path, ["a"])["a"]
    message = MessageSigner(identity).sign("s", b"word")
    late = MessageSigner(identity, now=lambda: time.time() + 2 * DAY)
    with pytest.raises(IdentityError, match="not valid now"):
        late.open("s", message)


def test_a_renewed_certificate_is_used(tmp_path: Path) -> None:
    authority = create_authority("test")
    identity = make_cluster_identities(tmp_path, ["a"], authority=authority)["a"]
    renewals = 0
    signer = MessageSigner(identity, lambda: renewals)
    before = msgspec.msgpack.decode(signer.sign("s", b""), type=Signed)
    make_cluster_identities(tmp_path, ["a"], authority=authority)
    renewals = 1
    after = msgspec.msgpack.decode(signer.sign("s", b""), type=Signed)
    assert before.certificate != after.certificate
    assert signer.open("s", msgspec.msgpack.encode(after)) == ("a", b"")

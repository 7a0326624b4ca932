"""Signatures of images: only a trusted key's own signature of exactly this manifest counts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import IdentityError
from sappers.model.image import Signature, SignedManifest
from sappers.security.signing import (
    PURPOSE,
    SIGNATURES_MAX,
    SigningKey,
    load_or_create_signing_key,
    signers,
)

KEY = SigningKey(Ed25519PrivateKey.generate())
OTHER = SigningKey(Ed25519PrivateKey.generate())


def signed_by(*keys: SigningKey, manifest: bytes = b"{}") -> SignedManifest:
    return SignedManifest(manifest, tuple(key.sign(manifest) for key in keys))


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "image-signing.key"
    made = load_or_create_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_signing_key(path).public == made.public
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert made.public in repr(made) and len(repr(made)) < 100


def test_builds_that_begin_together_make_one_key(tmp_path: Path) -> None:
    begin = threading.Barrier(8)

    def build(_: int) -> str:
        begin.wait()
        return load_or_create_signing_key(tmp_path / "key").public

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(build, range(8)))) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    load_or_create_signing_key(path)
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="other users can reach") as refused:
        load_or_create_signing_key(path)
    assert "chmod 600" in (refused.value.hint or "")


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="not a PEM"):
        load_or_create_signing_key(path)
    assert path.read_bytes() == content


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="not an Ed25519 key"):
        load_or_create_signing_key(path)


def test_a_folder_in_the_place_of_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IdentityError):
        load_or_create_signing_key(tmp_path)


def is_signed(signed: SignedManifest, trusted: set[str]) -> bool:
    return not trusted.isdisjoint(signers(signed))


def test_only_trusted_keys_count() -> None:
    assert is_signed(signed_by(KEY), {KEY.public})
    assert is_signed(signed_by(OTHER, KEY), {KEY.public})
    assert not is_signed(signed_by(OTHER), {KEY.public})
    assert not is_signed(signed_by(KEY), set())
    assert not is_signed(signed_by(), {KEY.public})


def test_whoever_signed_is_known_before_being_trusted() -> None:
    forged = Signature(KEY.public, OTHER.sign(b"{}").value)
    signed = SignedManifest(b"{}", (forged, OTHER.sign(b"{}"), OTHER.sign(b"{}")))
    assert signers(signed) == (OTHER.public,)
    assert not is_signed(signed, {KEY.public})


def test_a_signature_of_the_bare_manifest_does_not_count() -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    for message, counts in ((b"{}", False), (PURPOSE + b"{}", True)):
        signed = SignedManifest(b"{}", (Signature(public, key.sign(message).hex()),))
        assert is_signed(signed, {public}) is counts


@pytest.mark.parametrize(
    "written",
    [
        Signature(KEY.public.upper(), KEY.sign(b"{}").value),
        Signature(KEY.public, KEY.sign(b"{}").value.upper()),
        Signature(KEY.public, KEY.sign(b"{}").value[:-2]),
        Signature("", ""),
        Signature("é" * 64, "é" * 128),
        Signature("00" * 32, "00" * 64),
    ],
)
def test_other_ways_to_write_a_signature_do_not_count(written: Signature) -> None:
    signed = SignedManifest(b"{}", (written,))
    assert signers(signed) == ()
    assert not is_signed(signed, {KEY.public, KEY.public.upper(), written.key})


def test_a_flood_of_signatures_is_not_worked_through() -> None:
    forged = Signature(OTHER.public, KEY.sign(b"{}").value)
    flood = SignedManifest(b"{}", (*[forged] * SIGNATURES_MAX, KEY.sign(b"{}")))
    assert signers(flood) == ()
    assert not is_signed(flood, {KEY.public})


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_changed_bit_is_refused(manifest: bytes, data: st.DataObject) -> None:
    signed = signed_by(KEY, manifest=manifest)
    assert is_signed(signed, {KEY.public})
    bit = data.draw(st.integers(0, 8 * len(manifest) - 1))
    changed = bytearray(manifest)
    changed[bit // 8] ^= 1 << bit % 8
    assert not is_signed(SignedManifest(bytes(changed), signed.signatures), {KEY.public})
    value = bytearray.fromhex(signed.signatures[0].value)
    value[data.draw(st.integers(0, 63))] ^= 1 << data.draw(st.integers(0, 7))
    other = SignedManifest(manifest, (Signature(KEY.public, value.hex()),))
    assert not is_signed(other, {KEY.public})

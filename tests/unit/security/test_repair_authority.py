from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    load_ssh_public_identity,
)

from sappers.errors import IdentityError
from sappers.model.repair import KnownAccess, RepairLogin
from sappers.security.repair_authority import (
    SealedRepairSigner,
    create_repair_authority,
    load_repair_authority,
    open_authority,
    renew_access,
    seal_authority,
    sign_repair_login,
)

SECRET = "SAAC a seed that every member has"


def public_key() -> str:
    key = Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_what_is_sealed_opens_with_the_same_secret_alone() -> None:
    authority = create_repair_authority()
    sealed = seal_authority(authority, SECRET)
    assert authority.private not in sealed.sealed
    assert open_authority(sealed, SECRET + "\n") == authority
    with pytest.raises(IdentityError, match="cannot be decrypted"):
        open_authority(sealed, "another")
    with pytest.raises(IdentityError, match="cannot be decrypted"):
        open_authority(msgspec.structs.replace(sealed, public="ssh-ed25519 AAAA"), SECRET)
    with pytest.raises(IdentityError, match="cannot be decrypted"):
        open_authority(msgspec.structs.replace(sealed, sealed=b""), SECRET)


def test_a_key_survives_its_file_and_a_damaged_one_is_told() -> None:
    authority = create_repair_authority()
    assert load_repair_authority(authority.private) == authority
    with pytest.raises(IdentityError, match="damaged"):
        load_repair_authority(b"nonsense")


def test_nothing_secret_shows() -> None:
    assert "PRIVATE" not in repr(create_repair_authority())


def test_a_certificate_is_for_one_host_for_minutes_and_for_commands_alone() -> None:
    sealed = seal_authority(create_repair_authority(), SECRET)
    line = SealedRepairSigner(SECRET).sign(
        sealed, public_key(), member_id="lab2-0a1b2c", key_id="repair-1/2", now=1000.0, until=1240.0
    )
    certificate = load_ssh_public_identity(line.encode())
    assert isinstance(certificate, SSHCertificate)
    certificate.verify_cert_signature()
    assert certificate.valid_principals == [b"sappers-repair-lab2-0a1b2c"]
    assert (certificate.valid_after, certificate.valid_before) == (940, 1240)
    assert certificate.key_id == b"repair-1/2"
    assert (certificate.extensions, certificate.critical_options) == ({}, {})


def test_only_ed25519_keys_get_one() -> None:
    sealed = seal_authority(create_repair_authority(), SECRET)
    for wrong in ("", "ssh-ed25519 nonsense", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ=="):
        with pytest.raises(IdentityError):
            SealedRepairSigner(SECRET).sign(
                sealed, wrong, member_id="m1", key_id="x", now=0.0, until=1.0
            )


def test_only_what_the_authority_signed_passes() -> None:
    authority, other = create_repair_authority(), create_repair_authority()
    login = RepairLogin("m2", 22, "root", become=False, host_keys=("ssh-ed25519 AAAB",))
    signed = sign_repair_login(authority, login)
    key = seal_authority(authority, "seed", ("b" * 64, "a" * 64))
    signer = SealedRepairSigner("seed\n")
    signer.check(key, (signed,))
    assert key.image_keys == ("a" * 64, "b" * 64)
    for wrong, what in (
        (login, "m2"),
        (sign_repair_login(other, login), "m2"),
        (msgspec.structs.replace(signed, user="other"), "m2"),
        (msgspec.structs.replace(signed, signature="zz"), "m2"),
    ):
        with pytest.raises(IdentityError, match=f"log in to {what} is not signed"):
            signer.check(key, (signed, wrong))
    with pytest.raises(IdentityError, match="whose images healers may be is not signed"):
        signer.check(msgspec.structs.replace(key, image_keys=("c" * 64,)), (signed,))
    with pytest.raises(IdentityError, match="cannot be decrypted"):
        SealedRepairSigner("another").check(key, (signed,))


def test_statements_of_versions_without_numbers_are_what_they_were() -> None:
    login = RepairLogin("m2", 22, "root", become=False, host_keys=("ssh-ed25519 AAAB",))
    assert login.statement() == (
        b'sappers repair login v1\n{"member_id":"m2","port":22,"user":"root","become":false,'
        b'"host_keys":["ssh-ed25519 AAAB"],"start":[],"signature":""}'
    )
    key = seal_authority(create_repair_authority(), SECRET, ("a", "b"))
    assert key.statement() == b'sappers healers\' images v1\n["a","b"]'


def test_a_number_is_of_what_is_signed() -> None:
    authority = create_repair_authority()
    login = RepairLogin("m2", 22, "root", become=False, host_keys=(), number=7)
    signed, key = sign_repair_login(authority, login), seal_authority(authority, SECRET, (), 7)
    signer = SealedRepairSigner(SECRET)
    signer.check(key, (signed,))
    for number in (0, 8):
        with pytest.raises(IdentityError, match="not signed"):
            signer.check(key, (msgspec.structs.replace(signed, number=number),))
        with pytest.raises(IdentityError, match="not signed"):
            signer.check(msgspec.structs.replace(key, number=number), ())


def test_a_cluster_is_given_what_it_lacks_with_numbers_that_rise() -> None:
    authority, now = create_repair_authority(), 1_800_000_000.5
    login = RepairLogin("m2", 22, "root", become=False, host_keys=())

    def given(known: KnownAccess, login: RepairLogin, at: float = now) -> KnownAccess:
        renewed = renew_access(authority, SECRET, (login,), ("a",), known, at)
        assert renewed is not None
        key, logins = renewed
        SealedRepairSigner(SECRET).check(key, logins)
        return KnownAccess(key.public, logins, key.image_keys, key.number)

    first = given(KnownAccess("", (), ()), login)
    assert (first.number, first.logins[0].number) == (1_800_000_000, 1_800_000_000)
    assert renew_access(authority, SECRET, (login,), ("a",), first, now + 60) is None
    changed = given(first, msgspec.structs.replace(login, port=2222), at=now - 3600)
    assert (changed.number, changed.logins[0].number) == (1_800_000_000, 1_800_000_001)
    forged = msgspec.structs.replace(first.logins[0], user="other")
    mended = given(msgspec.structs.replace(first, logins=(forged,)), login)
    assert mended.logins[0].number == 1_800_000_001
    unnumbered = sign_repair_login(authority, login)
    of_before = KnownAccess(authority.public, (unnumbered,), ("a",))
    assert given(of_before, login) == first

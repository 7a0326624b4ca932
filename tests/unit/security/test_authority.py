from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sappers.errors import IdentityError
from sappers.security.authority import (
    Authority,
    create_authority,
    create_operator,
    create_request,
    needs_renewal,
    sign_request,
)

DAY = 86400.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority("lab")


def signed(authority: Authority, csr: bytes, **changes: object) -> x509.Certificate:
    arguments: dict = {"node_id": "n1", "role": "agent", "addresses": ("10.0.0.1",), "days": 30}
    return x509.load_pem_x509_certificate(sign_request(authority, csr, **(arguments | changes)))


def names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_a_signed_certificate_says_who_it_is_and_cannot_sign(authority: Authority) -> None:
    _, csr = create_request("whatever the host writes")
    certificate = signed(authority, csr)
    assert names(certificate).get_values_for_type(x509.DNSName) == ["n1", "agent.sappers"]
    assert [str(ip) for ip in names(certificate).get_values_for_type(x509.IPAddress)] == [
        "10.0.0.1"
    ]
    assert names(certificate).get_values_for_type(x509.UniformResourceIdentifier) == [
        "sappers://lab/agent/n1"
    ]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca


def test_an_operator_does_not_pass_for_a_server(authority: Authority) -> None:
    cert_pem, _ = create_operator(authority, "ann")
    certificate = x509.load_pem_x509_certificate(cert_pem)
    assert names(certificate).get_values_for_type(x509.DNSName) == ["ann"]


def test_what_a_request_asks_for_beyond_its_key_is_ignored(
    authority: Authority, tmp_path: Path
) -> None:
    key, csr = tmp_path / "key.pem", tmp_path / "csr.pem"
    subprocess.run(
        shlex.split(
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
            " -keyout key.pem -out csr.pem -subj /CN=root"
            " -addext basicConstraints=critical,CA:TRUE"
            " -addext subjectAltName=DNS:agent.sappers,URI:sappers://lab/operator/root"
        ),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    certificate = signed(authority, csr.read_bytes(), role="agent")
    assert names(certificate).get_values_for_type(x509.UniformResourceIdentifier) == [
        "sappers://lab/agent/n1"
    ]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    own = serialization.load_pem_private_key(key.read_bytes(), None).public_key()
    assert own == certificate.public_key()


def test_openssl_accepts_the_chain(authority: Authority, tmp_path: Path) -> None:
    _, csr = create_request("n1")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem)
    (tmp_path / "cert.pem").write_bytes(
        sign_request(authority, csr, node_id="n1", role="agent", addresses=(), days=1)
    )
    subprocess.run(
        shlex.split(
            "openssl verify -x509_strict -CAfile ca.pem -verify_hostname agent.sappers"
            " -purpose sslserver cert.pem"
        ),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )


def test_a_request_with_a_broken_signature_is_refused(authority: Authority) -> None:
    _, csr = create_request("n1")
    der = bytearray(x509.load_pem_x509_csr(csr).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    try:
        bad = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    except ValueError:
        bad = b"broken"
    with pytest.raises(IdentityError):
        signed(authority, bad)


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 100, b"-----BEGIN CERTIFICATE REQUEST-----\n"])
def test_garbage_is_refused(authority: Authority, garbage: bytes) -> None:
    with pytest.raises(IdentityError, match="n1"):
        signed(authority, garbage)


def test_a_key_of_another_kind_is_refused(authority: Authority) -> None:
    key = rsa.generate_private_key(65537, 2048)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pem = csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(IdentityError, match="wrong kind"):
        signed(authority, pem)


def test_an_address_that_is_none_is_refused(authority: Authority) -> None:
    _, csr = create_request("n1")
    with pytest.raises(IdentityError, match="no IP address"):
        signed(authority, csr, addresses=("host1",))
    pem = sign_request(authority, csr, node_id="n1", role="agent", addresses=(), days=90)
    with pytest.raises(IdentityError, match="no IP address"):
        needs_renewal(pem, authority.cert_pem, ("host1",), time.time())


def test_when_a_certificate_needs_renewal(authority: Authority) -> None:
    _, csr = create_request("n1")
    pem = sign_request(authority, csr, node_id="n1", role="agent", addresses=("10.0.0.1",), days=90)
    now = time.time()
    ca = authority.cert_pem
    assert needs_renewal(pem, ca, ("10.0.0.1",), now) is None
    assert needs_renewal(pem, ca, (), now) is None
    assert "10.0.0.2" in (needs_renewal(pem, ca, ("10.0.0.1", "10.0.0.2"), now) or "")
    assert "expires on" in (needs_renewal(pem, ca, (), now + 70 * DAY) or "")
    assert "expired on" in (needs_renewal(pem, ca, (), now + 91 * DAY) or "")
    assert needs_renewal(pem, create_authority("lab").cert_pem, (), now) is not None
    assert needs_renewal(b"garbage", ca, (), now) is not None


def test_the_authority_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(create_authority("lab"))

"""The cluster's certificate authority: lives on the control machine, signs hosts' requests.

Invariant: of a request only the public key is believed. Names, addresses, role and validity are
the signer's word, so a host cannot ask for more than it is given, and no certificate signed here
can sign another.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sappers.errors import IdentityError
from sappers.security.tls import AGENT_SERVER_NAME, Role

AUTHORITY_DAYS = 3650
AGENT_DAYS = 825
OPERATOR_DAYS = 365

# Hosts whose clock is a little behind must not refuse a certificate made just now.
_BACKDATE = timedelta(days=1)

_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Authority(msgspec.Struct, frozen=True):
    """A cluster's CA; `key_pem` never leaves the control machine."""

    cert_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return "Authority(…)"


def create_authority(cluster_name: str) -> Authority:
    """A new ECDSA P-256 authority named after the cluster, valid for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(cluster_name)
    builder = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def authority_name(authority: Authority) -> str:
    """The name that an authority was made under: its cluster's.

    Raises:
        IdentityError: Its certificate cannot be read.
    """
    return _common_name(_load_certificate(authority.cert_pem, "the authority's certificate"))


def create_request(node_id: str) -> tuple[bytes, bytes]:
    """A new P-256 key and a request for it, `(key_pem, csr_pem)`; the name in it is a courtesy."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(node_id))
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM)


def sign_request(
    authority: Authority,
    csr_pem: bytes,
    *,
    node_id: str,
    role: Role,
    addresses: Sequence[str],
    days: int = AGENT_DAYS,
) -> bytes:
    """A certificate (PEM) for the public key of a request.

    Raises:
        IdentityError: The request is damaged, not signed by its own key, or its key is no P-256
            or P-384 key; or an address is none.
    """
    ca = _load_certificate(authority.cert_pem, "the authority's certificate")
    names = _alternative_names(_common_name(ca), node_id, role, addresses)
    return _sign(authority, csr_pem, node_id, names, days)


def sign_service_request(
    authority: Authority, csr_pem: bytes, *, node_id: str, names: Sequence[str]
) -> bytes:
    """A certificate (PEM) for another program on a member's host, by the DNS names that it serves.

    It speaks for no member and no operator: Sappers' own listeners refuse it.

    Raises:
        IdentityError: As `sign_request`.
    """
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    return _sign(authority, csr_pem, node_id, alternative, AGENT_DAYS)


def _sign(
    authority: Authority,
    csr_pem: bytes,
    node_id: str,
    names: x509.SubjectAlternativeName,
    days: int,
) -> bytes:
    public_key = _requested_key(csr_pem, node_id)
    ca = _load_certificate(authority.cert_pem, "the authority's certificate")
    ca_key = _authority_key(authority)
    builder = (
        _builder(_name(node_id), ca.subject, public_key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def create_operator(authority: Authority, name: str) -> tuple[bytes, bytes]:
    """An operator's `(cert_pem, key_pem)`, valid for a year; serves as a client only."""
    key_pem, csr_pem = create_request(name)
    cert_pem = sign_request(
        authority, csr_pem, node_id=name, role="operator", addresses=(), days=OPERATOR_DAYS
    )
    return cert_pem, key_pem


def needs_renewal(
    cert_pem: bytes,
    ca_pem: bytes,
    addresses: Sequence[str],
    now: float,
    *,
    names: Sequence[str] | None = None,
) -> str | None:
    """Why a certificate must be signed again (`now` is Unix time), or None while it is good.

    Args:
        names: All the DNS names that it must have, and no other; None: any will do.

    Raises:
        IdentityError: One of `addresses` is no IP address.
    """
    try:
        certificate = _load_certificate(cert_pem, "the certificate")
        ca = _load_certificate(ca_pem, "the authority's certificate")
        certificate.verify_directly_issued_by(ca)
    except IdentityError as error:
        return error.message
    except (InvalidSignature, TypeError, ValueError):
        return "another authority signed it"
    time = datetime.fromtimestamp(now, UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if time >= end:
        return f"it expired on {end:%Y-%m-%d}"
    if time > end - (end - begin) / 3:
        return f"it expires on {end:%Y-%m-%d}"
    missing = {_ip(address) for address in addresses} - set(_ips(certificate))
    if missing:
        return f"it does not name {', '.join(sorted(map(str, missing)))}"
    if names is not None and set(names) != set(_dns_names(certificate)):
        return f"it is not for {', '.join(names)}"
    return None


def _requested_key(csr_pem: bytes, node_id: str) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        proven = request.is_signature_valid
        key = request.public_key()
    except Exception as error:  # the parser raises many kinds on hostile input
        raise IdentityError(f"{node_id}: its certificate request cannot be read") from error
    if not proven:
        raise IdentityError(f"{node_id}: its certificate request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1
    ):
        raise IdentityError(
            f"{node_id}: its key is of the wrong kind", hint="make an ECDSA P-256 key (prime256v1)"
        )
    return key


def _alternative_names(
    cluster: str, node_id: str, role: Role, addresses: Sequence[str]
) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [
        x509.DNSName(node_id),
        x509.UniformResourceIdentifier(f"sappers://{cluster}/{role}/{node_id}"),
    ]
    if role == "agent":  # an operator's certificate must not pass for a server
        names.append(x509.DNSName(AGENT_SERVER_NAME))
    names.extend(x509.IPAddress(_ip(address)) for address in dict.fromkeys(addresses))
    return x509.SubjectAlternativeName(names)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _common_name(certificate: x509.Certificate) -> str:
    return cast(str, certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _ip(address: str) -> _IpAddress:
    try:
        return ipaddress.ip_address(address)
    except ValueError as error:
        raise IdentityError(f"{address!r} is no IP address") from error


def _ips(certificate: x509.Certificate) -> list[_IpAddress]:
    names = _names_in(certificate)
    return [
        address
        for address in (names.get_values_for_type(x509.IPAddress) if names else ())
        if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    ]


def _dns_names(certificate: x509.Certificate) -> list[str]:
    names = _names_in(certificate)
    return names.get_values_for_type(x509.DNSName) if names else []


def _names_in(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _load_certificate(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise IdentityError(f"{what} cannot be read") from error


def _authority_key(authority: Authority) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(authority.key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError("the authority's key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError("the authority's key is no elliptic-curve key")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

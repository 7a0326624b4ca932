"""Whether whoever shows a member's certificate holds its key. Certificates are no secret; keys are.

A request for a certificate proves it: the key itself signs it, and its subject is what was asked
for just now. So nothing that was overheard, or signed for another purpose, passes for one.
"""

from __future__ import annotations

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from sappers.errors import IdentityError
from sappers.security.identity import uris_of
from sappers.security.tls import PeerIdentity, identity_in

_FORM = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class Possession(msgspec.Struct, frozen=True):
    """What somebody shows (PEM): a certificate, and a request by its key."""

    certificate: bytes
    request: bytes


def check_possession(
    authority_pem: bytes, shown: Possession, member: PeerIdentity, challenge: str
) -> None:
    """Check that the certificate, expired or not, is the member's, and the request by its key.

    Args:
        challenge: The common name that the request must have.

    Raises:
        IdentityError: It is not; says why.
    """
    certificate = _certificate(shown.certificate, authority_pem)
    if identity_in(uris_of(certificate), "what it has") != member:
        raise IdentityError("its certificate is for somebody else")
    try:
        request = x509.load_pem_x509_csr(shown.request)
        is_signed = request.is_signature_valid
        subject = request.subject.rfc4514_string()
        key = request.public_key().public_bytes(*_FORM)
    except Exception as error:  # the parser raises many kinds on hostile input
        raise IdentityError("it has no key that signs") from error
    if not is_signed or subject != f"CN={challenge}":
        raise IdentityError("it did not sign what it was asked to")
    if key != certificate.public_key().public_bytes(*_FORM):
        raise IdentityError("its key is not that of its certificate")


def _certificate(pem: bytes, authority_pem: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise IdentityError("it has no certificate") from error
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem))
    except (InvalidSignature, TypeError, ValueError) as error:
        raise IdentityError("another authority signed its certificate") from error
    return certificate

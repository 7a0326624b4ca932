"""Signed messages: a member's certificate proves who said what the hub brings.

Invariant: what is signed begins with what it is (`PURPOSE`) and the subject, so that a signature is
good for that subject alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sappers.errors import FIT_OUT_AGAIN, IdentityError
from sappers.model.known_types import UNREADABLE, learn
from sappers.model.signed import Signed
from sappers.security.identity import read_certificate, uris_of
from sappers.security.tls import Identity, identity_in

PURPOSE = b"sappers message v1\n"

_ALGORITHM = ec.ECDSA(hashes.SHA256())
_CERTIFICATES_KEPT = 64


class MessageSigner:
    """Satisfies `ports.SignedMessages`, with this process's certificate.

    Args:
        renewals: How many times the certificate's files were replaced; they are read anew then.
    """

    def __init__(
        self,
        identity: Identity,
        renewals: Callable[[], int] = lambda: 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._identity = identity
        self._renewals = renewals
        self._now = now
        self._read()

    def sign(self, subject: str, body: bytes) -> bytes:
        """The message that says a body under a subject."""
        self._renew()
        signature = self._key.sign(_signed(subject, body), _ALGORITHM)
        return msgspec.msgpack.encode(Signed(body, self._certificate, signature))

    def open(self, subject: str, message: bytes) -> tuple[str, bytes]:
        """The member that said it, and what.

        Raises:
            IdentityError: It is no message, or no member of the cluster signed it for this subject.
        """
        self._renew()
        try:
            signed = msgspec.msgpack.decode(message, type=learn(Signed))
            certificate = self._known.get(signed.certificate) or self._check(signed.certificate)
            key = certificate.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise IdentityError("a message's certificate has a key of another kind")
            key.verify(signed.signature, _signed(subject, signed.body), _ALGORITHM)
        except (*UNREADABLE, InvalidSignature, TypeError, ValueError) as error:
            raise IdentityError("no member of the cluster signed a message") from error
        valid = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not valid[0].timestamp() <= self._now() < valid[1].timestamp():
            raise IdentityError("the certificate that a message was signed with is not valid now")
        who = identity_in(uris_of(certificate), "a message")
        if (who.role, who.cluster) != ("agent", self._identity.cluster):
            raise IdentityError(f"a message was signed by {who.role} {who.node_id}, no member")
        return who.node_id, signed.body

    def _check(self, der: bytes) -> x509.Certificate:
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(self._ca)
        if len(self._known) >= _CERTIFICATES_KEPT:
            self._known.clear()
        self._known[der] = certificate
        return certificate

    def _renew(self) -> None:
        if self._renewals() != self._read_at:
            self._read()

    def _read(self) -> None:
        self._read_at = self._renewals()
        mine = self._identity
        certificate = read_certificate(mine.cert)
        key = serialization.load_pem_private_key(mine.key.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise IdentityError(f"{mine.key}: not an elliptic curve's key", hint=FIT_OUT_AGAIN)
        self._key = key
        self._certificate = certificate.public_bytes(serialization.Encoding.DER)
        self._ca = read_certificate(mine.ca)
        self._known: dict[bytes, x509.Certificate] = {}


def _signed(subject: str, body: bytes) -> bytes:
    return PURPOSE + subject.encode() + b"\n" + body

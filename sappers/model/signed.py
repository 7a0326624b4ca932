"""A signed message: what a member says where the way it came does not prove who said it."""

from __future__ import annotations

import msgspec


class Signed(msgspec.Struct, frozen=True):
    """Travels over the hub as msgpack.

    Attributes:
        body: What is said.
        certificate: Of the member that says it, DER.
        signature: Of its subject and body, by the key of the certificate.
    """

    body: bytes
    certificate: bytes
    signature: bytes

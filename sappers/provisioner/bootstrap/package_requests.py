"""What a host may ask of the packages' proxy: files of a Debian archive, and nothing else.

The tunnel to the proxy is open to every user of the host while packages are installed. Without
this, they could have the control machine fetch whatever it reaches, its cloud's metadata among it.
"""

from __future__ import annotations

import re

HEAD_BYTES_MAX = 16 * 1024
_END = b"\r\n\r\n"
# As apt asks a proxy: an absolute URL, without user or port, below a `dists` or `pool` folder.
_REQUEST = re.compile(
    rb"(?:GET|HEAD) http://[A-Za-z0-9.-]+(?::80)?(?:/[\w.+~%:-]+)*/(?:dists|pool)/[\w.+~%:/-]+"
    rb" HTTP/1\.[01]"
)
_BODY = re.compile(rb"\r\n(?:content-length|transfer-encoding|upgrade)[ \t]*:", re.IGNORECASE)
REFUSAL = (
    b"HTTP/1.1 403 only files of a Debian archive are fetched (dists and pool)\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)


class RequestRefused(ValueError):
    """The bytes are no request for a file of a Debian archive."""


class PackageRequests:
    """Passes whole request heads on; one a connection."""

    def __init__(self) -> None:
        self._held = b""

    def admit(self, data: bytes) -> bytes:
        """What may go on of all that came so far.

        Raises:
            RequestRefused: The connection must end.
        """
        self._held += data
        admitted = b""
        while _END in self._held:
            head, self._held = self._held.split(_END, 1)
            if not is_package_request(head):
                raise RequestRefused
            admitted += head + _END
        if len(self._held) > HEAD_BYTES_MAX:
            raise RequestRefused
        return admitted


def is_package_request(head: bytes) -> bool:
    """Whether a request's head, without its empty line, asks for a file of a Debian archive."""
    line = head.split(b"\r\n", 1)[0]
    return (
        _REQUEST.fullmatch(line) is not None
        and b"/../" not in line
        and b"%2e" not in line.lower()
        and b"\n" not in head.replace(b"\r\n", b"")
        and _BODY.search(head) is None
    )

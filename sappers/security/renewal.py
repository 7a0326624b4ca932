"""Renewal: certificates that are replaced on disk are used without a restart."""

from __future__ import annotations

from pathlib import Path

import structlog

from sappers.errors import IdentityError
from sappers.security.identity import load_identity
from sappers.security.tls import Identity, renew_contexts

_log = structlog.get_logger(__name__)


class Renewal:
    """Looks at this process's certificate files now and then.

    Attributes:
        count: How many times they were replaced by others that are good.
    """

    def __init__(self, identity: Identity) -> None:
        self.count = 0
        self._identity = identity
        self._seen = self._signature()

    def look(self) -> bool:
        """Use what is new; whether there was anything. Files that are no good are not used."""
        now = self._signature()
        if now == self._seen:
            return False
        self._seen = now
        try:
            self._check()
            renew_contexts()
        except IdentityError as error:
            _log.error("new certificate not used", reason=error.message, hint=error.hint)
            return False
        self.count += 1
        _log.info("certificate renewed")
        return True

    def _check(self) -> None:
        mine = self._identity
        new = load_identity(mine.cert.parent, cert=mine.cert.name, key=mine.key.name)
        if (new.node_id, new.role, new.cluster) != (mine.node_id, mine.role, mine.cluster):
            raise IdentityError(
                f"{mine.cert} is {new.role} {new.node_id} of {new.cluster}: another one's",
                hint=f"put the certificate of {mine.node_id} there",
            )

    def _signature(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(
            _look_at(path) for path in (self._identity.ca, self._identity.cert, self._identity.key)
        )


def _look_at(path: Path) -> tuple[int, int, int]:
    try:
        seen = path.stat()
    except OSError:
        return (0, 0, 0)
    return (seen.st_mtime_ns, seen.st_size, seen.st_ino)

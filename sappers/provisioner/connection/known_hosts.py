"""Known host keys: read as OpenSSH reads them, and judged with a reason."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec


class Verdict(Enum):
    """What the files say of a key that a host shows."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    OTHER_KIND = "other kind"
    CHANGED = "changed"
    REVOKED = "revoked"


class KnownKey(msgspec.Struct, frozen=True):
    """One line of a known_hosts file that is about the host in question."""

    path: Path
    line: int
    kind: str
    key: str
    revoked: bool


def lookup_name(address: str, port: int) -> str:
    """What a host is called in known_hosts."""
    return address if port == 22 else f"[{address}]:{port}"


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def keys_for(name: str, paths: Iterable[Path]) -> tuple[KnownKey, ...]:
    """Keys that the files hold for a host; files that are missing hold none."""
    found: list[KnownKey] = []
    for path in paths:
        try:
            lines = path.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, start=1):
            words = line.split()
            marker = words.pop(0) if words and words[0].startswith("@") else ""
            if len(words) < 3 or words[0].startswith("#") or marker == "@cert-authority":
                continue
            if _names_match(words[0], name):
                found.append(KnownKey(path, number, words[1], words[2], marker == "@revoked"))
    return tuple(found)


def _names_match(field: str, name: str) -> bool:
    if field.startswith("|1|"):
        return _hash_matches(field, name)
    matched = False
    for pattern in field.lower().split(","):
        # Brackets are literal here: they hold an address that has a port.
        glob = pattern.lstrip("!").replace("[", "[[]")
        if fnmatchcase(name.lower(), glob):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _hash_matches(field: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in field.split("|")[2:4])
    except ValueError:
        return False
    # OpenSSH hashes names with HMAC-SHA1.
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def judge(known: Iterable[KnownKey], kind: str, key: bytes) -> Verdict:
    """What the known keys of a host say of the key it shows.

    A kind that is not on file, of a host that has keys of others there, is not just unknown: who
    sits in between shows that kind to be taken for new.
    """
    text = base64.b64encode(key).decode()
    same = [entry for entry in known if entry.key == text]
    if any(entry.revoked for entry in same):
        return Verdict.REVOKED
    if same:
        return Verdict.KNOWN
    kinds = kinds_of(known)
    if kind in kinds:
        return Verdict.CHANGED
    return Verdict.OTHER_KIND if kinds else Verdict.UNKNOWN


def kinds_of(known: Iterable[KnownKey]) -> frozenset[str]:
    """The kinds of keys that a host may show."""
    return frozenset(entry.kind for entry in known if not entry.revoked)


def remember(path: Path, name: str, kind: str, key: bytes) -> None:
    """Add a key at the end of a file, which is made if missing.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{name} {kind} {base64.b64encode(key).decode()}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line)  # one call: hosts are met in parallel
    finally:
        os.close(descriptor)

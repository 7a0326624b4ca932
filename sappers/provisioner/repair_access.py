"""What lets healers log in to a host: one line of a user's `authorized_keys`, ours alone. Pure."""

from __future__ import annotations

from sappers.security.repair_authority import principal_of

MARK = "sappers-repair"  # the line's comment; nobody else's line ends so


def access_line(public: str, member_id: str) -> str:
    """Let in who shows a certificate of this authority for this member; to run commands only."""
    return f'cert-authority,principals="{principal_of(member_id)}",restrict {public} {MARK}'


def with_access(content: bytes, line: str) -> bytes:
    """The file with just this line of ours; every other byte stays as it is."""
    others = without_access(content)
    if others and not others.endswith(b"\n"):
        others += b"\n"
    return others + line.encode() + b"\n"


def without_access(content: bytes) -> bytes:
    """The file without our lines."""
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if not _is_ours(line))


def _is_ours(line: bytes) -> bool:
    return line.startswith(b"cert-authority,") and line.split()[-1:] == [MARK.encode()]

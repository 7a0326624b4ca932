"""What lets healers log in to a host: one line of a user's `authorized_keys`, ours alone. Pure."""

from __future__ import annotations

from sappers.security.repair_authority import principal_of

MARK = "sappers-repair"  # the line's comment; nobody else's line ends so


def access_line(public: str, member_id: str) -> str:
    """Let in who shows a certificate of this authority for this member; to run commands only."""
    return f'cert-authority,principals="{principal_of(member_id)}",restrict {public} {MARK}'


def with_member_access(content: bytes, line: str, member_id: str) -> bytes:
    """The file with this line as the only one of ours for a member; every other byte stays.

    Args:
        line: `access_line` for that member.
    """
    wanted, principal = line.encode(), f'principals="{principal_of(member_id)}"'.encode()
    kept: list[bytes] = []
    for one in content.splitlines(keepends=True):
        is_this_members = _is_ours(one) and principal in one
        if not is_this_members or one.rstrip(b"\r\n") == wanted:
            kept.append(one)
    others = b"".join(kept)
    if wanted in others.splitlines():
        return others
    if others and not others.endswith(b"\n"):
        others += b"\n"
    return others + wanted + b"\n"


def _is_ours(line: bytes) -> bool:
    return line.startswith(b"cert-authority,") and line.split()[-1:] == [MARK.encode()]

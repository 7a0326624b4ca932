"""How a command ends: one exit code per kind of trouble, the same for every command."""

from __future__ import annotations

from enum import IntEnum

from sappers.errors import (
    HostError,
    HostUnreachable,
    MemberUnreachable,
    NoQuorum,
    SappersError,
)


class ExitCode(IntEnum):
    """What the shell is told. 2 and 4 mean what they mean to Ansible, 64 what sysexits says."""

    OK = 0
    ERROR = 1
    HOST_FAILED = 2
    UNREACHABLE = 4
    NO_QUORUM = 5
    USAGE = 64
    INTERRUPTED = 130


_BY_CAUSE: tuple[tuple[type[SappersError], ExitCode], ...] = (
    (HostUnreachable, ExitCode.UNREACHABLE),
    (HostError, ExitCode.HOST_FAILED),
    (MemberUnreachable, ExitCode.UNREACHABLE),
    (NoQuorum, ExitCode.NO_QUORUM),
)


def exit_code_for(error: SappersError) -> ExitCode:
    """The exit code that an error ends a command with."""
    return next((code for cause, code in _BY_CAUSE if isinstance(error, cause)), ExitCode.ERROR)

"""The OpenSSH arguments that an inventory may pass in `ansible_ssh_common_args`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

SUPPORTED = (
    "-J, -i, -l, -p and -o with ConnectTimeout, IdentityFile, Port, ProxyCommand, ProxyJump, "
    "StrictHostKeyChecking, User, UserKnownHostsFile"
)
# How OpenSSH's own client works, what it says, in which order it tries to log in: no matter here.
_NO_MATTER_FLAGS = frozenset(("-C", "-T", "-a", "-k", "-q", "-v", "-vv", "-vvv", "-x"))
_NO_MATTER = frozenset((
    *("addkeystoagent", "batchmode", "challengeresponseauthentication", "checkhostip"),
    *("compression", "connectionattempts", "controlmaster", "controlpath", "controlpersist"),
    *("forwardx11", "gssapiauthentication", "gssapidelegatecredentials", "hashknownhosts"),
    *("identitiesonly", "kbdinteractiveauthentication", "loglevel", "numberofpasswordprompts"),
    *("passwordauthentication", "preferredauthentications", "pubkeyauthentication", "requesttty"),
    *("serveralivecountmax", "serveraliveinterval", "tcpkeepalive", "updatehostkeys"),
    "visualhostkey",
))  # fmt: skip
_SETTING = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)", re.DOTALL)


class SshOptions(msgspec.Struct, frozen=True):
    """What `ansible_ssh_common_args` and `ansible_ssh_extra_args` ask of SSH; None: not said.

    Attributes:
        proxy_command: What to run for bytes to and from the host; with `%h`, `%p`, `%r`, `%n`.
        host_key_checking: `yes`, or `accept-new` (an unknown key is remembered, a changed refused).
    """

    user_known_hosts_files: tuple[Path, ...] = ()
    identity_files: tuple[Path, ...] = ()
    proxy_jump: str | None = None
    proxy_command: str | None = None
    host_key_checking: str | None = None
    connect_timeout_seconds: float | None = None
    port: int | None = None
    user: str | None = None


def parse_ssh_args(text: str) -> SshOptions:
    """Read OpenSSH command line arguments; of an option given twice the first counts.

    Raises:
        ValueError: An argument is malformed or not supported; says what is.
    """
    found: dict[str, Any] = {}
    words = iter(shlex.split(text))
    for word in words:
        if word in _NO_MATTER_FLAGS:
            continue
        name, value = _option(word, words)
        if name in _NO_MATTER:
            continue
        if name not in _READERS:
            raise ValueError(f"`{name or word}` is not supported; supported are {SUPPORTED}")
        field, read = _READERS[name]
        if field == "identity_files":
            found[field] = (*found.get(field, ()), *read(value))
        else:
            found.setdefault(field, read(value))
    return SshOptions(**found)


def _option(word: str, words: Iterator[str]) -> tuple[str, str]:
    """Its name, of `-o` in small letters, and its value."""
    name, value = word[:2], word[2:]
    if name not in ("-o", "-J", "-i", "-l", "-p"):
        return "", ""
    value = value or next(words, "")
    if name == "-o":
        setting = _SETTING.fullmatch(value)
        name, value = (setting[1].lower(), setting[2]) if setting else ("", "")
    value = value.strip().strip('"')
    if not value:
        raise ValueError(f"`{word}` lacks a value")
    return name, value


def _paths(value: str) -> tuple[Path, ...]:
    return tuple(Path(part).expanduser() for part in shlex.split(value))


def _one_path(value: str) -> tuple[Path, ...]:
    return (Path(value).expanduser(),)


def read_port(value: Any) -> int:
    """A port number, given as a number or text.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not str(value).isdecimal() or not 0 < int(value) < 65_536:
        raise ValueError(f"{value!r} is no port; a port is 1 to 65535")
    return int(value)


def _checking(value: str) -> str:
    match value.lower():
        case "yes" | "ask":
            return "yes"
        case "accept-new":
            return "accept-new"
    raise ValueError(
        f"StrictHostKeyChecking={value} is not supported, since host keys are always checked; "
        "use `accept-new` to remember the key of a host at the first meeting"
    )


def _seconds(value: str) -> float:
    if not value.isdecimal() or not 0 < int(value) < 86_400:
        raise ValueError(f"ConnectTimeout={value} is no number of seconds")
    return float(value)


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "-J": ("proxy_jump", str),
    "-i": ("identity_files", _one_path),
    "-l": ("user", str),
    "-p": ("port", read_port),
    "connecttimeout": ("connect_timeout_seconds", _seconds),
    "identityfile": ("identity_files", _one_path),
    "port": ("port", read_port),
    "proxycommand": ("proxy_command", str),
    "proxyjump": ("proxy_jump", str),
    "stricthostkeychecking": ("host_key_checking", _checking),
    "user": ("user", str),
    "userknownhostsfile": ("user_known_hosts_files", _paths),
}

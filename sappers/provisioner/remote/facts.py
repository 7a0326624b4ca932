"""Gathers what is true of this host now, from /proc and the package manager."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import Any

from sappers.provisioner.remote.commands import ENVIRONMENT

TCP_LISTEN = "0A"
DPKG_SECONDS = 30


def gather(disk_paths: list[str], packages: list[str]) -> dict[str, Any]:
    """All facts; names as in `sappers.provisioner.executor.facts.Facts`."""
    return {
        "architecture": os.uname().machine,
        "python_version": list(sys.version_info[:3]),
        "python_path": sys.executable or "",
        "free_disk_mib": {path: free_mib(path) for path in disk_paths},
        "listeners": listeners(),
        "is_root": os.geteuid() == 0,
        "systemd": os.path.isdir("/run/systemd/system"),
        "packages": _packages(packages),
        "addresses": addresses(),
        "machine_id": _text("/etc/machine-id").strip(),
    }


def _text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""


def free_mib(path: str) -> int:
    """Free room at a path, or at its nearest parent that exists."""
    while path not in ("", "/") and not os.path.exists(path):
        path = os.path.dirname(path)
    room = os.statvfs(path or "/")
    free = room.f_bfree if os.geteuid() == 0 else room.f_bavail
    return int(free * room.f_frsize // (1024 * 1024))


def _packages(names: list[str]) -> dict[str, str]:
    if not names:
        return {}
    form = "${Package}\t${Version}\t${db:Status-Status}\n"
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", form, "--", *names],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=DPKG_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    rows = (line.split("\t") for line in done.stdout.decode("utf-8", "replace").splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def addresses() -> list[str]:
    """Addresses of this host that others may reach: IPv4 first."""
    import ipaddress

    found = []
    last = ""
    for line in _text("/proc/net/fib_trie").splitlines():
        word = line.strip().lstrip("|+- ")
        if "/32 host LOCAL" in line and last not in found:
            found.append(last)
        last = word.split(" ")[0] if word else last
    six = (line.split()[0] for line in _text("/proc/net/if_inet6").splitlines())
    found += [str(ipaddress.IPv6Address(int(word, 16))) for word in six]
    parsed = [ipaddress.ip_address(address) for address in found]
    return [str(a) for a in parsed if not (a.is_loopback or a.is_link_local)]


def listeners() -> list[dict[str, Any]]:
    """Sockets that listen (TCP) or are bound (UDP), with the process that has them."""
    rows: list[tuple[str, str, int, str]] = []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in _text("/proc/net/" + protocol).splitlines()[1:]:
            columns = line.split()
            connected = columns[2].rpartition(":")[2] != "0000"
            listening = columns[3] == TCP_LISTEN if protocol < "u" else not connected
            if listening:
                address, _, port = columns[1].rpartition(":")
                rows.append((protocol[:3], address, int(port, 16), columns[9]))
    names = _process_names({inode for *_, inode in rows})
    return [
        {
            "protocol": protocol,
            "address": _address(address),
            "port": port,
            "process": names.get(inode, ""),
        }
        for protocol, address, port, inode in rows
    ]


def _address(text: str) -> str:
    """An address as /proc/net writes it: 32-bit words, each in this machine's byte order."""
    import ipaddress

    words = [bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return str(ipaddress.ip_address(raw))


def _process_names(inodes: set[str]) -> dict[str, str]:
    """Names of the processes that hold the sockets, as far as this user may see them."""
    names: dict[str, str] = {}
    wanted = {"socket:[" + inode + "]": inode for inode in inodes}
    for pid in os.listdir("/proc"):
        if len(names) == len(wanted):
            break
        if not pid.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in os.listdir("/proc/" + pid + "/fd"):
                with contextlib.suppress(OSError):
                    link = os.readlink("/proc/" + pid + "/fd/" + descriptor)
                    if link in wanted:
                        names[wanted[link]] = _text("/proc/" + pid + "/comm").strip()
    return names

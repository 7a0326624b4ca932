"""What only system calls tell of this host: names, the user, interfaces, room on file systems."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import struct
import sys
import time
from typing import Any

_SIOCGIFADDR, _SIOCGIFBRDADDR, _SIOCGIFNETMASK = 0x8915, 0x8919, 0x891B
_ADDRESSES = (
    ("address", _SIOCGIFADDR),
    ("netmask", _SIOCGIFNETMASK),
    ("broadcast", _SIOCGIFBRDADDR),
)
_SIOCGIFCONF = 0x8912
_PROMISC = 0x100
_UP = 1
_ETHERNET, _LOOPBACK = "1", "772"
_SCOPES = {"00": "global", "10": "host", "20": "link", "40": "site"}


def describe() -> dict[str, Any]:
    """Facts, and what facts are made of."""
    return {
        "facts": {**_names(), **_user(), **_python()},
        "usable_cpus": len(os.sched_getaffinity(0)),
        "interfaces": interfaces(),
        "rooms": _rooms(),
        "now": time.time(),
    }


def _names() -> dict[str, Any]:
    import platform
    import socket

    system = os.uname()
    full = system.nodename
    if "." not in full:
        with contextlib.suppress(OSError):
            full = socket.getfqdn() or full
    domain = full.partition(".")[2]
    return {
        "system": system.sysname,
        "kernel": system.release,
        "kernel_version": system.version,
        "machine": system.machine,
        "architecture": {"i686": "i386"}.get(system.machine, system.machine),
        "userspace_bits": platform.architecture()[0].replace("bit", ""),
        "userspace_architecture": system.machine,
        "nodename": system.nodename,
        "hostname": system.nodename.split(".")[0],
        "fqdn": full,
        "domain": domain,
        "env": dict(os.environ),
        "is_chroot": False,
    }


def _user() -> dict[str, Any]:
    found: dict[str, Any] = {
        "real_user_id": os.getuid(),
        "effective_user_id": os.geteuid(),
        "real_group_id": os.getgid(),
        "effective_group_id": os.getegid(),
        "user_uid": os.geteuid(),
        "user_gid": os.getegid(),
        "user_id": str(os.geteuid()),
        "user_dir": os.path.expanduser("~"),
    }
    with contextlib.suppress(KeyError):
        entry = pwd.getpwuid(os.geteuid())
        found.update(user_id=entry.pw_name, user_gecos=entry.pw_gecos)
        found.update(user_dir=entry.pw_dir, user_shell=entry.pw_shell)
    return found


def _python() -> dict[str, Any]:
    version = sys.version_info
    return {
        "python_version": "%d.%d.%d" % version[:3],
        "python": {
            "executable": sys.executable,
            "has_sslcontext": True,
            "type": sys.implementation.name,
            "version": {
                "major": version[0], "minor": version[1], "micro": version[2],
                "releaselevel": version[3], "serial": version[4],
            },
            "version_info": list(version),
        },
    }  # fmt: skip


def _rooms() -> dict[str, dict[str, int]]:
    rooms: dict[str, dict[str, int]] = {}
    with contextlib.suppress(OSError), open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            device, point = line.split()[:2]
            if not device.startswith("/"):
                continue  # network file systems may not answer
            point = point.replace("\\040", " ")
            with contextlib.suppress(OSError):
                room = os.statvfs(point)
                rooms[point] = {
                    "size_total": room.f_frsize * room.f_blocks,
                    "size_available": room.f_frsize * room.f_bavail,
                    "block_size": room.f_bsize,
                    "block_total": room.f_blocks,
                    "block_available": room.f_bavail,
                    "block_used": room.f_blocks - room.f_bavail,
                    "inode_total": room.f_files,
                    "inode_available": room.f_favail,
                    "inode_used": room.f_files - room.f_favail,
                }
    return rooms


def interfaces() -> list[dict[str, Any]]:
    """All network interfaces, with their addresses; none where /sys is not there (a chroot)."""
    found: list[dict[str, Any]] = []
    if not os.path.isdir("/sys/class/net"):
        return found
    six = _ipv6()
    four = _ipv4()
    for name in sorted(os.listdir("/sys/class/net")):
        folder = "/sys/class/net/" + name
        if not os.path.isdir(folder):
            continue
        kind = _text(folder + "/type")
        kind = {_ETHERNET: "ether", _LOOPBACK: "loopback"}.get(kind, "unknown")
        if os.path.isdir(folder + "/bridge"):
            kind = "bridge"
        mac = _text(folder + "/address")
        flags = int(_text(folder + "/flags") or "0", 16)
        found.append(
            {
                "name": name,
                "mac": mac if mac != "00:00:00:00:00:00" else "",
                "mtu": int(_text(folder + "/mtu") or 0),
                "active": bool(flags & _UP) and _text(folder + "/operstate") != "down",
                "type": kind,
                "promisc": bool(flags & _PROMISC),
                "speed": _text(folder + "/speed"),
                "ipv4": four.get(name, []),
                "ipv6": six.get(name, []),
            }
        )
    return found


def _text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return ""


def _ipv4() -> dict[str, list[dict[str, str]]]:
    """IPv4 addresses by interface; labels of older kinds (`eth0:1`) count as the interface."""
    import socket

    found: dict[str, list[dict[str, str]]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in _with_addresses(probe):
            address = {}
            for key, number in _ADDRESSES:
                with contextlib.suppress(OSError):
                    request = struct.pack("256s", name.encode()[:15])
                    raw = fcntl.ioctl(probe, number, request)
                    address[key] = socket.inet_ntoa(raw[20:24])
            if "address" in address and "netmask" in address:
                if address.get("broadcast") == "0.0.0.0":
                    address["broadcast"] = ""
                found.setdefault(name.partition(":")[0], []).append(address)
    return found


def _with_addresses(probe: Any) -> list[str]:
    import array

    size = 40 * 256
    buffer = array.array("B", b"\0" * size)
    request = struct.pack("iL", size, buffer.buffer_info()[0])
    used = struct.unpack("iL", fcntl.ioctl(probe, _SIOCGIFCONF, request))[0]
    raw = buffer.tobytes()[:used]
    names = [raw[at : at + 16].split(b"\0", 1)[0].decode() for at in range(0, used, 40)]
    return list(dict.fromkeys(names))


def _ipv6() -> dict[str, list[dict[str, str]]]:
    import ipaddress

    found: dict[str, list[dict[str, str]]] = {}
    for line in _text("/proc/net/if_inet6").splitlines():
        words = line.split()
        if len(words) == 6:
            address = {
                "address": str(ipaddress.IPv6Address(int(words[0], 16))),
                "prefix": str(int(words[2], 16)),
                "scope": _SCOPES.get(words[3], "global"),
            }
            found.setdefault(words[5], []).append(address)
    return found

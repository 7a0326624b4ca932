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
_KINDS = {"1": "ether", "32": "infiniband", "512": "ppp", "772": "loopback", "65534": "tunnel"}
# Of name servers that all know: the way to the world is the way to them.
_WORLD, _WORLD6 = "8.8.8.8", "2404:6800:400a:800::1012"
_SCOPES = {"00": "global", "10": "host", "20": "link", "40": "site"}


def describe(environment: dict[str, str]) -> dict[str, Any]:
    """Facts, and what facts are made of, with the environment that a task is given beside."""
    minute, five, fifteen = os.getloadavg()
    loads = {"1m": minute, "5m": five, "15m": fifteen}
    facts = {**_names(), **_user(), **_python(), "loadavg": loads}
    facts["env"] = {**os.environ, **environment}
    return {
        "facts": facts,
        "usable_cpus": len(os.sched_getaffinity(0)),
        "interfaces": interfaces(),
        "sources": _sources(),
        "rooms": _rooms(),
        "now": time.time(),
    }


def _names() -> dict[str, Any]:
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
        "userspace_bits": str(8 * struct.calcsize("P")),
        "userspace_architecture": system.machine,
        "nodename": system.nodename,
        "hostname": system.nodename.split(".")[0],
        "fqdn": full,
        "domain": domain,
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


def _sources() -> dict[str, str]:
    """By family the address that who leads out to the world has; nothing is sent."""
    import socket

    found: dict[str, str] = {}
    for family, address in ((socket.AF_INET, _WORLD), (socket.AF_INET6, _WORLD6)):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 53))
            found["ipv4" if family == socket.AF_INET else "ipv6"] = probe.getsockname()[0]
    return found


def interfaces() -> list[dict[str, Any]]:
    """All network interfaces, with their addresses; none where /sys is not there (a chroot)."""
    found: list[dict[str, Any]] = []
    if not os.path.isdir("/sys/class/net"):
        return found
    six = _ipv6()
    four = _ipv4()
    for name in os.listdir("/sys/class/net"):  # in the kernel's order, as Ansible has it
        folder = "/sys/class/net/" + name
        if not os.path.isdir(folder):
            continue
        kind = _KINDS.get(_text(folder + "/type"), "unknown")
        for other in ("bridge", "bonding"):
            kind = other if os.path.isdir(folder + "/" + other) else kind
        mac = _text(folder + "/address")
        flags = int(_text(folder + "/flags") or "0", 16)
        found.append(
            {
                "name": name,
                "mac": mac if mac != "00:00:00:00:00:00" else "",
                "mtu": int(_text(folder + "/mtu") or 0),
                "active": _text(folder + "/operstate") != "down",
                "type": kind,
                "promisc": bool(flags & _PROMISC),
                "speed": _text(folder + "/speed"),
                "more": _more(folder),
                "ipv4": four.get(name, []),
                "ipv6": six.get(name, []),
            }
        )
    return found


def _more(folder: str) -> dict[str, Any]:
    """What only some interfaces have."""
    found: dict[str, Any] = {}
    if os.path.isdir(folder + "/bridge"):
        found["interfaces"] = os.listdir(folder + "/brif")
        found["id"] = _text(folder + "/bridge/bridge_id")
        found["stp"] = _text(folder + "/bridge/stp_state") == "1"
    if os.path.isdir(folder + "/bonding"):
        found["slaves"] = _text(folder + "/bonding/slaves").split()
        for name in ("mode", "miimon", "lacp_rate"):
            found[name] = _text(folder + "/bonding/" + name).partition(" ")[0]
        if _text(folder + "/bonding/primary"):
            found["primary"] = _text(folder + "/bonding/primary")
            found["all_slaves_active"] = _text(folder + "/bonding/all_slaves_active") == "1"
    if os.path.isdir(folder + "/bonding_slave"):
        found["perm_macaddress"] = _text(folder + "/bonding_slave/perm_hwaddr")
    if os.path.islink(folder + "/device"):
        found["pciid"] = os.path.basename(os.readlink(folder + "/device"))
    if os.path.exists(folder + "/device/driver/module"):
        found["module"] = os.path.basename(os.path.realpath(folder + "/device/driver/module"))
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

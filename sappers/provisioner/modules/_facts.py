"""Facts under Ansible's names, made of what the system's files say; pure functions."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List

_FAMILIES = {
    "Debian": "debian ubuntu raspbian linuxmint kali devuan pop",
    "RedHat": "rhel centos fedora rocky almalinux ol amzn scientific",
    "Suse": "sles opensuse-leap opensuse-tumbleweed opensuse",
    "Alpine": "alpine",
    "Archlinux": "arch manjaro",
    "Gentoo": "gentoo",
}
_NAMES = {
    "debian": "Debian", "ubuntu": "Ubuntu", "rhel": "RedHat", "centos": "CentOS",
    "fedora": "Fedora", "rocky": "Rocky", "almalinux": "AlmaLinux", "ol": "OracleLinux",
    "amzn": "Amazon", "sles": "SLES", "opensuse-leap": "openSUSE Leap", "alpine": "Alpine",
    "arch": "Archlinux", "gentoo": "Gentoo", "linuxmint": "Linux Mint", "kali": "Kali",
    "raspbian": "Debian",
}  # fmt: skip


def os_release(text: str) -> Dict[str, str]:
    """The pairs of /etc/os-release."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs if key.strip()}


def distribution(release: Dict[str, str], debian_version: str) -> Dict[str, Any]:
    """Name, version, release and family of the distribution."""
    name = release.get("ID", "")
    version = release.get("VERSION_ID", "")
    if name == "debian" and re.match(r"\d+\.\d+", debian_version):
        version = debian_version.strip()
    family = next((one for one, ids in _FAMILIES.items() if name in ids.split()), "")
    if not family:
        likes = release.get("ID_LIKE", "").split()
        family = next((one for one, ids in _FAMILIES.items() if set(likes) & set(ids.split())), "")
    codename = release.get("VERSION_CODENAME") or ""
    if not codename:
        found = re.search(r"\((.+?)\)", release.get("VERSION", ""))
        codename = found.group(1) if found else ""
    return {
        "distribution": _NAMES.get(name, name.capitalize()),
        "distribution_version": version,
        "distribution_major_version": version.split(".")[0],
        "distribution_release": codename or "NA",
        "distribution_file_path": "/etc/os-release",
        "distribution_file_parsed": True,
        "distribution_file_variety": family or _NAMES.get(name, name.capitalize()),
        "os_family": family or _NAMES.get(name, name.capitalize()),
    }


def memory(meminfo: str) -> Dict[str, Any]:
    """Memory and swap in MiB."""
    kib: Dict[str, int] = {}
    for line in meminfo.splitlines():
        key, _, rest = line.partition(":")
        if rest.split():
            kib[key] = int(rest.split()[0])
    mib = {key: value // 1024 for key, value in kib.items()}
    total, free = mib.get("MemTotal", 0), mib.get("MemFree", 0)
    cached = mib.get("Cached", 0) + mib.get("Buffers", 0)
    swap_total, swap_free = mib.get("SwapTotal", 0), mib.get("SwapFree", 0)
    return {
        "memtotal_mb": total,
        "memfree_mb": free,
        "swaptotal_mb": swap_total,
        "swapfree_mb": swap_free,
        "memory_mb": {
            "real": {"total": total, "used": total - free, "free": free},
            "nocache": {"free": free + cached, "used": total - free - cached},
            "swap": {
                "total": swap_total,
                "free": swap_free,
                "used": swap_total - swap_free,
                "cached": mib.get("SwapCached", 0),
            },
        },
    }


def processors(cpuinfo: str, usable: int) -> Dict[str, Any]:
    """Processors, cores and threads."""
    rows: List[Dict[str, str]] = [{}]
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if not line.strip():
            rows.append({})
        elif colon:
            rows[-1][key.strip()] = value.strip()
    rows = [row for row in rows if "processor" in row]
    listed: List[str] = []
    for row in rows:
        listed.append(row["processor"])
        listed.extend(row[key] for key in ("vendor_id", "model name") if key in row)
    sockets = {row.get("physical id", "0") for row in rows} or {"0"}
    cores = int(rows[0].get("cpu cores", "1")) if rows else 1
    threads = int(rows[0].get("siblings", str(cores))) // max(cores, 1) if rows else 1
    return {
        "processor": listed,
        "processor_count": len(sockets),
        "processor_cores": cores,
        "processor_threads_per_core": max(threads, 1),
        "processor_vcpus": max(threads, 1) * len(sockets) * cores,
        "processor_nproc": usable,
    }


def mounts(text: str, rooms: Dict[str, Dict[str, int]]) -> List[Dict[str, Any]]:
    """What is mounted from a device, with its room."""
    found: Dict[str, Dict[str, Any]] = {}  # of a folder mounted over, what is seen there
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 6 or not (fields[0].startswith("/") or ":/" in fields[0]):
            continue
        if fields[2] == "none":
            continue
        point = fields[1].replace("\\040", " ")
        found[point] = {
            "device": fields[0],
            "mount": point,
            "fstype": fields[2],
            "options": fields[3],
            "dump": int(fields[4]),
            "passno": int(fields[5]),
            **rooms.get(point, {}),
        }
    return list(found.values())


def lsb(text: str) -> Dict[str, str]:
    """What /etc/lsb-release says."""
    pairs = os_release(text)
    found = {
        name: pairs["DISTRIB_" + name.upper()]
        for name in ("id", "release", "description", "codename")
        if "DISTRIB_" + name.upper() in pairs
    }
    if "release" in found:
        found["major_release"] = found["release"].split(".")[0]
    return found


def network(interfaces: List[Dict[str, Any]], routes: str, routes6: str) -> Dict[str, Any]:
    """Interfaces, all addresses, and the addresses that lead out.

    Args:
        interfaces: `name`, `mac`, `mtu`, `active`, `type`, `flags`, `ipv4` (address, netmask,
            broadcast) and `ipv6` (address, prefix, scope) of each.
        routes: What /proc/net/route says; routes6: /proc/net/ipv6_route.
    """
    facts: Dict[str, Any] = {"interfaces": [one["name"] for one in interfaces]}
    four, six = [], []
    default = _default_route(routes)
    facts["default_ipv4"], facts["default_ipv6"] = {}, {}
    for one in interfaces:
        described = {"device": one["name"], "active": one["active"], "mtu": one["mtu"]}
        described.update(type=one["type"], promisc=one["promisc"])
        if one["speed"].lstrip("-").isdigit():
            described["speed"] = int(one["speed"])
        if one["mac"]:
            described["macaddress"] = one["mac"]
        addresses = [_four(address) for address in one["ipv4"]]
        if addresses:
            described["ipv4"] = addresses[0]
        if len(addresses) > 1:
            described["ipv4_secondaries"] = addresses[1:]
        if one["ipv6"]:
            described["ipv6"] = one["ipv6"]
        facts[re.sub("[^a-zA-Z0-9_]", "_", one["name"])] = described
        if one["type"] != "loopback":
            four += [address["address"] for address in addresses]
            six += [address["address"] for address in one["ipv6"]]
        if default and one["name"] == default[0] and addresses:
            facts["default_ipv4"] = _leading(one, addresses[0], default)
    del routes6
    facts["all_ipv4_addresses"], facts["all_ipv6_addresses"] = four, six
    return facts


def _leading(one: Dict[str, Any], address: Dict[str, str], default: Any) -> Dict[str, Any]:
    return {
        "interface": one["name"],
        "alias": one["name"],
        "gateway": default[1],
        "macaddress": one["mac"],
        "mtu": one["mtu"],
        "type": one["type"],
        **address,
    }


def _four(address: Dict[str, str]) -> Dict[str, str]:
    net = ipaddress.IPv4Network((address["address"], address["netmask"]), strict=False)
    return {**address, "network": str(net.network_address), "prefix": str(net.prefixlen)}


def _default_route(text: str) -> Any:
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            raw = int(fields[2], 16).to_bytes(4, "little")
            return fields[0], str(ipaddress.IPv4Address(raw))
    return None

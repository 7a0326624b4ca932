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

_REJECTS, _IS_LOCAL = 0x200, 0x80000000  # flags of IPv6's routes


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
    minor = re.search(r"\d+\.(\d+)", debian_version) if name in ("debian", "raspbian") else None
    return {
        **({"distribution_minor_version": minor.group(1)} if minor else {}),
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
    flags = [row["flags"].split() for row in rows if "flags" in row]
    for row in rows:
        listed.append(row["processor"])
        listed.extend(row[key] for key in ("vendor_id", "model name") if key in row)
    sockets = {row.get("physical id", "0") for row in rows} or {"0"}
    cores = int(rows[0].get("cpu cores", "1")) if rows else 1
    threads = int(rows[0].get("siblings", str(cores))) // max(cores, 1) if rows else 1
    return {
        **({"flags": flags[-1]} if flags else {}),
        "processor": listed,
        "processor_count": len(sockets),
        "processor_cores": cores,
        "processor_threads_per_core": max(threads, 1),
        "processor_vcpus": max(threads, 1) * len(sockets) * cores,
        "processor_nproc": usable,
    }


def mounts(text: str, mountinfo: str, rooms: Dict[str, Dict[str, int]]) -> List[Dict[str, Any]]:
    """What is mounted from a device, with its room; of a part of a file system `bind` says so."""
    fields_of = (line.split() for line in mountinfo.splitlines())
    parts = {_unescaped(one[4]) for one in fields_of if len(one) > 4 and one[3] != "/"}
    found: Dict[str, Dict[str, Any]] = {}  # of a folder mounted over, what is seen there
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 6 or not (fields[0].startswith("/") or ":/" in fields[0]):
            continue
        if fields[2] == "none":
            continue
        point = _unescaped(fields[1])
        found[point] = {
            "device": _unescaped(fields[0]),
            "mount": point,
            "fstype": fields[2],
            "options": fields[3] + (",bind" if point in parts else ""),
            "dump": int(fields[4]),
            "passno": int(fields[5]),
            **rooms.get(point, {}),
        }
    return list(found.values())


def _unescaped(text: str) -> str:
    """A field of /proc/mounts, in which blanks are octal numbers."""
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match.group(1), 8)), text)


def lsb(text: str, release: Dict[str, str], *, has_program: bool) -> Dict[str, str]:
    """What `lsb_release` says where it is there, which is what its files say."""
    pairs = {key.replace("DISTRIB_", "").lower(): value for key, value in os_release(text).items()}
    name = release.get("ID", "")
    own = {"id": _NAMES.get(name, name.capitalize()), "release": release.get("VERSION_ID", ""),
           "description": release.get("PRETTY_NAME", ""),
           "codename": release.get("VERSION_CODENAME", "")}  # fmt: skip
    told = {**(own if has_program else {}), **pairs}
    found = {name: told[name] for name in own if told.get(name)}
    if "release" in found:
        found["major_release"] = found["release"].split(".")[0]
    return found


def network(
    interfaces: List[Dict[str, Any]], routes: str, routes6: str, sources: Dict[str, str]
) -> Dict[str, Any]:
    """Interfaces, all addresses, and the addresses that lead out.

    Args:
        interfaces: `name`, `mac`, `mtu`, `active`, `type`, `flags`, `ipv4` (address, netmask,
            broadcast), `ipv6` (address, prefix, scope) and `more` of each.
        routes: What /proc/net/route says; routes6: /proc/net/ipv6_route.
        sources: By family the address with which the host speaks to the world.
    """
    facts: Dict[str, Any] = {"interfaces": [one["name"] for one in interfaces]}
    four, six = [], []
    facts["default_ipv4"], facts["default_ipv6"] = {}, {}
    for one in interfaces:
        described = {"device": one["name"], "active": one["active"], "mtu": one["mtu"]}
        described.update(type=one["type"], promisc=one["promisc"])
        if one["speed"].lstrip("-").isdigit():
            described["speed"] = int(one["speed"])
        if one["mac"]:
            described["macaddress"] = one["mac"]
        addresses = [_four(address) for address in one["ipv4"]]
        described.update(one["more"])
        if addresses:
            described["ipv4"] = addresses[0]
        if len(addresses) > 1:
            described["ipv4_secondaries"] = addresses[1:]
        if one["ipv6"]:
            described["ipv6"] = one["ipv6"]
        facts[re.sub("[^a-zA-Z0-9_]", "_", one["name"])] = described
        own = [address["address"] for address in addresses]
        four += [address for address in own if not address.startswith("127.")]
        six += [each["address"] for each in one["ipv6"] if each["address"] != "::1"]
        for address in addresses:
            if address["address"] == sources.get("ipv4"):
                way = _default_route(routes)
                facts["default_ipv4"] = {"alias": one["name"], **_leading(one, address, way)}
        for address in one["ipv6"]:
            if address["address"] == sources.get("ipv6"):
                facts["default_ipv6"] = _leading(one, address, _default_route6(routes6))
    facts["all_ipv4_addresses"], facts["all_ipv6_addresses"] = four, six
    return facts


def _leading(one: Dict[str, Any], address: Dict[str, str], way: Any) -> Dict[str, Any]:
    name, gateway = way or (one["name"], None)
    return {
        "interface": name,
        "macaddress": one["mac"],
        "mtu": one["mtu"],
        "type": one["type"],
        **({"gateway": gateway} if gateway else {}),
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
            return fields[0], str(ipaddress.IPv4Address(raw)) if any(raw) else None
    return None


def _default_route6(text: str) -> Any:
    """The best of those that lead everywhere and are none that reject."""
    lines = [line.split() for line in text.splitlines()]
    ways = [one for one in lines if len(one) > 9 and one[0] == "0" * 32 and one[1] == "00"
            and not int(one[8], 16) & _REJECTS]  # fmt: skip
    if not ways:
        return None
    best = min(ways, key=lambda one: int(one[5], 16))
    gateway = int(best[4], 16)
    return best[9], str(ipaddress.IPv6Address(gateway)) if gateway else None


def local_addresses(fib_trie: str, routes6: str) -> Dict[str, List[str]]:
    """Addresses and nets that lead to the host itself, by what /proc/net says."""
    found: Dict[str, Dict[str, None]] = {"ipv4": {}, "ipv6": {}}
    last = ""
    for line in fib_trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words[-1:] == ["LOCAL"]:
            found["ipv4"][last if words[0] == "/32" else last + words[0]] = None
    for line in routes6.splitlines():
        fields = line.split()
        if len(fields) > 9 and int(fields[8], 16) & _IS_LOCAL:
            address, prefix = str(ipaddress.IPv6Address(int(fields[0], 16))), int(fields[1], 16)
            found["ipv6"][address if prefix == 128 else f"{address}/{prefix}"] = None
    return {family: list(addresses) for family, addresses in found.items()}

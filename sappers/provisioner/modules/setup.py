"""Gathers facts of the host, under Ansible's names."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from typing import Any, Dict, List, Tuple

from sappers.provisioner.modules import _devices, _facts, _virtual, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Gather facts of the host, under Ansible's names.",
    (
        Argument("filter", "list", "Patterns of names to tell; all without.", default=[]),
        Argument("gather_subset", "list", "Accepted: everything is gathered.", default=["all"]),
        Argument("gather_timeout", "int", "Accepted.", default=10),
        Argument(
            "fact_path", "path", "Where the host's own facts are.", default="/etc/ansible/facts.d"
        ),
    ),
    returns=(("ansible_facts", "the facts"),),
    tells_facts=True,
)
_MANAGERS = (
    ("/usr/bin/apt-get", "apt"),
    ("/usr/bin/dnf", "dnf"),
    ("/usr/bin/yum", "yum"),
    ("/usr/bin/zypper", "zypper"),
    ("/sbin/apk", "apk"),
    ("/usr/bin/pacman", "pacman"),
)
# What process 1 is called, where its manager of services has another name.
_INITS = {"procd": "openwrt_init", "runit-init": "runit", "svscan": "svc", "openrc-init": "openrc"}
# What the firmware says of the machine; some of it to root alone.
_BOARD_FOLDER = "/sys/devices/virtual/dmi/id/"
_BOARD = (
    "bios_date", "bios_vendor", "bios_version", "board_asset_tag", "board_name", "board_serial",
    "board_vendor", "board_version", "chassis_asset_tag", "chassis_serial", "chassis_vendor",
    "chassis_version", "product_family", "product_name", "product_serial", "product_uuid",
    "product_version", "sys_vendor", "chassis_type",
)  # fmt: skip
# By the number of the kind of chassis.
_FORM_FACTORS = (
    "Unknown", "Other", "Unknown", "Desktop", "Low Profile Desktop", "Pizza Box", "Mini Tower",
    "Tower", "Portable", "Laptop", "Notebook", "Hand Held", "Docking Station", "All In One",
    "Sub Notebook", "Space-saving", "Lunch Box", "Main Server Chassis", "Expansion Chassis",
    "Sub Chassis", "Bus Expansion Chassis", "Peripheral Chassis", "RAID Chassis",
    "Rack Mount Chassis", "Sealed-case PC", "Multi-system", "CompactPCI", "AdvancedTCA", "Blade",
    "Blade Enclosure", "Tablet", "Convertible", "Detachable", "IoT Gateway", "Embedded PC",
    "Mini PC", "Stick PC",
)  # fmt: skip
_KEYS = ("rsa", "ecdsa", "ed25519")
_FILES = {
    "release": "/etc/os-release", "debian": "/etc/debian_version", "lsb": "/etc/lsb-release",
    "machine": "/etc/machine-id", "resolv": "/etc/resolv.conf", "init": "/proc/1/comm",
    "mem": "/proc/meminfo", "cpu": "/proc/cpuinfo", "uptime": "/proc/uptime",
    "cmdline": "/proc/cmdline", "mounts": "/proc/mounts", "mountinfo": "/proc/self/mountinfo",
    "route": "/proc/net/route", "route6": "/proc/net/ipv6_route", "trie": "/proc/net/fib_trie",
    "fips": "/proc/sys/crypto/fips_enabled", "iscsi": "/etc/iscsi/initiatorname.iscsi",
    "nvme": "/etc/nvme/hostnqn",
}  # fmt: skip
_LVM_SAYS = "--noheadings --nosuffix --units g --separator ,"


def plan(task: step.Task) -> step.Plan:
    """Read and ask; nothing is changed."""
    facts: Dict[str, Any] = {"gather_subset": task.args["gather_subset"], "module_setup": True}
    system = yield step.System()
    facts.update(system["facts"])
    told = yield step.Texts(tuple(_FILES.values()))
    text = {name: told[path] for name, path in _FILES.items()}
    release = _facts.os_release(text["release"])
    facts.update(_facts.distribution(release, text["debian"]))
    has_lsb = (yield step.Stat("/usr/bin/lsb_release", True)) is not None
    facts["lsb"] = _facts.lsb(text["lsb"], release, has_program=has_lsb)
    facts["fips"] = text["fips"].strip() == "1"
    firmware = yield from _firmware(facts)
    facts.update(_facts.memory(text["mem"]))
    facts.update(_facts.processors(text["cpu"], system["usable_cpus"]))
    facts.update((yield from _devices.describe()))
    facts["mounts"] = _facts.mounts(text["mounts"], text["mountinfo"], system["rooms"])
    mounted = [mount["device"] for mount in facts["mounts"]]
    uuids = yield from _devices.uuids(mounted, facts["device_links"])
    for mount in facts["mounts"]:
        mount["uuid"] = uuids.get(mount["device"], "N/A")
    facts["lvm"] = yield from _lvm(facts["real_user_id"] == 0)
    routes = text["route"], text["route6"]
    facts.update(_facts.network(system["interfaces"], *routes, system["sources"]))
    facts["locally_reachable_ips"] = _facts.local_addresses(text["trie"], text["route6"])
    facts["uptime_seconds"] = int(float((text["uptime"].split() or ["0"])[0]))
    facts["machine_id"] = text["machine"].strip()
    facts["cmdline"], facts["proc_cmdline"] = _cmdline(text["cmdline"])
    facts["dns"] = _dns(text["resolv"])
    facts["iscsi_iqn"] = _line_of(text["iscsi"], "InitiatorName=").partition("=")[2]
    facts["hostnqn"] = _line_of(text["nvme"], "nqn.")
    facts.update(_date_time(system["now"]))
    yield from _managers(facts, text["init"].strip())
    yield from _machine(facts, firmware, text["cpu"])
    yield from _host_keys(facts)
    facts["local"] = yield from _local(task.args["fact_path"])
    named = {"ansible_" + name if name not in ("gather_subset", "module_setup") else name: value
             for name, value in facts.items()}  # fmt: skip
    patterns = task.args["filter"]
    if patterns:
        named = {name: value for name, value in named.items()
                 if any(fnmatch.fnmatch(name, one) or fnmatch.fnmatch(name, "ansible_" + one)
                        for one in patterns)}  # fmt: skip
    return {"changed": False, "ansible_facts": named}


def _firmware(facts: Dict[str, Any]) -> step.Steps:
    """What the firmware says, into the facts; and as it is."""
    told = yield step.Texts(tuple(_BOARD_FOLDER + name for name in _BOARD))
    said = {name: told[_BOARD_FOLDER + name].strip() for name in _BOARD}
    facts.update({name: value or "NA" for name, value in said.items()})
    facts["system_vendor"] = facts.pop("sys_vendor")
    kind = facts.pop("chassis_type")
    known = kind.isdigit() and int(kind) < len(_FORM_FACTORS)
    unknown = kind if kind == "NA" else f"unknown ({kind})"
    facts["form_factor"] = _FORM_FACTORS[int(kind)] if known else unknown
    del facts["product_family"]
    return {**said, "system_vendor": said["sys_vendor"]}


def _machine(facts: Dict[str, Any], firmware: Dict[str, str], cpuinfo: str) -> step.Steps:
    """What it runs on, and what of it is the user's."""
    texts = yield step.Texts(_virtual.TEXTS)
    there = set()
    for path in _virtual.PATHS:
        if (yield step.Stat(path, True)) is not None:
            there.add(path)
    facts.update(_virtual.virtualization(texts, there, firmware, cpuinfo))
    ports = yield step.Glob("/sys/class/fc_host/*/port_name")
    names = yield step.Texts(tuple(ports))
    facts["fibre_channel_wwn"] = [names[port].strip()[2:] for port in ports]
    done = yield step.Ask(("capsh", "--print"))
    current = _line_of(done.out, "Current:").partition(":")[2].strip()
    facts["system_capabilities"] = facts["system_capabilities_enforced"] = "N/A"
    if done.code == 0:
        all_of_them = current == "=ep"
        listed = current.partition("=")[2].split(",")
        facts["system_capabilities"] = [] if all_of_them else [one.strip() for one in listed]
        facts["system_capabilities_enforced"] = str(not all_of_them)


def _lvm(is_root: bool) -> step.Steps:
    """Volume groups, volumes and what they are on; its programs are slow, and often idle."""
    if (yield step.Stat("/sbin/vgs", True)) is None and (
        (yield step.Stat("/usr/sbin/vgs", True)) is None
    ):
        return "N/A"
    if not is_root:
        return "N/A"
    found: Dict[str, Any] = {"lvs": {}, "vgs": {}, "pvs": {}}
    kept = (yield step.Names("/etc/lvm/backup")) or (yield step.Names("/dev/mapper"))
    if not [name for name in kept or () if name != "control"]:
        return found
    rows: Dict[str, List[List[str]]] = {}
    for program in found:
        done = yield step.Ask((program, *_LVM_SAYS.split()))
        lines = done.out.splitlines() if done.code == 0 else []
        rows[program] = [line.strip().split(",") for line in lines]
    for row in rows["vgs"]:
        found["vgs"][row[0]] = {
            "size_g": row[-2], "free_g": row[-1], "num_lvs": row[2], "num_pvs": row[1],
        }  # fmt: skip
    for row in rows["lvs"]:
        found["lvs"][row[0]] = {"size_g": row[3], "vg": row[1]}
    for row in rows["pvs"]:
        found["pvs"][row[0]] = {"size_g": row[4], "free_g": row[5], "vg": row[1]}
    return found


def _line_of(text: str, beginning: str) -> str:
    """The first line that begins so."""
    return next((line for line in text.splitlines() if line.startswith(beginning)), "")


def _managers(facts: Dict[str, Any], init: str) -> step.Steps:
    facts["pkg_mgr"] = "unknown"
    for path, name in _MANAGERS:
        if (yield step.Stat(path, True)) is not None:
            facts["pkg_mgr"] = name
            break
    systemd = yield step.Stat("/run/systemd/system")
    named = _INITS.get(init, init)
    if init and init != "init" and not init.endswith("sh"):
        facts["service_mgr"] = named
    elif systemd:
        facts["service_mgr"] = "systemd"
    elif (yield step.Stat("/sbin/openrc")):
        facts["service_mgr"] = "openrc"
    else:
        scripts = yield step.Stat("/etc/init.d")
        facts["service_mgr"] = "sysvinit" if scripts else "service"
    if systemd:
        said = (yield step.Ask(("systemctl", "--version"))).out.splitlines()
        if len(said) > 1:
            version = int(said[0].split()[1])
            facts["systemd"] = {"features": said[1], "version": version}
    facts["apparmor"] = {
        "status": "enabled" if (yield step.Stat("/sys/kernel/security/apparmor")) else "disabled"
    }
    facts["selinux"] = {
        "status": "enabled" if (yield step.Stat("/sys/fs/selinux/enforce")) else "disabled"
    }
    facts["selinux_python_present"] = True


def _host_keys(facts: Dict[str, Any]) -> step.Steps:
    for kind in _KEYS:
        line = yield step.Read(f"/etc/ssh/ssh_host_{kind}_key.pub")
        if line:
            words = line.decode("utf-8", "replace").split()
            facts[f"ssh_host_key_{kind}_public"] = words[1]
            facts[f"ssh_host_key_{kind}_public_keytype"] = words[0]


def _local(folder: str) -> step.Steps:
    """What the host's own *.fact files say: JSON or INI, or a program that prints one of them."""
    found: Dict[str, Any] = {}
    for path in (yield step.Glob(folder + "/*.fact")):
        name = path.rpartition("/")[2][: -len(".fact")]
        if "x" in (yield step.Access(path)):
            done = yield step.Ask((path,))
            text = done.out
        else:
            text = ((yield step.Read(path)) or b"").decode("utf-8", "replace")
        found[name] = _parsed(text)
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    sections: Dict[str, Dict[str, str]] = {}
    section = ""
    for line in text.splitlines():
        head = re.fullmatch(r"\s*\[(.+)\]\s*", line)
        key, sign, value = line.partition("=")
        if head:
            section = head.group(1)
            sections[section] = {}
        elif sign and section:
            sections[section][key.strip().lower()] = value.strip()
    return sections or "error loading facts as JSON or ini - please check content"


def _cmdline(text: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """The kernel's arguments: the last of each name, and all of those that are there twice."""
    last: Dict[str, Any] = {}
    every: Dict[str, Any] = {}
    for word in text.split():
        key, sign, value = word.partition("=")
        last[key] = value if sign else True
        if sign and key in every:
            before = every[key] if isinstance(every[key], list) else [every[key]]
            every[key] = [*before, value]
        else:
            every[key] = last[key]
    return last, every


def _dns(text: str) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            found.setdefault("nameservers", []).append(words[1])
        elif len(words) > 1 and words[0] in ("search", "sortlist", "options"):
            found[words[0]] = words[1:]
        elif len(words) > 1 and words[0] == "domain":
            found["domain"] = words[1]
    return found


def _date_time(now: float) -> Dict[str, Any]:
    local, utc = time.localtime(now), time.gmtime(now)
    form = time.strftime
    return {
        "date_time": {
            "year": form("%Y", local), "month": form("%m", local), "day": form("%d", local),
            "weekday": form("%A", local), "weekday_number": form("%w", local),
            "weeknumber": form("%W", local), "hour": form("%H", local),
            "minute": form("%M", local), "second": form("%S", local),
            "epoch": str(int(now)), "epoch_int": str(int(now)), "date": form("%Y-%m-%d", local),
            "time": form("%H:%M:%S", local), "tz": form("%Z", local),
            "tz_dst": time.tzname[1], "tz_offset": form("%z", local),
            "iso8601": form("%Y-%m-%dT%H:%M:%SZ", utc),
            "iso8601_micro": form("%Y-%m-%dT%H:%M:%S", utc) + ".%06dZ" % (now % 1 * 1e6),
            "iso8601_basic": form("%Y%m%dT%H%M%S", local) + "%06d" % (now % 1 * 1e6),
            "iso8601_basic_short": form("%Y%m%dT%H%M%S", local),
        }
    }  # fmt: skip

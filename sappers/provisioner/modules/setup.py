"""Gathers facts of the host, under Ansible's names."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from typing import Any, Dict

from sappers.provisioner.modules import _facts, step
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
# What the firmware says of the machine; some of it to root alone.
_BOARD_FOLDER = "/sys/devices/virtual/dmi/id/"
_BOARD = (
    "bios_date", "bios_vendor", "bios_version", "board_name", "board_vendor", "board_version",
    "chassis_vendor", "product_name", "product_serial", "product_uuid", "product_version",
)  # fmt: skip
_KEYS = ("rsa", "ecdsa", "ed25519")


def plan(task: step.Task) -> step.Plan:
    """Read and ask; nothing is changed."""
    facts: Dict[str, Any] = {"gather_subset": task.args["gather_subset"], "module_setup": True}
    system = yield step.System()
    facts.update(system["facts"])
    text = {}
    for name, path in (
        ("release", "/etc/os-release"), ("debian", "/etc/debian_version"), ("mem", "/proc/meminfo"),
        ("cpu", "/proc/cpuinfo"), ("mounts", "/proc/mounts"), ("route", "/proc/net/route"),
        ("route6", "/proc/net/ipv6_route"), ("uptime", "/proc/uptime"),
        ("cmdline", "/proc/cmdline"),
        ("machine", "/etc/machine-id"), ("init", "/proc/1/comm"), ("resolv", "/etc/resolv.conf"),
        ("load", "/proc/loadavg"), ("lsb", "/etc/lsb-release"),
        ("fips", "/proc/sys/crypto/fips_enabled"),
    ):  # fmt: skip
        text[name] = ((yield step.Read(path)) or b"").decode("utf-8", "replace")
    facts.update(_facts.distribution(_facts.os_release(text["release"]), text["debian"]))
    facts["fips"] = text["fips"].strip() == "1"
    for name in _BOARD:
        found = yield step.Read(_BOARD_FOLDER + name)
        facts[name] = (found or b"").decode("utf-8", "replace").strip() or "NA"
    facts["lsb"] = _facts.lsb(text["lsb"])
    facts.update(_facts.memory(text["mem"]))
    facts.update(_facts.processors(text["cpu"], system["usable_cpus"]))
    facts["mounts"] = _facts.mounts(text["mounts"], system["rooms"])
    facts.update(_facts.network(system["interfaces"], text["route"], text["route6"]))
    facts["uptime_seconds"] = int(float((text["uptime"].split() or ["0"])[0]))
    facts["machine_id"] = text["machine"].strip()
    facts["cmdline"] = _cmdline(text["cmdline"])
    facts["dns"] = _dns(text["resolv"])
    facts["loadavg"] = dict(zip(("1m", "5m", "15m"), map(float, text["load"].split()[:3])))
    facts.update(_date_time(system["now"]))
    yield from _managers(facts, text["init"].strip())
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


def _managers(facts: Dict[str, Any], init: str) -> step.Steps:
    facts["pkg_mgr"] = "unknown"
    for path, name in _MANAGERS:
        if (yield step.Stat(path, True)) is not None:
            facts["pkg_mgr"] = name
            break
    systemd = yield step.Stat("/run/systemd/system")
    openrc = yield step.Stat("/sbin/openrc")
    facts["service_mgr"] = "systemd" if systemd else "openrc" if openrc else init or "service"
    if facts["service_mgr"] not in ("systemd", "openrc", "runit", "upstart"):
        facts["service_mgr"] = "sysvinit" if init == "init" else "service"
    facts["apparmor"] = {
        "status": "enabled" if (yield step.Stat("/sys/kernel/security/apparmor")) else "disabled"
    }
    facts["selinux"] = {
        "status": "enabled" if (yield step.Stat("/sys/fs/selinux/enforce")) else "disabled"
    }
    facts["selinux_python_present"] = True
    container = yield step.Read("/run/systemd/container")
    guest = (container or b"").decode().strip()
    # What process 1 was told names few kinds; Ansible looks there first.
    named = guest in ("", "lxc", "podman", "docker")
    facts["virtualization_type"] = (guest or "NA") if named else "container"
    facts["virtualization_role"] = "guest" if guest else "NA"


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


def _cmdline(text: str) -> Dict[str, Any]:
    pairs = (word.partition("=") for word in text.split())
    return {key: value if sign else True for key, sign, value in pairs}


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

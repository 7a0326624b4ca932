"""Sets the host's time zone."""

from __future__ import annotations

import re

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Set the host's time zone.",
    (
        Argument("name", "str", "For example Europe/Berlin."),
        Argument("hwclock", "str", "What the hardware's clock says.", choices=("local", "UTC"),
                 aliases=("rtc",)),
    ),
    one_of=(("name", "hwclock"),),
    returns=(("msg", "what was run"),),
)  # fmt: skip
_ZONES = "/usr/share/zoneinfo/"
_TOPIC = "timedatectl"


def plan(task: step.Task) -> step.Plan:
    """By timedatectl where systemd runs, else by /etc/localtime and /etc/timezone."""
    name, clock = task.args["name"], task.args["hwclock"]
    if name is not None and (yield step.Stat(_ZONES + name, True)) is None:
        raise step.Failed(f'Error message:\ngiven timezone "{name}" is not available')
    if (yield step.Stat("/run/systemd/system")) is not None:
        said = yield from _by_systemd(name, clock)
        return {"changed": bool(said), "msg": "\n".join(said)}
    if clock is not None:
        raise step.Failed("hwclock needs systemd: use the command hwclock --systohc")
    return {"changed": (yield from _by_files(name)), "msg": ""}


def _by_systemd(name: str, clock: str) -> step.Steps:
    """What was run."""
    asked = yield step.Ask(("timedatectl", "status"), topic=_TOPIC)
    zone = re.search(r"^\s*Time ?zone\s*:\s*(\S+)", asked.out, re.MULTILINE)
    local = re.search(r"^\s*RTC in local TZ\s*:\s*(\S+)", asked.out, re.MULTILINE)
    is_local = bool(local and local.group(1) == "yes")
    commands = []
    if name is not None and not (zone and zone.group(1) == name):
        commands.append(("timedatectl", "set-timezone", name))
    if clock is not None and is_local != (clock == "local"):
        commands.append(("timedatectl", "set-local-rtc", "yes" if clock == "local" else "no"))
    after = "Time zone: {}\nRTC in local TZ: {}\n".format(
        name or (zone.group(1) if zone else ""),
        "yes" if (clock == "local" if clock else is_local) else "no",
    )
    for command in commands:
        yield from execute(command, ((_TOPIC, (0, after.encode(), b"")),))
    return ["executed `{}`".format(" ".join(command)) for command in commands]


def _by_files(name: str) -> step.Steps:
    """Whether one of them had to change."""
    found = yield step.Stat("/etc/localtime")
    changed = found is None or found.kind != "link" or found.target != _ZONES + name
    if changed:
        yield step.MakeLink("/etc/localtime", _ZONES + name)
    wanted = name.encode() + b"\n"
    done = yield from _files.ensure_content("/etc/timezone", wanted, {"mode": None})
    return changed or done["changed"]

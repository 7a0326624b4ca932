"""Makes a systemd unit run, or not, now and at boot."""

from __future__ import annotations

import re
from typing import Any, Dict

from sappers.provisioner.modules import step
from sappers.provisioner.modules._programs import COMING_PACKAGES, execute
from sappers.provisioner.modules.spec import Argument, Module

_STATES = ("reloaded", "restarted", "started", "stopped")
SPEC = Module(
    "Make a systemd unit run, or not, now and at boot.",
    (
        Argument("name", "str", "The unit, or a service.", aliases=("service", "unit")),
        Argument("state", "str", "", choices=_STATES),
        Argument("enabled", "bool", "Whether it starts at boot."),
        Argument("masked", "bool", "Whether nothing may start it."),
        Argument("daemon_reload", "bool", "Read unit files again first.", default=False,
                 aliases=("daemon-reload",)),
        Argument("daemon_reexec", "bool", "Start systemd anew first.", default=False,
                 aliases=("daemon-reexec",)),
        Argument("no_block", "bool", "Do not wait until it is done.", default=False),
        Argument("force", "bool", "Replace links that are in the way.", default=False),
        Argument("scope", "str", "Whose unit.", default="system",
                 choices=("system", "user", "global")),
    ),
    outward=True,
    returns=(("name, state, enabled", "as asked for"), ("status", "what systemd says of it")),
)  # fmt: skip
_SHOWN = "LoadState,ActiveState,SubState,UnitFileState,MainPID,FragmentPath,Result"
# With these there is nothing to enable.
_ENABLED = ("enabled", "static", "transient")
# Of these systemctl is asked: perhaps there is an init script, or links that it lists.
_MORE_IS_KNOWN = ("", "enabled-runtime", "generated", "indirect")
# What it says alone, without links, where `enable` makes more of it; as Ansible.
_ENABLED_IN_PART = ("alias", "enabled-runtime", "indirect")
_RUNNING = ("active", "activating", "reloading")

_FOLDERS = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/lib/systemd/system",
)  # fmt: skip


def plan(task: step.Task) -> step.Plan:
    """Make it so."""
    args = task.args
    if args["name"] is None and (args["state"] or args["enabled"] is not None):
        raise step.Failed("name is required")
    control = ("systemctl",) if args["scope"] == "system" else ("systemctl", "--" + args["scope"])
    # Only reading anew is no change, as for Ansible.
    changed = False
    if args["daemon_reexec"]:
        yield from execute((*control, "daemon-reexec"))
    if args["daemon_reload"]:
        yield from execute((*control, "daemon-reload"))
    result: Dict[str, Any] = {"name": args["name"], "changed": False, "status": {}}
    if args["name"] is None:
        return result
    return (yield from ensure_unit(control, args, result, changed, task.check))


def ensure_unit(
    control: Any,
    args: Dict[str, Any],
    result: Dict[str, Any],
    changed: bool = False,
    check: bool = False,
) -> step.Plan:
    """Mask, enable and start a unit as the arguments say.

    Raises:
        Failed: There is no such unit, or systemd refuses.
    """
    unit = args["name"]
    status = yield from _status(control, unit)
    if check and status.get("LoadState") == "not-found":
        status = (yield from _coming(control, unit)) or status
    result["status"] = status
    if status.get("LoadState") == "not-found" and (args["state"] or args["enabled"]):
        raise step.Failed(f"Could not find the requested service {unit}: host")
    if args.get("masked") is not None and args["masked"] != (status.get("LoadState") == "masked"):
        verb = "mask" if args["masked"] else "unmask"
        if check and args["masked"]:
            yield from _check_mask(unit)
        status = {**status, "LoadState": "masked" if args["masked"] else "loaded"}
        if args["masked"]:
            status["UnitFileState"] = "masked"  # no longer as enabled as it was
        yield from execute((*control, verb, unit), _implied(unit, status))
        changed = True
    if args["enabled"] is not None:
        done = yield from _enable(control, unit, args, status)
        result["enabled"] = args["enabled"]
        changed = changed or done
    if args["state"] is not None:
        done = yield from _run(control, unit, args, status)
        result["state"] = "stopped" if args["state"] == "stopped" else "started"
        changed = changed or done
    result["changed"] = changed
    return result


def _status(control: Any, unit: str) -> step.Plan:
    asked = (*control, "show", "--no-pager", "-p", _SHOWN, "--", unit)
    done = yield step.Ask(asked, topic="unit:" + _full(unit))
    if done.code:
        raise step.Failed("systemd does not answer: %s" % (done.err.strip() or done.out.strip()))
    pairs = (line.partition("=") for line in done.out.splitlines())
    return {key: value for key, _, value in pairs if key}


def _coming(control: Any, unit: str) -> step.Steps:
    """The status of a unit that an earlier task would bring; None where none would."""
    name = _full(unit)
    template = re.sub("@.*(?=[.])", "@", name)
    for folder in _FOLDERS:
        content = yield step.Read(f"{folder}/{template}")
        if content is not None:
            state = yield from _coming_state(control, content.decode("utf-8", "replace"))
            return {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": state}
    packages = yield step.Ask(("true",), topic=COMING_PACKAGES)
    if packages.stdout:  # any of them may have it
        return {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": "disabled"}
    return None


def _coming_state(control: Any, content: str) -> step.Steps:
    """The state of a new unit: that of another is its own, where it enables others alone."""
    if not re.search(r"^\[Install\]", content, re.MULTILINE):
        return "static"
    if not re.search(r"^(Alias|RequiredBy|UpheldBy|WantedBy)\s*=", content, re.MULTILINE):
        for names in re.findall(r"^Also\s*=(.*)", content, re.MULTILINE):
            for name in names.split():
                if (yield from _status(control, name)).get("UnitFileState") == "enabled":
                    return "enabled"
    return "disabled"


def _check_mask(unit: str) -> step.Steps:
    """Say ahead what systemctl would: that the link's place is taken by the unit's own file."""
    path = f"{_FOLDERS[0]}/{_full(unit)}"
    if (yield step.Read(path)) is not None:
        raise step.Failed(f"Failed to mask unit: File {path} already exists.")


def _full(unit: str) -> str:
    return unit if "." in unit else unit + ".service"


def _implied(unit: str, status: Dict[str, Any]) -> Any:
    text = "".join("{}={}\n".format(*pair) for pair in status.items())
    return (("unit:" + _full(unit), (0, text.encode(), b"")),)


def _enable(control: Any, unit: str, args: Dict[str, Any], status: Dict[str, Any]) -> step.Steps:
    state = status.get("UnitFileState", "")
    enabled = state in _ENABLED
    if state in _MORE_IS_KNOWN:
        asked = yield step.Ask((*control, "is-enabled", "-l", "--", unit))
        enabled = asked.code == 0 and asked.out.strip() not in _ENABLED_IN_PART
    if enabled == args["enabled"]:
        return False
    verb = "enable" if args["enabled"] else "disable"
    force = ("--force",) if args.get("force") else ()
    if state != "static":  # that it stays
        status["UnitFileState"] = verb + "d"
    yield from execute((*control, verb, *force, unit), _implied(unit, status))
    return True


def _run(control: Any, unit: str, args: Dict[str, Any], status: Dict[str, Any]) -> step.Steps:
    running = status.get("ActiveState") in _RUNNING
    wanted = args["state"]
    verb = {"started": "start", "stopped": "stop", "restarted": "restart", "reloaded": "reload"}[
        wanted
    ]
    if (wanted == "started" and running) or (wanted == "stopped" and not running):
        return False
    if wanted == "reloaded" and not running:
        verb = "start"
    options = ("--no-block",) if args.get("no_block") else ()
    status["ActiveState"] = "inactive" if wanted == "stopped" else "active"
    yield from execute((*control, *options, verb, unit), _implied(unit, status))
    return True

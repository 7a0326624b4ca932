"""Makes a service run, or not, now and at boot."""

from __future__ import annotations

from typing import Any, Dict

from sappers.provisioner.modules import step, systemd
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module
from sappers.provisioner.modules.systemd import ensure_unit

# Ansible hands these on where systemd runs, as we do.
_OF_SYSTEMD = ("masked", "daemon_reload", "daemon_reexec", "no_block", "force", "scope")
SPEC = Module(
    "Make a service run, or not, now and at boot.",
    (
        Argument("name", "str", "Its name; not needed to only read units again."),
        Argument("state", "str", "", choices=("reloaded", "restarted", "started", "stopped")),
        Argument("enabled", "bool", "Whether it starts at boot."),
        Argument("use", "str", "Accepted: the host's own way is found.", default="auto"),
        Argument("sleep", "int", "Seconds between stop and start, without systemd."),
        *(
            one._replace(default=None, help="As `systemd`.")
            for one in systemd.SPEC.arguments
            if one.name in _OF_SYSTEMD
        ),
    ),
    outward=True,
    one_of=(("state", "enabled", "masked", "daemon_reload", "daemon_reexec"),),
    unsupported=(
        ("arguments", "put them into the service's unit"),
        ("args", "put them into the service's unit"),
        ("pattern", "the service has to tell its status itself"),
        ("runlevel", "runlevels are not managed"),
    ),
    returns=(("name, state, enabled", "as asked for"),),
)


def plan(task: step.Task) -> step.Plan:
    """By systemd where it runs, else by `service` and its init scripts."""
    args = task.args
    result: Dict[str, Any] = {"name": args["name"], "changed": False}
    running = yield step.Stat("/run/systemd/system")
    handed_on = {name: args[name] for name in _OF_SYSTEMD if args[name] is not None}
    if args["name"] is None and not handed_on:
        raise step.Failed("missing required arguments: name")
    if handed_on and running is None:
        names = ", ".join(handed_on)
        raise step.Failed(f"Unsupported parameters for (service) module: {names}.")
    if handed_on:
        given = {one.name: args.get(one.name) for one in systemd.SPEC.arguments}
        defaults = {one.name: one.default for one in systemd.SPEC.arguments}
        filled = {key: defaults[key] if value is None else value for key, value in given.items()}
        return (yield from systemd.plan(task._replace(args=filled)))
    if running is not None:
        return (yield from ensure_unit(("systemctl",), args, result, check=task.check))
    return (yield from _by_script(args, result))


def _by_script(args: Dict[str, Any], result: Dict[str, Any]) -> step.Plan:
    name = args["name"]
    script = yield step.Stat("/etc/init.d/" + name, True)
    if script is None:
        raise step.Failed(f"Could not find the requested service {name}")
    if args["enabled"] is not None:
        links = yield step.Glob("/etc/rc?.d/S??" + name)
        if bool(links) != args["enabled"]:
            verb = "enable" if args["enabled"] else "disable"
            yield from execute(("update-rc.d", name, "defaults"))
            yield from execute(("update-rc.d", name, verb))
            result["changed"] = True
        result["enabled"] = args["enabled"]
    if args["state"] is not None:
        topic = "service:" + name
        asked = yield step.Ask(("service", name, "status"), topic=topic)
        changed = yield from _run_script(args, name, asked.code == 0, topic)
        result["changed"] = result["changed"] or changed
        result["state"] = "stopped" if args["state"] == "stopped" else "started"
    return result


def _run_script(args: Dict[str, Any], name: str, running: bool, topic: str) -> step.Steps:
    wanted = args["state"]
    if (wanted == "started" and running) or (wanted == "stopped" and not running):
        return False
    verb = {"started": "start", "stopped": "stop", "restarted": "restart", "reloaded": "reload"}[
        wanted
    ]
    if wanted == "reloaded" and not running:
        verb = "start"
    code = 3 if wanted == "stopped" else 0
    yield from execute(("service", name, verb), ((topic, (code, b"", b"")),))
    return True

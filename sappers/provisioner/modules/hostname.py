"""Sets the host's name."""

from __future__ import annotations

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Set the host's name, now and for the next boot.",
    (
        Argument("name", "str", "The name.", required=True),
        Argument("use", "str", "Accepted: the host's own way is found."),
    ),
    returns=(("name", "the name"), ("ansible_facts", "the facts that follow from it")),
    tells_facts=True,
)

_LENGTH_MAX = 64


def plan(task: step.Task) -> step.Plan:
    """By hostnamectl where systemd runs, else by hostname and /etc/hostname."""
    name = task.args["name"]
    by_systemd = (yield step.Stat("/run/systemd/system")) is not None
    changed = yield from (_by_systemd(name) if by_systemd else _by_file(name))
    facts = {"ansible_hostname": name.split(".")[0], "ansible_nodename": name}
    facts.update(ansible_fqdn=name, ansible_domain=name.partition(".")[2])
    return {"changed": changed, "name": name, "ansible_facts": facts}


def _by_systemd(name: str) -> step.Steps:
    """Whether the name for the next boot, or the running one, had to be set."""
    if len(name) > _LENGTH_MAX:
        raise step.Failed("name cannot be longer than 64 characters on systemd servers")
    changed = False
    for kind, options in (
        ("--static", ("--pretty", "--static")),
        ("--transient", ("--transient",)),
    ):
        topic = "hostname" + kind
        asked = yield step.Ask(("hostnamectl", kind, "status"), topic=topic)
        if asked.out.strip() != name:
            implied = ((topic, (0, name.encode(), b"")),)
            yield from execute(("hostnamectl", *options, "set-hostname", name), implied)
            changed = True
    return changed


def _by_file(name: str) -> step.Steps:
    """Whether something had to be set."""
    asked = yield step.Ask(("hostname",), topic="hostname")
    stored = ((yield step.Read("/etc/hostname")) or b"").decode("utf-8", "replace").strip()
    changed = False
    if asked.out.strip() != name:
        implied = (("hostname", (0, name.encode(), b"")),)
        yield from execute(("hostname", name), implied)
        changed = True
    if stored != name:
        yield from _files.ensure_content("/etc/hostname", name.encode() + b"\n", {"mode": None})
        changed = True
    return changed

"""Sets the host's name."""

from __future__ import annotations

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.group import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Set the host's name, now and for the next boot.",
    (
        Argument("name", "str", "The name.", required=True),
        Argument("use", "str", "Accepted: the host's own way is found."),
    ),
    returns=(("name", "the name"), ("ansible_facts", "the facts that follow from it")),
)


def plan(task: step.Task) -> step.Plan:
    """The running name by hostnamectl or hostname, the next by /etc/hostname."""
    name = task.args["name"]
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
    facts = {"ansible_hostname": name.split(".")[0], "ansible_nodename": name}
    facts.update(ansible_fqdn=name, ansible_domain=name.partition(".")[2])
    return {"changed": changed, "name": name, "ansible_facts": facts}

"""What stands on a host to start its agent: the systemd unit and `agent.toml`. Pure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from sappers.config import AgentSettings, ConsulSettings
from sappers.model.image import ImageKey
from sappers.provisioner.bootstrap.founding import Founding
from sappers.provisioner.bootstrap.guest_rules import guest_limits, guest_rules
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.places import INSTALL_FOLDER, PLAYBOOKS, STATE_FOLDER

WATCHDOG_SECONDS = 30
CONSUL_FOLDER = f"{STATE_FOLDER}/consul"
# Beside Consul's folder, not in it: its agent has to have nothing to do with what others show it.
CONSUL_TOKEN_PATH = f"{STATE_FOLDER}/consul.token"

# The agent's own are those of the playbook that bootstrap runs: there a person may change them.
_ROLE_TEMPLATES = "roles/start/templates"
templates = jinja2.Environment(
    loader=jinja2.ChoiceLoader(
        [
            jinja2.PackageLoader("sappers.provisioner.bootstrap"),
            jinja2.FileSystemLoader(PLAYBOOKS / _ROLE_TEMPLATES),
        ]
    ),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 — no HTML
)


def plan_settings(
    plan: ClusterPlan, founding: Founding, name: str, image_keys: tuple[ImageKey, ...] = ()
) -> AgentSettings:
    """What one agent is told."""
    member = plan.member(name)
    return AgentSettings(
        cluster=plan.name,
        node_name=name,
        address=member.address,
        ports=plan.ports_of(name),
        peers=plan.peers_of(name),
        bootstrap=founding.voters if founding.founder == name else 0,
        voter_tag=member.voter_tag,
        zone=member.zone,
        images=member.images,
        events=member.events,
        image_keys=image_keys,
        electorate=member.electorate,
        forget_member_hours=member.forget_member_hours,
        fencing=member.fencing,
        consul=ConsulSettings(
            enabled=member.consul, token_file=CONSUL_TOKEN_PATH if member.consul else ""
        ),
    )


def render_settings(settings: AgentSettings) -> bytes:
    """`agent.toml`."""
    return templates.get_template("agent.toml.j2").render(sappers_settings=settings).encode()


def render_unit() -> bytes:
    """`sappers.service`."""
    return templates.get_template("sappers.service.j2").render(unit_values()).encode()


def unit_values() -> dict[str, Any]:
    """What the unit's template is filled with."""
    return {
        "sappers_install": INSTALL_FOLDER,
        "sappers_state": STATE_FOLDER,
        "sappers_watchdog_seconds": WATCHDOG_SECONDS,
        "sappers_guest_rules": guest_rules(),
        "sappers_guest_limits": guest_limits(),
    }


def role_source(playbooks: Path) -> bytes:
    """What the playbooks of a folder make unit and settings of, as one text.

    Of a copy the copy's own templates; the checkout's where it has none.
    """
    folders = (playbooks / _ROLE_TEMPLATES, PLAYBOOKS / _ROLE_TEMPLATES)
    folder = next(one for one in folders if one.is_dir())
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    return b"\0".join(file.read_bytes() for file in files)


def fingerprint(
    settings: AgentSettings, *, version: str, identity_digest: str, source: bytes = b""
) -> str:
    """What a running agent was started with, as one digest; it restarts when this differs.

    Peers and image keys are left out: they matter to a first meeting only, and a host that joins
    the inventory, or another control machine, must not restart all others.

    Args:
        source: Of unit and settings; see `role_source`.
    """
    lasting = msgspec.structs.replace(settings, peers=(), image_keys=())
    told = msgspec.json.encode(lasting)
    values = msgspec.json.encode(unit_values())
    parts = (told, values, source, version.encode(), identity_digest.encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()

"""A host of the inventory, its connection variables read, checked and typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sappers.provisioner.host_values import HostValues, Secret, read_boolean
from sappers.provisioner.inventory_ini import Settings
from sappers.provisioner.ssh_options import SshOptions, parse_ssh_args, read_port

# Of the names in one list a later one wins, as in Ansible.
_PASSWORD = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
_BECOME_PASSWORD = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")
_SSH_ARGS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_SSH_CONNECTIONS = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh")


@dataclass(frozen=True)
class Host:
    """A machine of the inventory with its effective variables.

    Attributes:
        groups: Names of all groups it is in, `all` too, sorted.
        variables: Effective variables; passwords are `Secret`. Templates are rendered where the
            inventory alone suffices.
        address: `ansible_host`, or the name; `~/.ssh/config` may turn it into another (HostName).
        port: None: as `~/.ssh/config` says, else 22. `user` likewise, else the one running this.
        python_interpreter: A path on the host, or None to look for one.
    """

    name: str
    groups: tuple[str, ...]
    variables: Mapping[str, Any] = field(repr=False, hash=False)
    address: str
    port: int | None = None
    user: str | None = None
    private_key_file: Path | None = None
    password: Secret | None = None
    become: bool = False
    become_user: str = "root"
    become_method: str = "sudo"
    become_password: Secret | None = None
    python_interpreter: str | None = None
    common_args: SshOptions = field(default_factory=SshOptions)


def build_host(name: str, groups: tuple[str, ...], settings: Settings, inventory: Path) -> Host:
    """A host from its effective variables.

    Raises:
        InventoryError: A connection variable is wrong; at the place where it is set.
    """
    values = HostValues(name, groups, settings, inventory)
    method = values.text("ansible_become_method") or "sudo"
    if method not in ("sudo", "ansible.builtin.sudo"):
        raise values.wrong("ansible_become_method", f"`{method}` is not supported; use sudo")
    connection = values.text("ansible_connection") or "ssh"
    if connection not in _SSH_CONNECTIONS:
        raise values.wrong("ansible_connection", f"`{connection}` is not supported; use ssh")
    key = values.text("ansible_private_key_file", "ansible_ssh_private_key_file")
    python = values.text("ansible_python_interpreter")
    return Host(
        name=name,
        groups=tuple(sorted(groups)),
        variables=values.public(secrets=_PASSWORD + _BECOME_PASSWORD),
        address=values.text("ansible_host", "ansible_ssh_host") or name,
        port=values.read(read_port, "ansible_port", "ansible_ssh_port"),
        user=values.text("ansible_user", "ansible_ssh_user"),
        private_key_file=Path(key).expanduser() if key else None,
        password=values.secret(*_PASSWORD),
        become=values.read(read_boolean, "ansible_become") or False,
        become_user=values.text("ansible_become_user", "ansible_sudo_user") or "root",
        become_method="sudo",
        become_password=values.secret(*_BECOME_PASSWORD),
        python_interpreter=None if (python or "auto").startswith("auto") else python,
        common_args=_ssh_options(values),
    )


def _ssh_options(values: HostValues) -> SshOptions:
    """All three variables as one command line, in the order in which Ansible passes them."""
    given = [name for name in _SSH_ARGS if values.text(name)]
    for name in given:
        values.read(lambda text: parse_ssh_args(str(text)), name)  # an error names its variable
    return parse_ssh_args(" ".join(values.text(name) or "" for name in given))

"""A host of the inventory, its connection variables read, checked and typed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sappers.config import ELECTORATE_SIZES, FORGET_MEMBER_HOURS, LEASE_SECONDS
from sappers.model.policy import (
    ElectorateSettings,
    EventSettings,
    FencingSettings,
    ImageSettings,
)
from sappers.provisioner.inventory.become import method_named
from sappers.provisioner.inventory.host_values import HostValues, Secret, read_boolean
from sappers.provisioner.inventory.reach import (
    FIELDS,
    SECRETS,
    SSH_ARGS,
    ssh_options,
    why_refused,
)
from sappers.provisioner.inventory.ssh_options import SshOptions, parse_ssh_args, read_port
from sappers.provisioner.inventory.tree import Origin, Setting, Settings

_AT_ONCE_MAX = 64
LOCALHOST = ("localhost", "127.0.0.1", "::1")  # this machine, where the inventory says no other


class Host(msgspec.Struct, frozen=True):
    """A machine of the inventory with its effective variables.

    Attributes:
        groups: Names of all groups it is in, `all` too, sorted.
        variables: Effective variables; passwords are `Secret`. Templates are rendered where the
            inventory alone suffices.
        settings: The same as written, with their places; what no playbook may see is missing.
        address: `ansible_host`, or the name; `~/.ssh/config` may turn it into another (HostName).
        is_local: It is this machine, without SSH.
        port: None: as `~/.ssh/config` says, else 22. `user` likewise, else the one running this.
        python_interpreter: A path on the host, or None to look for one.
        images: How much of the host's network images may take.
        events: How much of what happened it keeps.
        consul: A Consul agent of the cluster's own runs on it.
        gateway_port: Where it routes requests to services, 0 for nowhere, or None for the default.
        electorate: How many voters there should be, while this host's agent leads.
        fencing: How exclusive guests are kept from running twice, while this host's agent leads.
        forget_member_hours: After how long who is gone is forgotten, while this host's agent leads.
    """

    name: str
    groups: tuple[str, ...]
    variables: Mapping[str, Any]
    address: str
    settings: Settings = msgspec.field(default_factory=dict)
    port: int | None = None
    user: str | None = None
    private_key_file: Path | None = None
    password: Secret | None = None
    is_local: bool = False
    become: bool = False
    become_user: str = "root"
    become_method: str = "sudo"
    become_password: Secret | None = None
    python_interpreter: str | None = None
    images: ImageSettings = ImageSettings()
    events: EventSettings = EventSettings()
    consul: bool = False
    gateway_port: int | None = None
    electorate: ElectorateSettings = ElectorateSettings()
    fencing: FencingSettings = FencingSettings()
    forget_member_hours: float = FORGET_MEMBER_HOURS
    common_args: SshOptions = SshOptions()

    def __repr__(self) -> str:
        return f"Host({self.name!r})"  # its variables may hold what no log or traceback shows


def build_host(name: str, groups: tuple[str, ...], settings: Settings, inventory: Path) -> Host:
    """A host from its effective variables.

    Raises:
        InventoryError: A connection variable is wrong; at the place where it is set.
    """
    values = HostValues(name, groups, settings, inventory)
    _refuse_unheeded(values, settings)
    said: dict[str, Any] = {"address": name}
    for field_name, (names, read) in FIELDS.items():
        if (value := values.read(read, *names)) is not None:
            said[field_name] = value
    return Host(
        name=name,
        groups=tuple(sorted(groups)),
        variables=values.public(secrets=SECRETS),
        settings={key: setting for key, setting in settings.items() if key not in SECRETS},
        become=values.read(read_boolean, "ansible_become") or False,
        become_user=values.text("ansible_become_user", "ansible_sudo_user") or "root",
        become_method=values.read(_method, "ansible_become_method") or "sudo",
        images=_image_settings(values),
        events=EventSettings(**_given(values, _EVENT_VARIABLES)),
        consul=values.read(read_boolean, "consul") or False,
        gateway_port=values.read(_port_or_none, "sappers_gateway_port"),
        electorate=ElectorateSettings(**_given(values, _ELECTORATE_VARIABLES)),
        forget_member_hours=values.read(_hours, "sappers_forget_member_hours")
        or FORGET_MEMBER_HOURS,
        fencing=FencingSettings(**_given(values, _FENCING_VARIABLES)),
        common_args=_ssh_options(values),
        **said,
    )


def local_host(name: str = LOCALHOST[0]) -> Host:
    """This machine, where the inventory does not name it."""
    said = {"ansible_connection": Setting("local", Origin("(this machine)"))}
    return Host(name, ("all",), {}, address=name, settings=said, is_local=True)


def _refuse_unheeded(values: HostValues, settings: Settings) -> None:
    """Refuse what Ansible heeds and nothing does here."""
    for name, setting in settings.items():
        if hint := why_refused(name, setting.value):
            raise values.wrong(name, f"it is not supported; {hint}")


def _image_settings(values: HostValues) -> ImageSettings:
    """The agent's own settings where the inventory says nothing."""
    return ImageSettings(**_given(values, _IMAGE_VARIABLES))


def _given(
    values: HostValues, variables: Mapping[str, tuple[str, Callable[[Any], Any]]]
) -> dict[str, Any]:
    """What the inventory says, by the name of the setting."""
    read = {field: values.read(reader, name) for name, (field, reader) in variables.items()}
    return {field: value for field, value in read.items() if value is not None}


def _method(value: Any) -> str:
    return method_named(str(value))


def _one_or_more(what: str) -> Callable[[Any], float]:
    """Reads a number; `what` it is, for the error."""

    def read(value: Any) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = 0.0
        if not 1 <= number < 1e6:
            raise ValueError(f"{value!r} is no {what}: 1 or more")
        return number

    return read


_kept = _one_or_more("amount to keep")  # days, or MiB
_hours = _one_or_more("number of hours")


def _rate(value: Any) -> float:
    """Mbit a second; 0 is no bound."""
    try:
        rate = float(str(value))
    except ValueError:
        rate = -1.0
    if not 0 <= rate < 1e6:
        raise ValueError(f"{value!r} is no rate: Mbit a second, 0 for no bound")
    return rate


def _port_or_none(value: Any) -> int:
    """A port, or 0 for none."""
    text = str(value).strip()
    return 0 if text == "0" else read_port(text)


def _at_once(value: Any) -> int:
    text = str(value).strip()
    if not text.isdecimal() or not 1 <= int(text) <= _AT_ONCE_MAX:
        raise ValueError(f"{value!r} is no number from 1 to {_AT_ONCE_MAX}")
    return int(text)


def _voters(value: Any) -> int:
    text = str(value).strip()
    if not text.isdecimal() or int(text) not in ELECTORATE_SIZES:
        raise ValueError(f"{value!r}: 1, 3 or 5 voters, or 0 to let the cluster choose")
    return int(text)


def _seconds(least: float, most: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = -1.0
        if not least <= seconds <= most:
            raise ValueError(f"{value!r} is no number of seconds from {least:g} to {most:g}")
        return seconds

    return read


def _command(value: Any) -> tuple[str, ...]:
    """Program and arguments, as a shell splits them; no shell runs them."""
    words = tuple(shlex.split(str(value)))
    if words and not words[0].startswith("/"):
        raise ValueError(f"{words[0]!r}: the program's whole path is needed")
    return words


_ELECTORATE_VARIABLES: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "sappers_voters": ("size", _voters),
    "sappers_replace_voter_seconds": ("replace_after_seconds", _seconds(5, 86_400)),
}
_FENCING_VARIABLES: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "sappers_lease_seconds": ("lease_seconds", _seconds(*LEASE_SECONDS)),
    "sappers_fence_command": ("command", _command),
    "sappers_fence_seconds": ("command_seconds", _seconds(1, 600)),
}
_IMAGE_VARIABLES: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "sappers_image_download_mbit": ("download_mbit_per_second", _rate),
    "sappers_image_upload_mbit": ("upload_mbit_per_second", _rate),
    "sappers_image_downloads_at_once": ("downloads_at_once", _at_once),
    "sappers_image_uploads_at_once": ("uploads_at_once", _at_once),
}
_EVENT_VARIABLES: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "sappers_events_keep_days": ("keep_days", _kept),
    "sappers_events_keep_mib": ("keep_mib", _kept),
}


def _ssh_options(values: HostValues) -> SshOptions:
    for name in SSH_ARGS:
        values.read(lambda text: parse_ssh_args(str(text)), name)  # an error names its variable
    try:
        return ssh_options(values.text) or SshOptions()
    except ValueError as error:
        raise values.wrong("ansible_timeout", str(error)) from error

"""Which variables say how a host is reached, and what they mean.

An inventory sets them for its hosts; variables of plays, roles and tasks may say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sappers.provisioner.inventory.host_values import read_boolean, read_secret, read_text
from sappers.provisioner.inventory.ssh_options import SshOptions, parse_ssh_args, read_port

LOCAL_CONNECTIONS = ("local", "ansible.builtin.local")
SSH_CONNECTIONS = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh")


def is_local(connection: Any) -> bool:
    """Whether a connection is to this machine.

    Raises:
        ValueError: There is no such connection here.
    """
    if str(connection) not in (*SSH_CONNECTIONS, *LOCAL_CONNECTIONS):
        raise ValueError(f"`{connection}` is not supported; use ssh or local")
    return str(connection) in LOCAL_CONNECTIONS


def _text(value: Any) -> str | None:
    return read_text(value) or None


def _key_file(value: Any) -> Path | None:
    text = read_text(value)
    return Path(text).expanduser() if text else None


def _interpreter(value: Any) -> str | None:
    text = read_text(value)
    return None if text.startswith("auto") else text or None


_PASSWORD = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
_BECOME_PASSWORD = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")
SECRETS = _PASSWORD + _BECOME_PASSWORD
# Fields of `Host`; of the names of one a later one wins, as in Ansible.
FIELDS: Mapping[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "is_local": (("ansible_connection",), is_local),
    "address": (("ansible_host", "ansible_ssh_host"), _text),
    "port": (("ansible_port", "ansible_ssh_port"), read_port),
    "user": (("ansible_user", "ansible_ssh_user"), _text),
    "private_key_file": (("ansible_private_key_file", "ansible_ssh_private_key_file"), _key_file),
    "password": (_PASSWORD, read_secret),
    "become_password": (_BECOME_PASSWORD, read_secret),
    "python_interpreter": (("ansible_python_interpreter",), _interpreter),
}
# Arguments of OpenSSH, in the order in which Ansible passes them. The last are the command's own:
# no variable sets them, and all else counts more.
SSH_ARGS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
LAST_SSH_ARGS = "ansible.cfg"
_TIMEOUTS = ("ansible_ssh_timeout", "ansible_timeout")
NAMES = frozenset(
    (*SSH_ARGS, *_TIMEOUTS, *(name for names, _ in FIELDS.values() for name in names))
)
BECOME_NAMES = frozenset(("ansible_become", "ansible_become_user", "ansible_become_method"))

_FOUND_BY_PATH = "sudo, su and doas are found by PATH; leave it out"
_FLAGS = "sudo is called as -H -S; leave it out"
_CHECKED = (
    "keys of hosts are always checked; ansible_ssh_common_args='-o "
    "StrictHostKeyChecking=accept-new' remembers the key of a new host"
)
_IN_A_FILE = "set ansible_private_key_file, or add the key to ssh-agent"
_REFUSED: Mapping[str, str] = {
    **dict.fromkeys((f"ansible_{one}_exe" for one in ("become", "sudo", "su", "doas")),
                    _FOUND_BY_PATH),
    **dict.fromkeys((f"ansible_{one}_flags" for one in ("become", "sudo", "su", "doas")), _FLAGS),
    **dict.fromkeys(("ansible_su_user", "ansible_doas_user"), "set ansible_become_user"),
    **dict.fromkeys(("ansible_su_pass", "ansible_doas_pass"), "set ansible_become_password"),
    **dict.fromkeys(("ansible_private_key", "ansible_ssh_private_key",
                     "ansible_private_key_passphrase", "ansible_ssh_private_key_passphrase"),
                    _IN_A_FILE),
    "ansible_shell_executable": "write `executable` at shell, command and raw",
    "ansible_sftp_extra_args": "set ansible_ssh_common_args",
    "ansible_scp_extra_args": "set ansible_ssh_common_args",
    "ansible_paramiko_proxy_command": "set ansible_ssh_common_args='-J HOST'",
    "ansible_network_os": "network devices are not supported",
}  # fmt: skip
# Refused unless they say what is so anyway.
_REFUSED_UNLESS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("ansible_host_key_checking", "ansible_ssh_host_key_checking",
                     "ansible_paramiko_host_key_checking"), (read_boolean, _CHECKED)),
    "ansible_shell_type": (lambda value: value in ("sh", "bash"), "hosts have a POSIX shell"),
}  # fmt: skip


def why_refused(name: str, value: Any) -> str | None:
    """What to do instead of setting a variable that Ansible heeds and nothing does here."""
    if name not in _REFUSED_UNLESS:
        return _REFUSED.get(name)
    is_so_anyway, hint = _REFUSED_UNLESS[name]
    try:
        return None if is_so_anyway(value) else hint
    except ValueError:
        return hint


def fields_said(find: Callable[[str], Any]) -> dict[str, Any]:
    """Fields of `Host` by variables.

    Args:
        find: A variable's value, or None.

    Raises:
        ValueError: A value makes no sense; names the variable.
    """
    said: dict[str, Any] = {}
    for field, (names, read) in FIELDS.items():
        name, value = next(
            ((name, value) for name in reversed(names) if (value := find(name)) is not None),
            ("", None),
        )
        if value is not None:
            said[field] = _read(name, read, value)
    said["common_args"] = ssh_options(find)
    return {field: value for field, value in said.items() if value is not None}


def ssh_options(find: Callable[[str], Any], last: str = "") -> SshOptions | None:
    """All arguments as one command line; None where there are none. Raises ValueError.

    Args:
        last: Arguments below all others.
    """
    given = [(name, str(value)) for name in SSH_ARGS if (value := find(name))]
    given += [(name, f"-o ConnectTimeout={value}") for name in _TIMEOUTS if (value := find(name))]
    given += [(LAST_SSH_ARGS, last)] if last else []
    for name, text in given:
        _read(name, parse_ssh_args, text)  # an error names its variable
    return parse_ssh_args(" ".join(text for _, text in given)) if given else None


def _read(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error

"""What an `ansible.cfg` and Ansible's environment say instead of options that are not given."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from sappers.errors import ConfigError

_SYSTEM = ("~/.ansible.cfg", "/etc/ansible/ansible.cfg")
_TRUE = ("1", "on", "t", "true", "y", "yes")
# By our option: Ansible's variable, section and key, and what kind of value it is.
_KNOWN: Mapping[str, tuple[str, str, str, str]] = {
    "inventory": ("ANSIBLE_INVENTORY", "defaults", "inventory", "sources"),
    "roles_path": ("ANSIBLE_ROLES_PATH", "defaults", "roles_path", "paths"),
    "forks": ("ANSIBLE_FORKS", "defaults", "forks", "text"),
    "user": ("ANSIBLE_REMOTE_USER", "defaults", "remote_user", "text"),
    "private_key": ("ANSIBLE_PRIVATE_KEY_FILE", "defaults", "private_key_file", "path"),
    "ask_pass": ("ANSIBLE_ASK_PASS", "defaults", "ask_pass", "flag"),
    "vault_password_file": (
        "ANSIBLE_VAULT_PASSWORD_FILE", "defaults", "vault_password_file", "sources",
    ),
    "ask_vault_pass": ("ANSIBLE_ASK_VAULT_PASS", "defaults", "ask_vault_pass", "flag"),
    "force_handlers": ("ANSIBLE_FORCE_HANDLERS", "defaults", "force_handlers", "flag"),
    "become": ("ANSIBLE_BECOME", "privilege_escalation", "become", "flag"),
    "become_user": ("ANSIBLE_BECOME_USER", "privilege_escalation", "become_user", "text"),
    "become_method": ("ANSIBLE_BECOME_METHOD", "privilege_escalation", "become_method", "text"),
    "ask_become_pass": (
        "ANSIBLE_BECOME_ASK_PASS", "privilege_escalation", "become_ask_pass", "flag",
    ),
}  # fmt: skip


class HeedsAnsibleCfg(TyperCommand):
    """A command whose options have the defaults of an `ansible.cfg`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """With them, below what the command line says."""
        found = option_defaults(os.environ, Path.cwd())
        names = {parameter.name for parameter in self.params}
        own = {name: value for name, value in found.items() if name in names}
        return super().make_context(info_name, args, parent, default_map=own, **extra)


def option_defaults(environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Values of options, by their names, as Ansible would take them.

    Args:
        folder: Where the command is run.

    Raises:
        ConfigError: The file is none.
    """
    path = _file(environment, folder)
    written = _read(path) if path is not None else {}
    found: dict[str, Any] = {}
    for option, (variable, section, key, kind) in _KNOWN.items():
        if variable in environment:
            found[option] = _value(environment[variable], kind, folder)
        elif path is not None and key in written.get(section, {}):
            found[option] = _value(written[section][key], kind, path.parent)
    return found


def _file(environment: Mapping[str, str], folder: Path) -> Path | None:
    named = environment.get("ANSIBLE_CONFIG")
    candidates = [Path(named).expanduser()] if named else []
    # As Ansible: where everybody may write, anybody could have put it.
    if not folder.stat().st_mode & stat.S_IWOTH:
        candidates.append(folder / "ansible.cfg")
    candidates += [Path(one).expanduser() for one in _SYSTEM]
    return next((one.absolute() for one in candidates if one.is_file()), None)


def _read(path: Path) -> dict[str, dict[str, str]]:
    import configparser  # few have such a file

    parser = configparser.ConfigParser(
        interpolation=None, inline_comment_prefixes=(";",), strict=False
    )
    try:
        parser.read_string(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read: {message}", hint="mend it") from error
    return {name: dict(parser[name]) for name in parser.sections()}


def _value(text: str, kind: str, folder: Path) -> Any:
    """A value as an option takes it; paths are those of the file's folder."""

    def path(one: str) -> str:
        return str(folder / Path(os.path.expandvars(one.strip())).expanduser())

    if kind == "flag":
        return text.strip().lower() in _TRUE
    if kind == "path":
        return path(text)
    if kind == "paths":
        return [path(one) for one in text.split(":") if one.strip()]
    if kind == "sources":
        if text.strip().endswith(","):
            return [text.strip()]
        return [path(one) for one in text.split(",") if one.strip()]
    return text.strip()

"""What an `ansible.cfg` and Ansible's environment say instead of options that are not given."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from sappers.errors import ConfigError

_HOSTS = "/etc/ansible/hosts"
_SYSTEM = ("~/.ansible.cfg", "/etc/ansible/ansible.cfg")
# Arguments of ssh and their like, which have no option of their own, or not only.
_SSH: Mapping[str, tuple[str, str, str]] = {
    "ansible_ssh_args": ("ANSIBLE_SSH_ARGS", "ssh_connection", "ssh_args"),
    "ansible_ssh_common_args": ("ANSIBLE_SSH_COMMON_ARGS", "ssh_connection", "ssh_common_args"),
    "ansible_ssh_extra_args": ("ANSIBLE_SSH_EXTRA_ARGS", "ssh_connection", "ssh_extra_args"),
    "ansible_timeout": ("ANSIBLE_TIMEOUT", "defaults", "timeout"),
    "port": ("ANSIBLE_REMOTE_PORT", "defaults", "remote_port"),
    "checking": ("ANSIBLE_HOST_KEY_CHECKING", "defaults", "host_key_checking"),
}
# What has no option at all: by the name in `RunOptions`.
_SETTINGS: Mapping[str, tuple[str, str, str]] = {
    "gathering": ("ANSIBLE_GATHERING", "defaults", "gathering"),
    "managed": ("", "defaults", "ansible_managed"),  # no variable of the environment
}
_GATHERING = ("explicit", "implicit", "smart")
# What would change what a playbook means, and is not there: the variable, section and key, and
# what says that it is not wanted.
_REFUSED = (
    ("ANSIBLE_HASH_BEHAVIOUR", "defaults", "hash_behaviour", "replace", "the filter `combine`"),
    ("ANSIBLE_ERROR_ON_UNDEFINED_VARS", "defaults", "error_on_undefined_vars", "true",
     "the filter `default`"),
)  # fmt: skip
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
    "vault_id": ("ANSIBLE_VAULT_IDENTITY_LIST", "defaults", "vault_identity_list", "labelled"),
    "ask_vault_pass": ("ANSIBLE_ASK_VAULT_PASS", "defaults", "ask_vault_pass", "flag"),
    "force_handlers": ("ANSIBLE_FORCE_HANDLERS", "defaults", "force_handlers", "flag"),
    "diff": ("ANSIBLE_DIFF_ALWAYS", "diff", "always", "flag"),
    "tags": ("ANSIBLE_RUN_TAGS", "tags", "run", "list"),
    "skip_tags": ("ANSIBLE_SKIP_TAGS", "tags", "skip", "list"),
    "become": ("ANSIBLE_BECOME", "privilege_escalation", "become", "flag"),
    "become_user": ("ANSIBLE_BECOME_USER", "privilege_escalation", "become_user", "text"),
    "become_method": ("ANSIBLE_BECOME_METHOD", "privilege_escalation", "become_method", "text"),
    "ask_become_pass": (
        "ANSIBLE_BECOME_ASK_PASS", "privilege_escalation", "become_ask_pass", "flag",
    ),
    "become_password_file": (
        "ANSIBLE_BECOME_PASSWORD_FILE", "defaults", "become_password_file", "path",
    ),
    "connection_password_file": (
        "ANSIBLE_CONNECTION_PASSWORD_FILE", "defaults", "connection_password_file", "path",
    ),
}  # fmt: skip


class AnsibleCfg:
    """What is written, in the environment or in the file that counts.

    Args:
        folder: Where the command is run.

    Raises:
        ConfigError: The file is none.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._path = _file(environment, folder)
        self._written = _read(self._path) if self._path is not None else {}

    def option_defaults(self) -> dict[str, Any]:
        """Values of options, by their names, as Ansible would take them."""
        usual = {"inventory": [_HOSTS]} if Path(_HOSTS).exists() else {}
        return usual | {
            option: _value(*written, kind)
            for option, (variable, section, key, kind) in _KNOWN.items()
            if (written := self._find(variable, section, key)) is not None
        }

    def collections_path(self) -> list[Path]:
        """Folders of collections; none where nothing is said. As Ansible, and as it once was."""
        written = self._find("ANSIBLE_COLLECTIONS_PATH", "defaults", "collections_path")
        written = written or self._find(
            "ANSIBLE_COLLECTIONS_PATHS", "defaults", "collections_paths"
        )
        found = [Path(one) for one in _value(*written, "paths")] if written else []
        return [one.parent if one.name == "ansible_collections" else one for one in found]

    def run_settings(self) -> dict[str, Any]:
        """What has no option, by its name in `RunOptions`.

        Raises:
            ConfigError: It is none of the values there are, or changes what playbooks mean.
        """
        found: dict[str, Any] = {
            name: written[0].strip()
            for name, where in _SETTINGS.items()
            if (written := self._find(*where)) is not None
        }
        if found.get("gathering", "smart") not in _GATHERING:
            raise ConfigError(
                f"gathering = {found['gathering']}", hint=f"write one of {', '.join(_GATHERING)}"
            )
        for variable, section, key, usual, instead in _REFUSED:
            written = self._find(variable, section, key)
            said = usual if written is None else written[0].strip().lower()
            if said != usual and not (usual == "true" and said in _TRUE):
                raise ConfigError(f"{key} = {said} is not supported", hint=f"use {instead}")
        return found

    def ssh_arguments(
        self, common: str | None, extra: str | None, timeout: int | None
    ) -> dict[str, str]:
        """Arguments of ssh by the variable of Ansible that they stand in for.

        Without host_key_checking the keys of new hosts are remembered at the first meeting. One
        that has changed is refused all the same.

        Args:
            common, extra, timeout: What the command line says; it counts more.

        Raises:
            ConfigError: They cannot be heeded.
        """
        # Imported late: it takes a moment to load, and other commands do without.
        from sappers.provisioner.inventory.reach import LAST_SSH_ARGS, ssh_options

        found = {
            name: written[0].strip()
            for name, (variable, section, key) in _SSH.items()
            if (written := self._find(variable, section, key)) is not None
        }
        given = {
            "ansible_ssh_common_args": common,
            "ansible_ssh_extra_args": extra,
            "ansible_timeout": None if timeout is None else str(timeout),
        }
        found.update({name: text for name, text in given.items() if text is not None})
        last = [f"-p {port}"] if (port := found.pop("port", "")) else []
        if found.pop("checking", "yes").lower() not in _TRUE:
            last.append("-o StrictHostKeyChecking=accept-new")
        if last:
            found[LAST_SSH_ARGS] = " ".join(last)
        try:
            ssh_options(found.get, found.get(LAST_SSH_ARGS, ""))
        except ValueError as error:
            raise ConfigError(f"arguments of ssh: {error}", hint="leave them out") from error
        return found

    def _find(self, variable: str, section: str, key: str) -> tuple[str, Path] | None:
        """A value, and the folder that paths in it are of; None where nothing is said."""
        if variable in self._environment:
            return self._environment[variable], self._folder
        value = self._written.get(section, {}).get(key)
        if value is None or self._path is None:
            return None
        return value, self._path.parent


class HeedsAnsibleCfg(TyperCommand):
    """A command whose options have the defaults of an `ansible.cfg`; its context has it (`obj`)."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """With them, below what the command line says."""
        try:
            cfg = AnsibleCfg(os.environ, Path.cwd())
        except FileNotFoundError as error:
            raise ConfigError(
                "the current folder is gone", hint="cd to one that is there"
            ) from error
        names = {parameter.name for parameter in self.params}
        own = {name: value for name, value in cfg.option_defaults().items() if name in names}
        return super().make_context(info_name, args, parent, default_map=own, obj=cfg, **extra)


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


def _value(text: str, folder: Path, kind: str) -> Any:
    """A value as an option takes it; paths are those of the file's folder."""

    def path(one: str) -> str:
        return str(folder / Path(os.path.expandvars(one.strip())).expanduser())

    if kind == "flag":
        return text.strip().lower() in _TRUE
    if kind == "path":
        return path(text)
    if kind == "paths":
        return [path(one) for one in text.split(":") if one.strip()]
    if kind == "list":
        return [text]
    if kind == "labelled":
        named = (one.strip().rpartition("@") for one in text.split(",") if one.strip())
        return [
            f"{label}@{source if source == 'prompt' else path(source)}"
            for label, _, source in named
        ]
    if kind == "sources":
        if text.strip().endswith(","):
            return [text.strip()]
        return [path(one) for one in text.split(",") if one.strip()]
    return text.strip()

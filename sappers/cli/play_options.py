"""Options of the commands that run tasks on hosts: a playbook's, or one module's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import msgspec
import typer

from sappers.cli.ansible_cfg import AnsibleCfg
from sappers.cli.host_options import Check, Forks, Limit
from sappers.cli.output import Output
from sappers.errors import ConfigError, InventoryError

if TYPE_CHECKING:
    from sappers.provisioner.inventory.host_values import Secret
    from sappers.provisioner.inventory.inventory import Inventory
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
    from sappers.provisioner.playbook.tasks.options import RunOptions

Decrypt = Callable[[str], str]


class PlayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """As they were given; each field is an option of whichever command `takes_play_options`."""

    inventory: Annotated[
        list[str],
        typer.Option(
            "--inventory",
            "-i",
            help="Ansible's inventory: INI, YAML or a folder of them; or `host1,host2,`; or `-`. "
            "May be given more than once; without, /etc/ansible/hosts, else only localhost.",
        ),
    ] = msgspec.field(default_factory=list)
    limit: Limit = None
    check: Check = False
    diff: Annotated[bool, typer.Option("--diff", "-D", help="Show how files change.")] = False
    extra_vars: Annotated[
        list[str] | None,
        typer.Option("--extra-vars", "-e", help="NAME=VALUE, JSON, or @FILE; over all else."),
    ] = None
    forks: Forks = 20
    user: Annotated[
        str | None,
        typer.Option("--user", "-u", help="Log in as this user, where nothing else says."),
    ] = None
    private_key: Annotated[
        Path | None,
        typer.Option("--private-key", "--key-file", help="Log in with this key, as --user."),
    ] = None
    connection: Annotated[
        str | None,
        typer.Option("--connection", "-c", help="ssh, or local: this machine; as --user."),
    ] = None
    ssh_common_args: Annotated[
        str | None,
        typer.Option("--ssh-common-args", help="Arguments of ssh, where the inventory says none."),
    ] = None
    ssh_extra_args: Annotated[
        str | None, typer.Option("--ssh-extra-args", help="More of them; `-J`, `-o ProxyJump=…`.")
    ] = None
    timeout: Annotated[
        int | None, typer.Option("--timeout", "-T", min=1, help="Seconds for logging in.")
    ] = None
    become: Annotated[bool, typer.Option("--become", "-b", help="Become root.")] = False
    become_user: Annotated[
        str | None, typer.Option("--become-user", help="Become this user instead.")
    ] = None
    become_method: Annotated[
        str | None, typer.Option("--become-method", help="sudo, su or doas.")
    ] = None
    vault_password_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--vault-password-file",
            "--vault-pass-file",
            help="A file with a password of Vault's, or a program that prints it.",
        ),
    ] = None
    vault_id: Annotated[
        list[str] | None,
        typer.Option("--vault-id", help="As the one before: LABEL@FILE, or LABEL@prompt."),
    ] = None
    ask_vault_pass: Annotated[
        bool,
        typer.Option(
            "--ask-vault-pass", "--ask-vault-password", "-J", help="Ask for one of Vault's."
        ),
    ] = False
    ask_become_pass: Annotated[
        bool,
        typer.Option("--ask-become-pass", "-K", help="Ask for the password of sudo, su or doas."),
    ] = False
    ask_pass: Annotated[
        bool, typer.Option("--ask-pass", "-k", help="Ask for the password of SSH.")
    ] = False
    become_password_file: Annotated[
        Path | None,
        typer.Option(
            "--become-password-file",
            "--become-pass-file",
            help="A file with that password, or a program that prints it.",
        ),
    ] = None
    connection_password_file: Annotated[
        Path | None,
        typer.Option(
            "--connection-password-file",
            "--conn-pass-file",
            help="A file with that password, or a program that prints it.",
        ),
    ] = None
    skip_offline: Annotated[
        bool, typer.Option("--skip-offline", help="Leave out hosts that do not answer.")
    ] = False
    output: Annotated[
        Output, typer.Option("--output", "-o", help="json: one event a line on stdout.")
    ] = Output.TEXT

    def vault_opener(self, secrets: SecretTexts) -> Decrypt | None:
        """What opens Vault's envelopes; None where no password of it is given.

        Raises:
            ConfigError: A password cannot be had.
        """
        from sappers.cli.playbook_secrets import vault_opener

        files, ids = self.vault_password_file or [], self.vault_id or []
        return vault_opener(files, secrets, ids=ids, ask=self.ask_vault_pass)

    def ask_passwords(self, secrets: SecretTexts) -> tuple[Secret | None, Secret | None]:
        """The passwords of SSH and of sudo, su or doas, those that are asked for or in files.

        Raises:
            ConfigError: A file holds none.
        """
        from sappers.cli.playbook_secrets import ask_passwords, secret_in

        ssh, become = ask_passwords(secrets, ssh=self.ask_pass, become=self.ask_become_pass)
        if self.connection_password_file is not None and not self.ask_pass:
            ssh = secret_in(self.connection_password_file, "SSH", secrets)
        if self.become_password_file is not None and not self.ask_become_pass:
            become = secret_in(self.become_password_file, "become", secrets)
        return ssh, become

    def hosts(
        self, extra: Mapping[str, Any], decrypt: Decrypt | None, secrets: SecretTexts
    ) -> Inventory:
        """The inventory; its passwords are secrets.

        Args:
            extra: Variables that count more than those of hosts.

        Raises:
            InventoryError: It is none.
        """
        from sappers.cli.playbook_secrets import add_passwords
        from sappers.provisioner.inventory.inventory import load_inventory

        if not self.inventory:
            typer.echo("no inventory is given (-i): there is localhost alone", err=True)
        inventory = load_inventory(self.inventory, decrypt, extra)
        add_passwords(inventory, secrets)
        return inventory

    def run_options(self, cfg: AnsibleCfg, decrypt: Decrypt | None, verbosity: int) -> RunOptions:
        """What they ask of the engine.

        Args:
            decrypt: Opens files of variables that are encrypted with Vault.

        Raises:
            ConfigError: Extra variables, or arguments of ssh, are malformed.
        """
        from sappers.provisioner.playbook.tasks.options import RunOptions

        return RunOptions(
            check=self.check,
            diff=self.diff,
            extra=_extra_variables(self.extra_vars or [], decrypt),
            limit=self.limit,
            forks=self.forks,
            verbosity=verbosity,
            skip_offline=self.skip_offline,
            user=self.user,
            private_key_file=self.private_key,
            connection=self.connection,
            ssh_arguments=cfg.ssh_arguments(
                self.ssh_common_args, self.ssh_extra_args, self.timeout
            ),
            become=self.become,
            become_user=self.become_user,
            become_method=self.become_method,
            **cfg.run_settings(),
        )


def refuse_limit_to_here(limit: str | None, inventory: Inventory) -> None:
    """As Ansible: localhost alone is no limit where the inventory has other hosts.

    It is where it has failed (`@retry`). Raises InventoryError.
    """
    if limit is None or "@" in limit or not inventory.hosts:
        return
    chosen = {host.name for host in inventory.in_order_of(limit)}
    if chosen and chosen.isdisjoint(host.name for host in inventory.hosts):
        raise InventoryError(
            f"--limit {limit!r} leaves no host of the inventory",
            path=str(inventory.path),
            hint="leave out --limit: who is no host of the inventory is reached by plays that name "
            "it alone; or write it into the inventory",
        )


def takes_play_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: with the fields of `PlayOptions` in place of `given`."""
    usual = PlayOptions()
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=getattr(usual, name), annotation=hint
        )
        for name, hint in get_type_hints(PlayOptions, include_extras=True).items()
    ]
    own = inspect.signature(command, eval_str=True).parameters.values()
    seen = [two for one in own for two in (shared if one.name == "given" else [one])]

    @functools.wraps(command)
    def spread(**values: Any) -> None:
        given = PlayOptions(**{one.name: values.pop(one.name) for one in shared})
        command(given=given, **values)

    spread.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    return spread


def _extra_variables(given: list[str], decrypt: Decrypt | None) -> dict[str, Any]:
    from sappers.provisioner.playbook.language.extra_vars import read_extra_vars

    found: dict[str, Any] = {}
    for one in given:
        try:
            found.update(read_extra_vars(one, decrypt))
        except ValueError as error:
            raise ConfigError(
                f"--extra-vars {one!r}: {error}", hint="NAME=VALUE …, a JSON object, or @FILE"
            ) from error
    return found

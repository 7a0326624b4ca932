"""Options of the commands that run tasks on hosts: a playbook's, or one module's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sappers.cli.session import Output

Diff = Annotated[bool, typer.Option("--diff", "-D", help="Show how files change.")]
ExtraVars = Annotated[
    list[str] | None,
    typer.Option("--extra-vars", "-e", help="NAME=VALUE, JSON, or @FILE; over all else."),
]
User = Annotated[
    str | None, typer.Option("--user", "-u", help="Log in as this user, where nothing else says.")
]
PrivateKey = Annotated[
    Path | None,
    typer.Option("--private-key", "--key-file", help="Log in with this key, as --user."),
]
ConnectionKind = Annotated[
    str | None, typer.Option("--connection", "-c", help="ssh, or local: this machine; as --user.")
]
Become = Annotated[bool, typer.Option("--become", "-b", help="Become root.")]
BecomeUser = Annotated[str | None, typer.Option("--become-user", help="Become this user instead.")]
BecomeMethod = Annotated[str | None, typer.Option("--become-method", help="sudo, su or doas.")]
VaultPasswordFile = Annotated[
    list[Path] | None,
    typer.Option(
        "--vault-password-file",
        "--vault-pass-file",
        help="A file with a password of Vault's, or a program that prints it.",
    ),
]
VaultId = Annotated[
    list[str] | None,
    typer.Option("--vault-id", help="As the one before: LABEL@FILE, or LABEL@prompt."),
]
AskVaultPass = Annotated[
    bool,
    typer.Option("--ask-vault-pass", "--ask-vault-password", "-J", help="Ask for one of Vault's."),
]
RolesPath = Annotated[
    list[Path] | None,
    typer.Option("--roles-path", help="A folder of roles, beside the usual ones."),
]
AskBecomePass = Annotated[
    bool, typer.Option("--ask-become-pass", "-K", help="Ask for the password of sudo, su or doas.")
]
AskPass = Annotated[bool, typer.Option("--ask-pass", "-k", help="Ask for the password of SSH.")]
SshCommonArgs = Annotated[
    str | None,
    typer.Option("--ssh-common-args", help="Arguments of ssh, where the inventory says none."),
]
SshExtraArgs = Annotated[
    str | None, typer.Option("--ssh-extra-args", help="More of them; `-J`, `-o ProxyJump=…`.")
]
Timeout = Annotated[
    int | None, typer.Option("--timeout", "-T", min=1, help="Seconds for logging in.")
]
SkipOffline = Annotated[
    bool, typer.Option("--skip-offline", help="Leave out hosts that do not answer.")
]
EventOutput = Annotated[
    Output, typer.Option("--output", "-o", help="json: one event a line on stdout.")
]

"""The secrets of a run of playbooks: asked for, read, and covered wherever they would be shown."""

from __future__ import annotations

import getpass
import os
import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sappers.cli.asking import answer_to
from sappers.errors import ConfigError, SappersError
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.playbook.journal.secret_texts import SecretTexts

if TYPE_CHECKING:
    from sappers.provisioner.inventory.inventory import Inventory

Decrypt = Callable[[str], str]
_HINT_NOBODY = "give it by stdin, a line for each question, or run it at a terminal"


@contextmanager
def covered_errors(secrets: SecretTexts) -> Iterator[None]:
    """Errors that pass tell no secrets: their texts may quote values."""
    try:
        yield
    except SappersError as error:
        error.message = secrets.hidden_text(error.message)
        error.hint = error.hint and secrets.hidden_text(error.hint)
        error.args = (error.message,)
        raise


def ask_secret(what: str, secrets: SecretTexts) -> Secret:
    """A password from the person at the terminal, or from stdin where there is none."""
    text = ""
    while not text:
        text = _typed_unseen(what)
    secrets.add(text)
    return Secret(text)


def ask_passwords(
    secrets: SecretTexts, *, ssh: bool, become: bool
) -> tuple[Secret | None, Secret | None]:
    """The passwords of SSH and of sudo, su or doas, those that are asked for.

    Nothing typed for the second means that it is the first, as in Ansible.
    """
    password = ask_secret("SSH password", secrets) if ssh else None
    if not become:
        return password, None
    if password is None:
        return None, ask_secret("become password", secrets)
    typed = _typed_unseen("become password [defaults to SSH password]")
    secrets.add(typed)
    return password, Secret(typed) if typed else password


def _typed_unseen(what: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", getpass.GetPassWarning)  # it says so itself
        return answer_to(what, hint=_HINT_NOBODY, hide_input=True)


def asker(secrets: SecretTexts) -> Callable[[str, bool], str]:
    """What asks for `vars_prompt` and `pause`; what is typed unseen is a secret."""

    def ask(text: str, echo: bool) -> str:  # noqa: FBT001 — as `Run.ask` is called
        answer = answer_to(text, hint=_HINT_NOBODY, hide_input=not echo, prompt_suffix=": ")
        if not echo:
            secrets.add(answer)
        return answer

    return ask


def vault_opener(
    files: Sequence[Path], secrets: SecretTexts, *, ids: Sequence[str] = (), ask: bool = False
) -> Decrypt | None:
    """What opens Vault's envelopes with the passwords that are given; None without any.

    Args:
        ids: Sources with labels, LABEL@FILE or LABEL@prompt; each password is tried on all.

    Raises:
        ConfigError: A password cannot be had.
    """
    passwords = [_password_in(file) for file in files]
    for one in ids:
        label, _, source = one.rpartition("@")
        if source == "prompt":
            passwords.append(ask_secret(f"Vault password ({label or 'default'})", secrets).reveal())
        else:
            passwords.append(_password_in(Path(source)))
    if ask:
        passwords.append(ask_secret("Vault password", secrets).reveal())

    def decrypt(envelope: str) -> str:
        # Imported late: few inventories have envelopes.
        from sappers.security.vault import open_vault

        text = open_vault(envelope, passwords)
        secrets.add(text)
        return text

    return decrypt if passwords else None


def secret_in(file: Path, of: str, secrets: SecretTexts) -> Secret:
    """A password that a file holds, or that it prints. Raises ConfigError."""
    text = _password_in(file, of)
    secrets.add(text)
    return Secret(text)


def _password_in(file: Path, of: str = "Vault") -> str:
    """What a file holds, or what it prints if it is a program. Raises ConfigError."""
    path = file.expanduser()
    hint = f"it has to hold the password of {of}, or to be a program that prints it"
    try:
        if path.is_file() and os.access(path, os.X_OK):
            done = subprocess.run([path.absolute()], capture_output=True, text=True, check=False)
            if done.returncode:
                message = f"{path} ended with exit code {done.returncode}: {done.stderr.strip()}"
                raise ConfigError(message, hint=hint)
            text = done.stdout.strip()
        else:
            text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        message = f"the password of {of} cannot be read: {path}: {why}"
        raise ConfigError(message, hint=hint) from error
    if not text:
        raise ConfigError(f"there is no password of {of} in {path}", hint=hint)
    return text


def add_passwords(inventory: Inventory, secrets: SecretTexts) -> None:
    """The passwords that an inventory holds."""
    for host in inventory.hosts:
        for secret in (host.password, host.become_password):
            if secret is not None and secret.is_known:
                secrets.add(secret.reveal())

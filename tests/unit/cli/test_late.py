"""A command imports what it needs, and all are there for whoever asks for help."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sappers import __version__
from sappers.cli.deploy import deploy_app


def imported_by(*words: str) -> set[str]:
    """Modules of Sappers that are loaded once the command line of these words stands."""
    program = f"from sappers.cli.deploy import deploy_app; deploy_app({words!r})"
    return {name for name in loaded_by(program) if name.startswith("sappers.")}


def loaded_by(program: str, *words: str) -> set[str]:
    """All modules that are loaded at the end of a program that is given these words."""
    program += "\nimport sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_one_command_does_without_the_others() -> None:
    assert "sappers.cli.image_transfer" in imported_by("image", "push", "hello")
    assert "sappers.cli.image_build" not in imported_by("image", "push", "hello")
    assert "sappers.cli.bootstrap" not in imported_by("ps")
    assert "sappers.provisioner.source" not in imported_by("ps")  # nor YAML and templates


RUN = """
import contextlib, sys
from sappers.cli.deploy_start import main

def hear(event, _):
    if event == "socket.connect":
        print("connects" if "paramiko" in sys.modules else "dials", file=sys.stderr)

sys.addaudithook(hear)
with contextlib.suppress(SystemExit):
    main()
"""


@pytest.fixture
def play(tmp_path: Path) -> Path:
    play = tmp_path / "play.yml"
    play.write_text("- hosts: all\n  gather_facts: false\n  tasks: [{ping: }]\n")
    return play


@pytest.fixture
def loaded_by_a_run(play: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Of a host where nobody listens."""
    monkeypatch.setenv("HOME", str(play.parent))  # it has no ~/.ssh/config
    inventory = play.parent / "hosts"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        inventory.write_text(f"h ansible_host=127.0.0.1 ansible_port={port}\n")
        return loaded_by(RUN, "playbook", "run", str(play), "-i", str(inventory), "--check")


def test_a_playbook_is_run_without_what_is_for_other_commands(loaded_by_a_run: set[str]) -> None:
    slow = {"asyncio", "unittest", "pydantic", "httpx", "http.client", "cryptography.x509"}
    assert {"paramiko", "fabric", "sappers.provisioner.playbook.run.engine"} <= loaded_by_a_run
    assert not loaded_by_a_run & slow
    assert not loaded_by_a_run & {"sappers.cli.bootstrap", "invoke.vendor.yaml.reader"}
    assert not any(name.startswith("sappers.api") for name in loaded_by_a_run)


def test_hosts_are_dialled_before_ssh_is_imported(loaded_by_a_run: set[str]) -> None:
    assert "dials" in loaded_by_a_run


def test_a_playbook_is_listed_without_ssh(play: Path) -> None:
    listing = ("playbook", "run", str(play), "-i", "somewhere,", "--list-tasks")
    assert not loaded_by(RUN, *listing) & {"paramiko", "fabric"}


@pytest.mark.parametrize("words", [(), ("image",), ("image", "trust"), ("lab",)])
def test_help_names_every_command(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(deploy_app(words), [*words, "--help"])
    everything = CliRunner().invoke(deploy_app(), [*words, "--help"])
    assert shown.output == everything.output
    assert "Usage" in shown.output


def test_what_is_mistyped_is_told_from_all_of_them() -> None:
    words = ["image", "pusch"]
    assert "push" in CliRunner().invoke(deploy_app(words), words).output


def test_one_command_of_many_is_still_called_by_its_name() -> None:
    words = ["image", "schema"]
    done = CliRunner().invoke(deploy_app(words), words)
    assert done.exit_code == 0
    assert '"$schema"' in done.output or '"properties"' in done.output


def test_the_version_needs_no_command() -> None:
    done = CliRunner().invoke(deploy_app(["--version"]), ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"sappers-deploy {__version__}\n")

"""A command imports what it needs, and all are there for whoever asks for help."""

from __future__ import annotations

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


def test_a_playbook_is_run_without_what_is_for_other_commands(tmp_path: Path) -> None:
    play = tmp_path / "play.yml"
    play.write_text("- hosts: all\n  gather_facts: false\n  tasks: [{ping: }]\n")
    program = (
        "import contextlib; from sappers.cli.deploy_start import main\n"
        "with contextlib.suppress(SystemExit): main()"
    )
    words = ("playbook", "run", str(play), "-i", "somewhere,", "--list-tasks")
    loaded = loaded_by(program, *words)
    assert {"paramiko", "fabric", "sappers.provisioner.playbook.run.engine"} <= loaded
    slow = {"asyncio", "unittest", "pydantic", "httpx", "http.client", "cryptography.x509"}
    assert not loaded & slow
    assert not loaded & {"sappers.cli.bootstrap", "invoke.vendor.yaml.reader"}
    assert not any(name.startswith("sappers.api") for name in loaded)


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

"""`playbook run playbooks/bootstrap.yml`: the same as `bootstrap`, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sappers.cli.deploy import deploy_app
from sappers.errors import ConfigError
from sappers.provisioner.places import BOOTSTRAP_PLAYBOOK

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `playbook run` over a host that refuses connections."""
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("hosts.ini").write_text("lab1 ansible_host=127.0.0.1 ansible_port=1\n")
    Path("play.yml").write_text("- {hosts: all, tasks: []}\n")

    def invoke(*words: str) -> Any:
        return CliRunner().invoke(
            deploy_app(["playbook"]), ["playbook", "run", "-i", "hosts.ini", *words]
        )

    return invoke


def test_it_goes_the_way_of_bootstrap(run: Run):
    done = run(str(BOOTSTRAP_PLAYBOOK), "--check", "-o", "json")
    told = json.loads(done.stdout)
    assert done.exit_code == told["exit_code"] == 4
    assert [phase["title"] for phase in told["hosts"]["lab1"]["phases"]] == ["connect"]


@pytest.mark.parametrize("words", [("-t", "x"), ("--diff",), ("-e", "a=1"), ("--resume",)])
def test_options_that_bootstrap_does_not_have_are_refused(run: Run, words: tuple[str, ...]):
    done = run(str(BOOTSTRAP_PLAYBOOK), *words)
    assert isinstance(done.exception, ConfigError)
    assert "does not go with bootstrap.yml" in done.exception.message


def test_it_is_run_alone(run: Run):
    done = run("play.yml", str(BOOTSTRAP_PLAYBOOK))
    assert isinstance(done.exception, ConfigError)
    assert "is run alone" in done.exception.message


def test_its_tasks_can_be_listed(run: Run):
    done = run(str(BOOTSTRAP_PLAYBOOK), "--list-tasks", "--list-hosts")
    assert done.exit_code == 0
    assert "sending the agent" in done.stdout
    assert "lab1" in done.stdout

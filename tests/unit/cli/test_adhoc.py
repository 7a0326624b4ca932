"""`sappers-deploy adhoc` on this machine as hosts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sappers.cli.deploy import deploy_app
from sappers.cli.playbook_secrets import ask_passwords
from sappers.errors import SappersError
from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
from tests.waiting import wait_until

Adhoc = Callable[..., tuple[int, str]]


@pytest.fixture
def adhoc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adhoc:
    """Runs the command on all hosts; its exit code, and what it prints or is refused with."""
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts").write_text(
        "h1 ansible_connection=local\nh2 ansible_connection=local ansible_password=kept-secret\n"
    )

    def run(*words: str, answers: str = "") -> tuple[int, str]:
        command = ["adhoc", "all", "-i", "hosts", *words]
        done = CliRunner().invoke(deploy_app(["adhoc"]), command, input=answers)
        if isinstance(done.exception, SappersError):
            return 1, f"{done.exception.message} {done.exception.hint}"
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


def test_ctrl_c_ends_it_before_the_module_has_ended(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("sappers-deploy"))
    module = f"touch {tmp_path}/began; sleep 40"
    command = [program, "adhoc", "localhost", "-m", "shell", "-a", module, "-i", "localhost,"]
    with subprocess.Popen([*command, "-c", "local"], stdin=subprocess.DEVNULL) as process:
        wait_until("it runs", (tmp_path / "began").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130


def events(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_a_module_is_run_on_the_hosts_that_the_limit_leaves(adhoc: Adhoc, tmp_path: Path) -> None:
    arguments = ("-m", "copy", "-a", f"content={{{{ what }}}} dest={tmp_path}/made", "-e", "what=x")
    code, output = adhoc(*arguments, "--limit", "h2", "-o", "json")
    told = events(output)
    assert code == 0
    assert [one["host"] for one in told if one["event"] == "result"] == ["h2"]
    assert told[-1]["event"] == "recap"
    assert (tmp_path / "made").read_text() == "x"
    assert "changed=0" in adhoc(*arguments, "--limit", "h1")[1]


def test_passwords_are_asked_for_and_covered(adhoc: Adhoc) -> None:
    words = ("-a", "echo typed-one typed-two kept-secret", "-k", "-K", "-o", "json")
    code, output = adhoc(*words, answers="typed-one\ntyped-two\n")
    assert code == 0
    results = [one for one in events(output) if one["event"] == "result"]
    assert len(results) == 2
    assert not any(secret in output for secret in ("typed-one", "typed-two", "kept-secret"))


def test_passwords_in_files_are_taken_from_there_and_covered(
    adhoc: Adhoc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ssh").write_text("filed-one\n")
    (tmp_path / "become").write_text("#!/bin/sh\necho filed-two\n")
    (tmp_path / "become").chmod(0o700)
    monkeypatch.setenv("ANSIBLE_CONNECTION_PASSWORD_FILE", "ssh")
    words = ("-a", "echo filed-one filed-two", "--become-pass-file", "become")
    code, output = adhoc(*words)
    assert code == 0
    assert "******** ********" in output
    code, output = adhoc("-a", "true", "--conn-pass-file", str(tmp_path / "none"))
    assert code == 1
    assert "the password of SSH cannot be read" in output


def test_nothing_typed_for_become_is_the_password_of_ssh() -> None:
    app = typer.Typer()

    @app.command()
    def ask() -> None:
        _, become = ask_passwords(SecretTexts(), ssh=True, become=True)
        typer.echo(become.reveal() if become else None)

    assert CliRunner().invoke(app, input="\nfirst\n\n").output.endswith("first\n")
    assert CliRunner().invoke(app, input="first\nsecond\n").output.endswith("second\n")


def test_hosts_are_listed_and_a_task_in_the_background_is_left_alone(
    adhoc: Adhoc, tmp_path: Path
) -> None:
    assert "h2" in adhoc("--list-hosts")[1]
    code, output = adhoc("--list-hosts", "-a", f"touch {tmp_path}/made", "--limit", "h1")
    assert code == 0
    assert "h1" in output
    assert "h2" not in output
    assert not (tmp_path / "made").exists()
    words = ("-a", "sleep 0.1", "-B", "60", "-P", "0", "--limit", "h1", "-o", "json")
    (result,) = [one for one in events(adhoc(*words)[1]) if one["event"] == "result"]
    assert "ansible_job_id" in str(result["result"])


def test_what_fails_gives_the_exit_code_of_a_playbook(adhoc: Adhoc) -> None:
    assert adhoc("-a", "/bin/false")[0] == 2
    assert "did you mean `shell`" in adhoc("-m", "shel")[1]
    assert adhoc("-e", "{broken")[0] == 1


def test_facts_are_shown(adhoc: Adhoc) -> None:
    code, output = adhoc("-m", "setup", "-a", "filter=ansible_system", "--limit", "h1")
    assert code == 0
    assert '"ansible_system": "Linux"' in output


def test_what_a_program_prints_is_shown_as_it_is(adhoc: Adhoc) -> None:
    code, output = adhoc("-m", "shell", "-a", "echo a b; echo c; echo d >&2; exit 3", "-f", "1")
    assert code == 2
    assert "failed: [h1] rc=3\na b\nc\nd\nfailed: [h2] rc=3\na b\nc\nd\n" in output
    assert "changed: [h1] rc=0\n" in adhoc("-a", "true")[1]


def test_arguments_may_be_json(adhoc: Adhoc, tmp_path: Path) -> None:
    made = tmp_path / "made"
    words = ("-m", "copy", "--limit", "h1", "-a")
    assert adhoc(*words, json.dumps({"content": "a {{ 1 + 1 }}", "dest": str(made)}))[0] == 0
    assert made.read_text() == "a 2"
    assert "did you mean" in adhoc(*words, json.dumps({"contents": "a", "dest": str(made)}))[1]
    assert "is no name=value" in adhoc(*words, "{broken")[1]


def test_more_is_said_when_asked_for(adhoc: Adhoc) -> None:
    words = ("-a", "echo x", "--limit", "h1")
    assert "stdout_lines" not in adhoc(*words)[1]
    assert '"stdout_lines": ["x"]' in adhoc(*words, "-vvvv")[1]

"""`sappers-deploy playbook run` on this machine as hosts: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sappers.cli.deploy import deploy_app
from sappers.cli.playbook_profile import render_profile
from sappers.errors import SappersError
from sappers.provisioner.playbook.run.counts import Counts
from sappers.provisioner.playbook.run.engine import RunReport
from tests.waiting import wait_until

Deploy = Callable[..., tuple[int, str]]

PLAYBOOK = """\
- hosts: all
  gather_facts: false
  vars: {password: hush-1234}
  tasks:
    - name: first
      copy: {content: x, dest: "{{ root }}/{{ inventory_hostname }}-first"}
      tags: [files]
    - name: second
      command: test -e {{ root }}/{{ inventory_hostname }}-is-well
    - name: third
      command: echo {{ password }}
      no_log: true
"""


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deploy:
    """Runs the command; its exit code, and what it prints or is refused with."""
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts").write_text("h1 ansible_connection=local\nh2 ansible_connection=local\n")
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "h1-is-well").touch()

    def run(*words: str, answers: str = "", source: str = "hosts") -> tuple[int, str]:
        command = ["playbook", "run", "play.yml", "-i", source, "-e", f"root={tmp_path}", *words]
        done = CliRunner().invoke(deploy_app(["playbook"]), command, input=answers)
        if isinstance(done.exception, SappersError):
            return 1, f"{done.exception.message} {done.exception.hint}"
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return run


def test_without_an_inventory_there_is_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sappers.cli.ansible_cfg._HOSTS", str(tmp_path / "hosts"))
    path = tmp_path / "play.yml"
    task = '[{debug: {msg: "on {{ inventory_hostname }}"}}]'
    path.write_text(f"- {{hosts: localhost, gather_facts: false, tasks: {task}}}\n")
    command = ["playbook", "run", str(path), "-v"]
    done = CliRunner().invoke(deploy_app(["playbook"]), command)
    assert done.exit_code == 0
    assert "there is localhost alone" in done.stderr
    assert "on localhost" in done.stdout
    path.write_text(path.read_text().replace("hosts: localhost", "hosts: web"))
    (tmp_path / "hosts").write_text("[web]\nw1 ansible_connection=local\n")
    done = CliRunner().invoke(deploy_app(["playbook"]), command)
    assert "on w1" in done.stdout
    assert "localhost" not in done.stderr


def headings(output: str) -> list[str]:
    return [
        line.split("[")[1].split("]")[0] for line in output.splitlines() if line.startswith("TASK")
    ]


def test_where_a_task_stands_is_said_once_when_it_fails(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "h1-is-well").unlink()
    code, output = deploy()
    assert code == 2
    assert output.count("the task is at play.yml:8:7\n") == 1
    assert output.count("failed: [") == 2


def test_a_failed_run_is_resumed_or_retried(deploy: Deploy, tmp_path: Path) -> None:
    assert deploy("--resume") == (1, deploy("--limit", "@retry")[1])
    code, output = deploy("--resume")
    assert "none of play.yml with -i hosts has left a journal" in output
    assert "leave out --resume" in output
    code, output = deploy()
    assert code == 2
    assert headings(output) == ["first", "second", "third"]
    assert "--resume" in output.splitlines()[-1]
    assert deploy("--limit", "nobody")[0] == 1  # what cannot begin leaves the journal alone
    (tmp_path / "h2-is-well").touch()
    code, output = deploy("--limit", "@retry", "--check")
    assert (code, headings(output)) == (0, ["first", "second", "third"])
    assert "h1" not in output
    code, output = deploy("--resume", "-o", "json")
    events = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert "to be finished on h2" in events[0]["text"]
    assert [one["name"] for one in events if one["event"] == "task"] == ["second", "third"]
    assert events[-1]["hosts"]["h2"]["failed"] == 0
    code, output = deploy("--resume")
    assert "nothing is left to resume: the last run ended well on all hosts" in output
    assert "@retry" not in output  # there is no host to retry it on
    assert "no host failed" in deploy("--limit", "@retry")[1]


def test_a_run_that_does_nothing_leaves_the_run_that_failed_to_be_resumed(
    deploy: Deploy, tmp_path: Path
) -> None:
    gone = "h3 ansible_host=127.213.0.1 ansible_port=1\n"
    (tmp_path / "hosts").write_text((tmp_path / "hosts").read_text() + gone)
    assert deploy("--limit", "h1,h2")[0] == 2
    code, output = deploy("--skip-offline", "--limit", "h3")
    assert (code, headings(output)) == (0, [])
    assert "h3 : offline, left out" in output
    code, output = deploy("--tags", "nosuch", "--limit", "h1")
    assert (code, headings(output)) == (0, [])
    (tmp_path / "h2-is-well").touch()
    code, output = deploy("--resume")
    assert (code, headings(output)) == (0, ["second", "third"])


def test_a_limit_has_to_leave_a_host_of_the_inventory_unless_it_failed(
    deploy: Deploy, tmp_path: Path
) -> None:
    task = f"[{{command: 'test -e {tmp_path}/well'}}]"
    (tmp_path / "play.yml").write_text(
        f"- {{hosts: localhost, gather_facts: false, tasks: {task}}}\n"
    )
    for limit in ("localhost", "127.0.0.1", "localhost,!h1"):
        code, output = deploy("--limit", limit)
        assert (code, "leaves no host of the inventory" in output) == (1, True)
    for limit in ("localhost,h1", "@retry"):
        code, output = deploy("--limit", limit)
        assert (code, "failed: [localhost]" in output) == (2, True)
    (tmp_path / "well").touch()
    assert "localhost : ok=1" in deploy("--resume")[1]


@pytest.mark.parametrize("task", ["pause: {prompt: go, echo: false}", "command: sleep 60"])
def test_ctrl_c_ends_a_run_whatever_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    (tmp_path / "play.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        f"    - debug: {{msg: first}}\n    - {task}\n"
    )
    program = str(Path(sys.executable).with_name("sappers-deploy"))
    ours, theirs = os.openpty()
    command = [program, "playbook", "run", "play.yml", "-i", "localhost,", "-c", "local"]
    with subprocess.Popen(
        command, cwd=tmp_path, text=True, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE
    ) as process:
        journal = tmp_path / "home" / "runs"
        key = task.partition(":")[0]
        wait_until(
            "it waits",
            lambda: (
                any(key in one.read_text() for one in journal.glob("*"))
                and (key != "pause" or not termios.tcgetattr(theirs)[3] & termios.ECHO)
            ),
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    assert termios.tcgetattr(theirs)[3] & termios.ECHO
    assert "cut off; the same command goes on with --resume" in os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)


def test_a_changed_playbook_is_not_resumed(deploy: Deploy, tmp_path: Path) -> None:
    deploy()
    (tmp_path / "play.yml").write_text(PLAYBOOK.replace("test -e", "test -f"))
    code, output = deploy("--resume")
    assert code == 1
    assert "the playbook, or a file that it imports, has changed" in output
    assert "`--limit @retry` in the place of --resume" in output


def test_events_are_lines_of_json_and_hide_what_no_log_does(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "h2-is-well").touch()
    code, output = deploy("-o", "json", "--profile")
    events = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert "hush" not in output
    assert [one["event"] for one in events] == [
        "play", *["task", "result", "result"] * 3, "profile", "recap",
    ]  # fmt: skip
    result = events[2]
    assert (result["host"], result["task"], result["outcome"]) == ("h1", "first", "changed")
    assert result["result"]["dest"].endswith("h1-first")
    assert result["seconds"] > 0
    assert "result" not in events[-3]
    assert events[-1]["hosts"]["h1"] == {
        "ok": 3, "changed": 3, "unreachable": 0, "failed": 0, "skipped": 0, "rescued": 0,
        "ignored": 0,
    }  # fmt: skip


def with_secrets(tmp_path: Path, **secrets: object) -> tuple[str, ...]:
    """Three secrets: passwords of hosts; and the options by which variables hold them, too."""
    lines = [
        f"h{number} ansible_connection=local ansible_password={secret}\n"
        for number, secret in enumerate(secrets.values(), start=1)
    ]
    (tmp_path / "hosts").write_text("".join(lines))
    return ("-e", json.dumps(secrets))


def test_names_of_files_that_are_no_text_stop_nothing(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / os.fsdecode(b"caf\xe9")).touch()
    (tmp_path / "play.yml").write_text("""\
- hosts: h1
  gather_facts: false
  tasks:
    - find: {paths: "{{ root }}/odd"}
      register: found
    - name: "more of {{ found.files[0].path }}"
      file: {path: "{{ item.path }}.new", state: touch}
      loop: "{{ found.files }}"
    - command: test -e {{ root }}/well
""")
    code, output = deploy("-v", "--profile")
    assert code == 2
    assert "caf�" in output
    assert (tmp_path / "odd" / os.fsdecode(b"caf\xe9.new")).exists()
    (tmp_path / "well").touch()
    code, output = deploy("--resume", "-o", "json")
    assert code == 0
    assert json.loads(output.splitlines()[-1])["hosts"]["h1"]["ok"] == 3


def test_a_file_without_a_password_of_vault_is_told_of(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "mute").write_text("#!/bin/sh\n")
    (tmp_path / "mute").chmod(0o755)
    for name in ("empty", "mute"):
        code, output = deploy("--vault-password-file", name)
        assert code == 1
        assert f"there is no password of Vault in {name}" in output
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, why in (("nonesuch", "No such file or directory"), ("bytes", "it is no text")):
        code, output = deploy("--vault-password-file", name)
        assert code == 1
        assert f"the password of Vault cannot be read: {name}: {why}" in output


SECRETS_PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: "say {{ pin }}"
      debug: {msg: "{{ pin }}"}
    - debug: {var: count}
    - command: echo {{ word }} {{ count }}
    - command: echo {{ pin }}
      changed_when: false
      failed_when: true
      ignore_errors: true
"""


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_secret_number_covers_no_counts_of_the_run(
    deploy: Deploy, tmp_path: Path, count: int
) -> None:
    (tmp_path / "play.yml").write_text(SECRETS_PLAYBOOK)
    options = with_secrets(tmp_path, count=count, pin="ok", word="hush-1234")
    code, output = deploy(*options, "-o", "json", "--profile")
    events = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert events[-1]["hosts"]["h1"] == {
        "ok": 4, "changed": 1, "unreachable": 0, "failed": 0, "skipped": 0, "rescued": 0,
        "ignored": 1,
    }  # fmt: skip
    results = [one for one in events if one["event"] == "result" and one["host"] == "h1"]
    assert [one["outcome"] for one in results] == ["ok", "ok", "changed", "ignored"]
    assert [one["result"].get("rc") for one in results] == [None, None, 0, 0]
    assert results[0]["result"]["msg"] == "********"
    assert results[1]["result"]["count"] == "********"
    assert results[2]["result"]["stdout"] == f"******** {count}"
    assert isinstance(events[-1]["seconds"], float)
    assert "hush-1234" not in output


def test_a_short_secret_is_covered_in_text_as_in_json(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(SECRETS_PLAYBOOK)
    options = with_secrets(tmp_path, count=77, pin="ok", word="hush-1234")
    code, output = deploy(*options, "-v")
    assert code == 0
    lines = output.splitlines()
    assert 'ok: [h1] => {\n    "msg": "********"\n}\n' in output
    assert 'ok: [h1] => {\n    "count": "********"\n}\n' in output
    assert "hush-1234" not in output
    assert [line for line in lines if line.startswith("h1")] == [
        "h1 : ok=4    changed=1    unreachable=0    failed=0    skipped=0    rescued=0    ignored=1"
    ]


def test_errors_and_questions_tell_no_secrets(deploy: Deploy, tmp_path: Path) -> None:
    text = "- hosts: all\n  tasks:\n    - ping:\n      throttle: '{{ word }}'\n"
    (tmp_path / "play.yml").write_text(text)
    options = with_secrets(tmp_path, word="hush-1234")
    code, output = deploy(*options)
    assert code == 1
    assert "`throttle` takes a number; this is '********'" in output
    assert "hush-1234" not in output
    text = "- hosts: all\n  gather_facts: false\n  tasks:\n    - ping:\n      name: hush-1234\n"
    (tmp_path / "play.yml").write_text(text)
    _, output = deploy(*options, "--step", answers="c\n")
    assert "run task [********]?" in output
    assert "hush-1234" not in output


def test_a_password_that_a_task_gives_a_host_is_covered(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text("""\
- hosts: h1
  gather_facts: false
  tasks:
    - add_host: {name: h9, ansible_connection: local, ansible_password: hush-1234}
      no_log: true
    - debug: {msg: hush-1234}
""")
    code, output = deploy()
    assert (code, "hush-1234" in output) == (0, False)
    assert 'ok: [h1] => {\n    "msg": "********"\n}\n' in output


def test_an_inventory_that_changed_is_read_again_when_a_task_says_so(
    deploy: Deploy, tmp_path: Path
) -> None:
    (tmp_path / "play.yml").write_text("""\
- hosts: h1
  gather_facts: false
  tasks:
    - add_host: {name: added, ansible_connection: local}
    - shell: echo "h3 ansible_connection=local" >> {{ inventory_file }}
    - debug: {msg: "{{ groups.all | sort }}"}
    - meta: refresh_inventory
    - debug: {msg: "{{ groups.all | sort }}"}
- hosts: h3
  gather_facts: false
  tasks: [{ping: }]
""")
    code, output = deploy("-o", "json")
    events = [json.loads(line) for line in output.splitlines()]
    said = [one["result"].get("msg") for one in events if one["event"] == "result"]
    assert code == 0
    assert [one for one in said if isinstance(one, list)] == [
        ["added", "h1", "h2"], ["added", "h1", "h2", "h3"],
    ]  # fmt: skip
    assert events[-1]["hosts"]["h3"]["ok"] == 1


@pytest.mark.parametrize("gathered", [True, False])
def test_a_file_of_variables_may_be_named_by_a_fact_and_is_missed_once_there_are_facts(
    deploy: Deploy, tmp_path: Path, gathered: bool
) -> None:
    (tmp_path / "Linux.yml").write_text("of_system: said\n")
    (tmp_path / "play.yml").write_text(f"""\
- hosts: h1
  gather_facts: {str(gathered).lower()}
  vars_files: ["{{{{ ansible_system }}}}.yml"]
  tasks:
    - debug: {{msg: "it is {{{{ of_system | default('not known') }}}}"}}
- hosts: h1
  vars_files: ["{{{{ nowhere }}}}.yml"]
  tasks:
    - ping:
""")
    code, output = deploy()
    assert code == 1
    assert "'nowhere' is undefined" in output
    code, output = deploy("-e", "nowhere=Linux")
    assert code == 0
    assert f"it is {'said' if gathered else 'not known'}" in output


def test_a_run_starts_at_a_task(deploy: Deploy) -> None:
    assert headings(deploy("--start-at-task", "sec*", "-l", "h1")[1]) == ["second", "third"]
    assert "no task is called 'nope'" in deploy("--start-at-task", "nope")[1]
    code, output = deploy("--start-at-task", "second", "--tags", "files")
    assert (code, "no task is called" in output) == (1, True)
    assert "first" not in deploy("--start-at-task", "third", "--list-tasks")[1]


def test_step_asks_before_each_task(deploy: Deploy) -> None:
    code, output = deploy("--step", "-l", "h1", answers="n\ny\n\n")
    assert (code, headings(output)) == (0, ["second"])
    code, output = deploy("--step", "-l", "h1", answers="c\n")
    assert (code, headings(output)) == (0, ["first", "second", "third"])
    assert "--step" in deploy("--step", "--resume")[1]


def test_where_nobody_answers_it_is_said_what_was_not_done_and_how_to_go_on(deploy: Deploy) -> None:
    code, output = deploy("--step", "-l", "h1", answers="y\n")
    assert code == 1
    assert "nobody answers “run task [second]? (N)o/(y)es/(c)ontinue”: stdin has ended" in output
    assert "--step --start-at-task second" in output
    code, output = deploy("--ask-become-pass")
    assert code == 1
    assert "nobody answers “become password”: stdin has ended" in output


def test_hosts_that_do_not_answer_are_left_out_or_unreachable(
    deploy: Deploy, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text(
        "h1 ansible_connection=local\nh3 ansible_host=127.213.0.1 ansible_port=1\n"
        "h4 ansible_host=no-such-host.invalid\n"
    )
    code, output = deploy()
    assert code == 4
    assert "unreachable: [h3]" in output
    assert "unreachable: [h4]" in output
    code, output = deploy("--skip-offline")
    assert code == 0
    assert "h3 : offline, left out" in output
    assert "h4 : offline, left out" in output
    assert "unreachable=1" not in output


def test_inventories_of_all_forms(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text("ansible_connection: local\n")
    for source, answers in (("h1,", ""), ("-", "all: {hosts: {h1: }}\n")):
        code, output = deploy(answers=answers, source=source)
        assert (code, headings(output)) == (0, ["first", "second", "third"]), output


def test_what_tags_there_are_is_listed(deploy: Deploy, tmp_path: Path) -> None:
    code, output = deploy("--list-tags")
    assert (code, output.splitlines()) == (0, ["play: all", "  tags:    [files]"])
    assert "  first    [files]" in deploy("--list-tags", "--list-tasks")[1].splitlines()
    # Whoever looks for tags looks for those, too, that have to be asked for.
    (tmp_path / "play.yml").write_text(PLAYBOOK.replace("[files]", "[never, wipe]"))
    assert "[never, wipe]" in deploy("--list-tags")[1]
    assert "first" not in deploy("--list-tags", "--list-tasks")[1]


@pytest.mark.parametrize("count", [2, 30])
def test_a_profile_fits_a_terminal_and_is_read_without_colours(count: int) -> None:
    hosts = [f"a-host-with-a-long-name-{number}" for number in range(count)]
    tasks = {
        (number, f"task {number} " + "x" * 60): dict.fromkeys(hosts, 0.1 * number)
        for number in range(1, 31)
    }
    report = RunReport({host: Counts() for host in hosts}, (), 60.0, dict.fromkeys(hosts, 3.0))
    out = io.StringIO()
    Console(file=out, width=80, no_color=True).print(render_profile(tasks, report))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line.startswith("task 5 ") for line in lines)  # of the shorter ones
    assert "and 10 shorter tasks, 5.50 s together" in lines
    assert next(line for line in lines if line.startswith("task 30 ")).count("█") == 20
    assert any("▒" in line and "46.50" in line and "10.50" in line for line in lines)


@pytest.mark.parametrize(
    ("play", "where", "message"),
    [
        ("hosts: nosuch", "play.yml:1:10", "host pattern 'nosuch'"),
        ("hosts: all\n  vars_files: [no.yml]", "play.yml:2:16", "there is no no.yml"),
    ],
)
def test_what_a_play_names_and_is_not_there_is_said_at_its_place_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, play: str, where: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    (tmp_path / "play.yml").write_text(f"- {play}\n")
    command = ["playbook", "run", "play.yml", "-i", "h1,"]
    done = CliRunner().invoke(deploy_app(["playbook"]), command)
    assert f"{where}: " in str(done.exception)
    assert message in str(done.exception)
    assert "PLAY" not in done.output


def test_of_values_in_vault_those_that_are_used_need_a_password(
    deploy: Deploy, tmp_path: Path
) -> None:
    def playbook(name: str) -> None:
        (tmp_path / "play.yml").write_text(
            "- hosts: h1\n"
            "  gather_facts: false\n"
            "  vars:\n"
            "    sealed: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      6162\n"
            "    open: seen\n"
            '    all: ["{{ sealed }}"]\n'
            f'  tasks: [{{debug: {{msg: "{{{{ {name} }}}}"}}}}]\n'
        )

    (tmp_path / "group_vars").mkdir(exist_ok=True)
    (tmp_path / "group_vars/all.yml").write_text(
        "ansible_become_password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n"
    )
    playbook("open")
    assert "seen" in deploy()[1]
    for used in ("sealed", "all"):
        playbook(used)
        code, said = deploy()
        assert code
        assert "play.yml:4:13: it is encrypted with Vault, and no password is given" in said
        assert "6162" not in said


def test_who_did_a_task_instead_is_named(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(
        "- hosts: h1\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - {command: 'true', delegate_to: h2}\n"
        "    - {command: 'true', delegate_to: '{{ item }}', loop: [h1, h2]}\n"
    )
    output = deploy()[1]
    assert "changed: [h1 -> h2]\n" in output
    assert "changed: [h1 -> h2] => (item=h2)" in output
    lines = [json.loads(line) for line in deploy("-o", "json")[1].splitlines()]
    results = [one for one in lines if one["event"] == "result"]
    assert [one["delegates"] for one in results] == [["h2"], ["h1", "h2"]]


def test_a_host_that_no_group_names_is_in_the_group_of_such(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(
        "".join(
            f"- hosts: {pattern}\n"
            "  gather_facts: false\n"
            "  tasks: [{debug: {msg: '{{ inventory_hostname }} {{ group_names }}'}}]\n"
            for pattern in ("all", "localhost")
        )
    )
    (tmp_path / "some").write_text(
        "solo ansible_connection=local\n[web]\nh1 ansible_connection=local\n"
    )
    output = deploy(source="some")[1]
    for said in ("solo ['ungrouped']", "h1 ['web']", "localhost []"):
        assert said in output


def test_what_is_included_is_named(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_text("- debug: {msg: '{{ told.include | default(0) }}'}\n")
    (tmp_path / "play.yml").write_text(
        "- hosts: h1\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - {include_tasks: more.yml, register: told}\n"
        "    - {include_tasks: '{{ item }}.yml', loop: [more]}\n"
    )
    output = deploy()[1]
    assert "included: more.yml for h1\n" in output
    assert "included: more.yml for h1 => (item=more)\n" in output
    assert '"msg": "more.yml"' in output


def test_what_people_are_told_is_shown_whole_and_of_items_by_their_label(
    deploy: Deploy, tmp_path: Path
) -> None:
    (tmp_path / "play.yml").write_text("""\
- hosts: h1
  gather_facts: false
  tasks:
    - debug: {msg: ["{{ item.name }}", two]}
      loop: [{name: ann, key: long-1}]
      loop_control: {label: "{{ item.name }}"}
    - debug: {var: item}
      loop: [one]
    - assert: {that: item, success_msg: well}
      loop: [true]
    - assert: {that: true, success_msg: unsaid, quiet: true}
    - assert: {that: "1 > 2", fail_msg: one is less, quiet: true}
      ignore_errors: true
""")
    code, output = deploy()
    assert code == 0
    assert (
        'ok: [h1] => (item=ann) => {\n    "msg": [\n        "ann",\n        "two"\n    ]\n}\n'
        in output
    )
    assert "long-1" not in output
    assert '    "item": "one"' in output
    assert '    "msg": "well"' in output
    assert "unsaid" not in output
    assert '"msg": "one is less"' in output


def test_a_play_without_hosts_says_so_and_after_a_failure_no_other_playbook_begins(
    deploy: Deploy, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("h1 ansible_connection=local\n[none]\n")
    of_none = "- hosts: none\n  gather_facts: false\n  tasks: [{ping: }]\n"
    (tmp_path / "other.yml").write_text(of_none + of_none.replace("none", "h1"))
    code, output = deploy("other.yml")
    assert code == 0
    assert "PLAY [none] " in output
    assert "skipping: no hosts matched\n\nPLAY [h1] " in output
    (tmp_path / "h1-is-well").unlink()
    code, output = deploy("other.yml")
    assert code == 2
    assert "PLAY [none]" not in output


def test_a_template_that_says_neither_yes_nor_no_fails_and_tells_nothing(
    deploy: Deploy, tmp_path: Path
) -> None:
    for keyword, shown in (
        ("no_log", "not shown"),
        ("check_mode", "`check_mode`: 'ture' is neither"),
    ):
        (tmp_path / "play.yml").write_text(
            "- hosts: h1\n"
            "  gather_facts: false\n"
            "  vars: {said: ture}\n"
            "  tasks:\n"
            f"    - {{command: 'touch ran', {keyword:>12}: '{{{{ said }}}}'}}\n"
        )
        code, output = deploy()
        assert code == 2
        assert shown in output
        assert not (tmp_path / "ran").exists()


def test_a_profile_tells_tasks_without_a_name_apart(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(
        "- hosts: h1\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - command: 'true'\n"
        "    - {name: called, command: 'true'}\n"
        "    - command: 'true'\n"
    )
    _, output = deploy("--profile")
    rows = output.partition("RECAP")[0] + output.partition("task  ")[2]
    for row in ("command (play.yml:4) ", "called  ", "command (play.yml:6) "):
        assert row in rows

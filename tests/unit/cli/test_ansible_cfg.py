"""Options that are not given are what an `ansible.cfg`, or Ansible's environment, says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sappers.cli.ansible_cfg import AnsibleCfg
from sappers.cli.deploy import deploy_app
from sappers.errors import ConfigError
from tests.unit.security.test_vault import ENVELOPE

CFG = """\
[defaults]
inventory = hosts/lab, hosts/more
roles_path = vendor:/srv/roles
host_key_checking = False
remote_user = ada  ; who else
forks = 7
[privilege_escalation]
become = True
become_ask_pass = no
[ssh_connection]
pipelining = True
"""


def begin_in(
    folder: Path, files: Iterable[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be in a folder with these files, as who begins there."""
    monkeypatch.setenv("SAPPERS_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    for name, text in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_a_file_says_what_options_are(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text(CFG)
    assert AnsibleCfg({}, tmp_path).option_defaults() == {
        "inventory": [str(tmp_path / "hosts/lab"), str(tmp_path / "hosts/more")],
        "roles_path": [str(tmp_path / "vendor"), "/srv/roles"],
        "user": "ada",
        "forks": "7",
        "become": True,
        "ask_become_pass": False,
    }


def test_the_environment_counts_more_and_may_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "other.cfg").write_text(CFG)
    work = tmp_path / "work"
    work.mkdir()
    environment = {"ANSIBLE_CONFIG": str(tmp_path / "other.cfg"), "ANSIBLE_INVENTORY": "h1,h2,"}
    found = AnsibleCfg(environment, work).option_defaults()
    assert (found["inventory"], found["user"]) == (["h1,h2,"], "ada")


def test_a_file_that_anybody_could_have_put_there_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text(CFG)
    tmp_path.chmod(0o777)
    assert "inventory" not in AnsibleCfg({}, tmp_path).option_defaults()


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("inventory = x\n")
    with pytest.raises(ConfigError, match=r"ansible\.cfg cannot be read"):
        AnsibleCfg({}, tmp_path).option_defaults()


def test_arguments_of_ssh_are_taken_over_and_no_new_key_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\nhost_key_checking = False\nremote_port = 2222\ntimeout = 7\n"
        "[ssh_connection]\nssh_args = -C -o ControlMaster=auto -o ControlPersist=60s\n"
        "ssh_common_args = -J gate\n"
    )
    assert AnsibleCfg({}, tmp_path).ssh_arguments("-J door", None, 9) == {
        "ansible_ssh_args": "-C -o ControlMaster=auto -o ControlPersist=60s",
        "ansible_ssh_common_args": "-J door",
        "ansible_timeout": "9",
        "ansible.cfg": "-p 2222 -o StrictHostKeyChecking=accept-new",
    }
    cfg = AnsibleCfg({"ANSIBLE_SSH_ARGS": "-o ForwardAgent=yes"}, tmp_path)
    with pytest.raises(ConfigError, match="ansible_ssh_args: `forwardagent` is not supported"):
        cfg.ssh_arguments(None, None, None)


def test_a_run_takes_inventory_and_roles_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = (
        ("ansible.cfg", "[defaults]\ninventory = hosts\nroles_path = vendor\n"),
        ("hosts", "h1 ansible_connection=local\n"),
        ("vendor/mine/tasks/main.yml", "- debug: {msg: from the role}\n"),
        ("collections/ansible_collections/a/b/roles/c/tasks/main.yml", "- debug: {msg: of a.b}\n"),
        ("play.yml", "- hosts: all\n  gather_facts: false\n  roles: [mine, a.b.c]\n"),
    )
    begin_in(tmp_path, files, monkeypatch)
    done = CliRunner().invoke(deploy_app(["playbook"]), ["playbook", "run", "play.yml"])
    assert done.exit_code == 0
    assert "from the role" in done.output
    assert "of a.b" in done.output
    adhoc = ["adhoc", "all", "-m", "ping"]
    assert CliRunner().invoke(deploy_app(["adhoc"]), adhoc).exit_code == 0
    # The command line counts more.
    done = CliRunner().invoke(
        deploy_app(["adhoc"]), [*adhoc, "-i", "h9,", "--check", "-c", "local"]
    )
    assert "[h9]" in done.output


def test_a_run_looks_for_collections_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = (
        ("ansible.cfg", "[defaults]\ninventory = hosts\ncollections_path = none:more\n"),
        ("hosts", "h1 ansible_connection=local\n"),
        ("more/ansible_collections/a/b/roles/c/tasks/main.yml", "- debug: {msg: of a.b}\n"),
        ("play.yml", "- hosts: all\n  gather_facts: false\n  roles: [a.b.c]\n"),
    )
    begin_in(tmp_path, files, monkeypatch)
    app, command = deploy_app(["playbook"]), ["playbook", "run", "play.yml"]
    assert "of a.b" in CliRunner().invoke(app, command).output
    there = str(tmp_path / "more/ansible_collections")  # as Ansible takes it, too
    for variable in ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_COLLECTIONS_PATHS"):
        assert AnsibleCfg({variable: there}, tmp_path / "..").collections_path() == [
            tmp_path / "more"
        ]


def test_a_password_of_vault_may_come_from_a_program(tmp_path: Path) -> None:
    from sappers.cli.playbook_secrets import vault_opener
    from sappers.provisioner.playbook.journal.secret_texts import SecretTexts

    program = tmp_path / "password"
    program.write_text("#!/bin/sh\necho secret pass\n")
    program.chmod(0o700)
    secrets = SecretTexts()
    decrypt = vault_opener((), secrets, ids=[f"lab@{program}"])
    assert decrypt is not None
    assert decrypt(ENVELOPE) == "a: hidden ü\nb: 2\n"
    assert secrets.hidden_text("it is hidden ü") == "it is ********"
    program.write_text("#!/bin/sh\necho locked >&2; exit 3\n")
    with pytest.raises(ConfigError, match="exit code 3: locked"):
        vault_opener([program], secrets)


def test_passwords_of_vault_may_have_labels_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\nvault_identity_list = one@p1, two@~/p2, @prompt\n"
    )
    found = AnsibleCfg({}, tmp_path).option_defaults()["vault_id"]
    assert found == [f"one@{tmp_path}/p1", f"two@{Path.home()}/p2", "@prompt"]


def _project(folder: Path, cfg: str) -> None:
    for name, text in (
        ("ansible.cfg", cfg),
        ("hosts", "h1 ansible_connection=local\n"),
        ("t.j2", "# {{ ansible_managed }}\n"),
        ("play.yml", PLAY),
    ):
        (folder / name).write_text(text)


PLAY = """\
---
- hosts: all
  tasks:
    - debug: {msg: "one {{ ansible_facts.os_family is defined }}"}
      tags: wanted
- hosts: all
  gather_facts: yes
  tasks:
    - template: {src: t.j2, dest: "{{ playbook_dir }}/made"}
      tags: wanted
    - debug: {msg: not wanted}
"""


def test_when_facts_are_gathered_which_tags_and_whether_differences_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAPPERS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    cfg = "[defaults]\ninventory = hosts\nansible_managed = by {file}, not by hand\ngathering = "
    _project(tmp_path, cfg + "smart\n[diff]\nalways = yes\n[tags]\nrun = wanted\n")
    app, command = deploy_app(["playbook"]), ["playbook", "run", "play.yml"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert done.output.count("Gathering Facts") == 1
    assert "one True" in done.output
    assert "not wanted" not in done.output
    assert "+# by t.j2, not by hand" in done.output
    assert (tmp_path / "made").read_text() == "# by t.j2, not by hand\n"
    _project(tmp_path, cfg + "explicit\n")
    done = CliRunner().invoke(app, command)
    assert "one False" in done.output
    assert "not wanted" in done.output
    _project(tmp_path, cfg + "often\n")
    assert "smart" in str(CliRunner().invoke(app, command).exception.hint)


def test_what_changes_what_a_playbook_means_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("[defaults]\nhash_behaviour = merge\n")
    with pytest.raises(ConfigError, match="hash_behaviour = merge is not supported") as caught:
        AnsibleCfg({}, tmp_path).run_settings()
    assert "combine" in str(caught.value.hint)
    assert not AnsibleCfg({"ANSIBLE_HASH_BEHAVIOUR": "replace"}, tmp_path).run_settings()


def test_a_folder_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    begin_in(gone, [], monkeypatch)
    gone.rmdir()
    done = CliRunner().invoke(deploy_app(["playbook"]), ["playbook", "run", "play.yml"])
    assert isinstance(done.exception, ConfigError)
    assert "the current folder is gone" in str(done.exception)

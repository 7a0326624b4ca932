"""Where a task runs and as whom: a variable counts more than a keyword, and that than an option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sappers.errors import PlaybookError
from sappers.provisioner.inventory.host import Host
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.journal.ledger import Ledger
from sappers.provisioner.playbook.journal.secret_texts import SecretTexts
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.language.model import Inherited, Task
from sappers.provisioner.playbook.run.engine import Engine
from sappers.provisioner.playbook.run.links import HostLinks
from sappers.provisioner.playbook.tasks.options import RunOptions
from sappers.provisioner.playbook.tasks.variables import HostFacts, Scope, as_source
from sappers.provisioner.playbook.tasks.ways import Way, way_of
from sappers.provisioner.playbook.templates.functions import make_templates
from sappers.provisioner.source import Place
from tests.unit.provisioner.playbook.lines import Lines

TEMPLATES = make_templates()
PLACE = Place("play.yml", 3, 5)


def sources(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: as_source(value, PLACE) for name, value in variables.items()}


def way(
    keywords: dict[str, Any] | None = None,
    over: dict[str, Any] | None = None,
    inventory: dict[str, Any] | None = None,
    options: RunOptions | None = None,
) -> Way:
    task = Task(PLACE, "ping", {}, Inherited(settings=sources(keywords or {})))
    scope = Scope(TEMPLATES, [sources(over or {})], HostFacts(), [sources(inventory or {})])
    return way_of(task, scope, options or RunOptions())


def test_what_only_the_inventory_says_is_left_to_it() -> None:
    said = {"ansible_user": "root", "ansible_host": "10.0.0.1", "ansible_port": 2222}
    assert way(inventory=said) == Way()


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"over": {"ansible_user": "ann"}}, {"user": "ann"}),
        ({"over": {"ansible_ssh_user": "ann", "ansible_user": "bob"}}, {"user": "ann"}),
        ({"over": {"ansible_host": "{{ a }}", "a": "10.1"}}, {"address": "10.1"}),
        ({"over": {"ansible_port": "2222"}}, {"port": 2222}),
        ({"over": {"ansible_connection": "local"}}, {"is_local": True}),
        ({"over": {"ansible_connection": "smart"}}, {"is_local": False}),
        ({"over": {"ansible_python_interpreter": "/usr/bin/python3"}},
         {"python_interpreter": "/usr/bin/python3"}),
        ({"over": {"ansible_private_key_file": "/k"}}, {"private_key_file": Path("/k")}),
        ({"over": {"ansible_become_password": "p"}}, {"become_password": Secret("p")}),
        ({"over": {"ansible_password": "p"}}, {"password": Secret("p")}),
        ({"keywords": {"remote_user": "ann"}}, {"user": "ann"}),
        ({"keywords": {"remote_user": "ann"}, "inventory": {"ansible_user": "bob"}}, {}),
        ({"keywords": {"remote_user": "ann"}, "over": {"ansible_user": "bob"}}, {"user": "bob"}),
        ({"options": RunOptions(user="eve")}, {"user": "eve"}),
        ({"options": RunOptions(user="eve"), "keywords": {"remote_user": "a"}}, {"user": "a"}),
        ({"options": RunOptions(user="eve"), "inventory": {"ansible_ssh_user": "a"}}, {}),
        ({"options": RunOptions(private_key_file=Path("k"))}, {"private_key_file": Path("k")}),
        ({"options": RunOptions(connection="local")}, {"is_local": True}),
        ({"keywords": {"connection": "local"}}, {"is_local": True}),
        ({"keywords": {"connection": "ssh"}, "options": RunOptions(connection="local")},
         {"is_local": False}),
        ({"keywords": {"connection": "local"}, "inventory": {"ansible_connection": "ssh"}}, {}),
        ({"keywords": {"port": "22"}}, {"port": 22}),
    ],
)  # fmt: skip
def test_how_a_host_is_reached(given: dict[str, Any], fields: dict[str, Any]) -> None:
    assert dict(way(**given).reached) == fields


def test_arguments_of_ssh_are_those_of_all_layers() -> None:
    found = way(
        over={"ansible_ssh_extra_args": "-p 77"}, inventory={"ansible_ssh_common_args": "-J jump"}
    )
    options = dict(found.reached)["common_args"]
    assert (options.port, options.proxy_jump) == (77, "jump")


def test_arguments_of_the_command_line_are_below_those_of_variables() -> None:
    arguments = {
        "ansible_ssh_common_args": "-J a -p 1",
        "ansible_timeout": "9",
        "ansible.cfg": "-p 2",
    }
    given = RunOptions(ssh_arguments=arguments)
    options = dict(way(options=given).reached)["common_args"]
    assert (options.port, options.proxy_jump, options.connect_timeout_seconds) == (1, "a", 9)
    found = way(options=given, inventory={"ansible_ssh_common_args": "-J b"})
    options = dict(found.reached)["common_args"]
    assert (options.port, options.proxy_jump) == (2, "b")


@pytest.mark.parametrize(
    ("given", "user"),
    [
        ({}, None),
        ({"keywords": {"become": True}}, "root"),
        ({"keywords": {"become": True, "become_user": "ann"}}, "ann"),
        ({"keywords": {"become_user": "ann"}}, None),
        ({"keywords": {"become": False}, "inventory": {"ansible_become": "yes"}}, "root"),
        ({"keywords": {"become": True}, "over": {"ansible_become_user": "bob"}}, "bob"),
        ({"options": RunOptions(become=True, become_user="eve")}, "eve"),
    ],
)
def test_whom_a_task_runs_as(given: dict[str, Any], user: str | None) -> None:
    assert way(**given).user == user


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"over": {"ansible_timeout": "long"}}, "ansible_timeout: ConnectTimeout=long is no"),
        ({"over": {"ansible_port": "many"}}, "ansible_port: 'many' is no port"),
        ({"over": {"ansible_connection": "docker"}}, "ansible_connection: `docker` is not"),
        ({"over": {"ansible_user": {"a": 1}}}, "ansible_user: expected a text"),
        ({"keywords": {"delegate_to": "{{ '' }}"}}, "no name of a host"),
        ({"keywords": {"become": True, "become_method": "{{ 'runas' }}"}}, "`runas` is not"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises((PlaybookError, ValueError), match=message):
        way(**given)


def test_a_link_is_anothers_where_the_host_is_reached_in_another_way() -> None:
    links, host = HostLinks(), Host("h", (), {}, "127.0.0.1", is_local=True)
    as_ann = links.link(host, (("user", "ann"),))
    assert as_ann is links.link(host, (("user", "ann"),))
    assert as_ann.host.user == "ann"
    assert links.link(host) is not as_ann
    links.drop("h")
    assert links.link(host, (("user", "ann"),)) is not as_ann
    links.close()


Play = Callable[..., Lines]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def run(text: str, secrets: SecretTexts | None = None) -> Lines:
        (tmp_path / "inventory.ini").write_text("h1 ansible_connection=local\nh2 ansible_host=h1\n")
        (tmp_path / "play.yml").write_text(text)
        watcher = Lines()
        inventory = load_inventory(tmp_path / "inventory.ini")
        engine = Engine(inventory, RunOptions(), watcher, ledger=Ledger(secrets=secrets))
        engine.run(load_playbook(tmp_path / "play.yml"))
        return watcher

    return run


HEAD = "- hosts: h1\n  gather_facts: false\n  tasks:\n"


def test_become_of_the_host_itself_is_not_that_of_whom_a_task_is_delegated_to(play: Play) -> None:
    text = """
    - set_fact: {ansible_become: true, ansible_become_user: no-such-user}
    - command: "true"
      delegate_to: localhost
    - command: "true"
"""
    assert [line.split()[-1] for line in play(HEAD + text).lines] == ["ok", "changed", "failed"]


def test_a_password_that_a_play_gives_is_covered(play: Play) -> None:
    secrets = SecretTexts()
    play(HEAD + "    - ping:\n      vars: {ansible_become_password: correct horse}\n", secrets)
    assert secrets.hidden_text("it is correct horse") == "it is ********"


def test_a_play_on_this_machine_does_not_take_the_link_of_one_that_was_not(play: Play) -> None:
    text = """
- hosts: h2
  gather_facts: false
  tasks: [{ping: , ignore_unreachable: true, vars: {ansible_port: 9, ansible_host: 127.0.0.1}}]
- hosts: h2
  gather_facts: false
  connection: local
  tasks: [{ping: }]
"""
    assert play(text).lines == ["h2 ping unreachable", "h2 ping ok"]


def test_tasks_know_how_their_host_is_reached_where_nobody_says_so(play: Play) -> None:
    text = """
- hosts: h2
  gather_facts: false
  tasks:
    - assert: {that: ["ansible_connection == 'ssh'", "ansible_host == 'h1'"]}
    - assert: {that: ansible_ssh_host == 'h1' and ansible_user is undefined}
    - assert: {that: "(ansible_connection, ansible_user) == ('local', 'ann')"}
      connection: local
      remote_user: "{{ 'ann' }}"
    - assert: {that: "'ansible_connection' not in hostvars.h2"}
    - assert: {that: "(ansible_ssh_user, ansible_ssh_host) == ('bob', 'there')"}
      vars: {ansible_user: bob, ansible_host: there}
      remote_user: ann
      connection: local
    - command: "true"
      connection: "{{ 'local' if ansible_host == 'h1' else 'ssh' }}"
"""
    assert play(text).lines == ["h2 assert ok"] * 5 + ["h2 command changed"]


def test_a_keyword_may_ask_what_nobody_says(play: Play) -> None:
    """Playbooks give a usual user so; what the keyword makes of it is no answer to itself."""
    text = """
- hosts: h2
  gather_facts: false
  connection: "{{ ansible_connection | default('local') }}"
  remote_user: "{{ ansible_user | default('ann') }}"
  tasks:
    - assert: {that: "(ansible_connection, ansible_user) == ('local', 'ann')"}
    - assert: {that: ansible_user == 'bob'}
      vars: {ansible_user: bob}
    - assert: {that: "(who, ansible_user, ansible_ssh_user) == ('eve', 'eve', 'eve')"}
      vars: {who: "{{ ansible_user | default('eve') }}"}
      remote_user: "{{ who }}"
    - assert: {that: ansible_user == 'joe'}
      remote_user: "{{ ansible_ssh_user | default('joe') }}"
"""
    assert play(text).lines == ["h2 assert ok"] * 4

"""Runs on this machine as hosts: what only a run shows, beside what the corpus has."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sappers.errors import InventoryError, PlaybookError
from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.run.engine import Engine
from sappers.provisioner.playbook.tasks.options import RunOptions
from tests.unit.provisioner.playbook.lines import Lines

Run = Callable[..., Lines]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def play(text: str, hosts: str = "h1", *, checked: bool = False, **options: object) -> Lines:
        lines = "".join(f"{name} ansible_connection=local\n" for name in hosts.split())
        (tmp_path / "inventory.ini").write_text(lines)
        (tmp_path / "play.yml").write_text(text)
        watcher = Lines()
        inventory = load_inventory(tmp_path / "inventory.ini")
        engine = Engine(inventory, RunOptions(**options), watcher)
        plays = load_playbook(tmp_path / "play.yml")
        if checked:
            engine.check(plays)
        watcher.report = engine.run(plays)
        return watcher

    return play


HEAD = "- hosts: all\n  gather_facts: false\n  tasks:\n"


def test_what_cannot_be_included_fails_the_host_and_can_be_rescued(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "self.yml").write_text("- include_tasks: self.yml\n")
    text = (
        "  - block: [{include_tasks: nope.yml}]\n    rescue: [{ping: }]\n"
        "  - block: [{include_role: {name: nope}}]\n    rescue: [{ping: }]\n"
        "  - include_tasks: self.yml\n  - ping:\n"
    )
    done = run(HEAD + text)
    assert done.lines[:4] == [
        "h1 include_tasks failed",
        "h1 ping ok",
        "h1 include_role : nope failed",
        "h1 ping ok",
    ]
    assert done.lines[-1] == "h1 include_tasks failed"
    assert "without end" in done.results[-1].result["msg"]


def test_each_batch_has_its_heading_and_those_that_never_began_are_not_counted(run: Run) -> None:
    text = """
- hosts: all
  name: Batches
  gather_facts: false
  serial: 1
  tasks:
    - command: test {{ inventory_hostname }} = h1
"""
    done = run(text, hosts="h1 h2 h3")
    assert done.lines == ["h1 command changed", "h2 command failed"]
    assert done.plays == [("Batches", 0), ("Batches", 1)]
    assert list(done.report.counts) == ["h1", "h2"]


@pytest.mark.parametrize(
    ("serial", "where", "said"),
    [
        ("abc", "4:11", "'abc'"),
        ("[1, x%]", "4:15", "'x%'"),
        ("{a: b}", "4:11", "{'a': 'b'}"),
        ('"{{ sizes }}"', "4:11", "'two'"),
    ],
)
def test_a_batch_that_is_no_number_is_told_where_it_is_written(
    run: Run, serial: str, where: str, said: str
) -> None:
    first = "- hosts: all\n  vars: {sizes: [1, two]}\n  gather_facts: false\n"
    text = f"{first}  serial: {serial}\n  tasks: [{{ping: }}]\n"
    with pytest.raises(PlaybookError, match=rf"play\.yml:{where}: serial: {re.escape(said)}"):
        run(text, checked=True)


def test_one_that_is_written_is_refused_before_an_earlier_play_runs(
    run: Run, tmp_path: Path
) -> None:
    second = "- hosts: all\n  serial: abc\n  tasks: [{ping: }]\n"
    with pytest.raises(PlaybookError, match=r"play\.yml:6:11: serial: 'abc'"):
        run(f"{HEAD}  - command: touch {tmp_path}/began\n{second}", checked=True)
    assert not (tmp_path / "began").exists()


@pytest.mark.parametrize("serial", ["0", "-1", "[1, 0]", "'-50%'"])
def test_no_host_at_once_means_all_that_are_left(run: Run, serial: str) -> None:
    text = f"- hosts: all\n  gather_facts: false\n  serial: {serial}\n  tasks: [{{ping: }}]\n"
    done = run(text, hosts="h1 h2 h3")
    assert done.lines == ["h1 ping ok", "h2 ping ok", "h3 ping ok"]
    assert len(done.plays) == (2 if "," in serial else 1)


@pytest.mark.parametrize("number", [".nan", "1e400", "many", "[]"])
@pytest.mark.parametrize("keyword", ["retries", "delay"])
def test_what_is_no_number_fails_the_task(run: Run, keyword: str, number: str) -> None:
    done = run(f"{HEAD}  - command: /bin/false\n    until: false\n    {keyword}: {number}\n")
    assert done.lines == ["h1 command failed"]
    assert f"`{keyword}` takes a number" in done.results[-1].result["msg"]


def test_a_play_without_tasks_for_a_host_counts_nothing_of_it(run: Run) -> None:
    done = run("- hosts: h1\n  gather_facts: false\n  tasks: []\n")
    assert (done.plays, dict(done.report.counts)) == ([("h1", 0)], {})


def test_what_is_not_supported_is_refused_where_facts_say_that_it_is_reached(run: Run) -> None:
    first = "  - command: touch {{ playbook_dir }}/began\n"
    wrong = """  - debug: {msg: "{{ [1] | a.b.c }}"}\n    when: inventory_hostname == 'h2'\n"""
    done = run(HEAD + first + wrong, checked=True)
    assert done.lines == ["h1 command changed", "h1 debug skipped"]
    with pytest.raises(PlaybookError, match=r"play\.yml:5:28: .*No filter named 'a.b.c'"):
        run(HEAD + first.replace("began", "again") + wrong, hosts="h1 h2", checked=True)
    assert not any(one.endswith("again") for one in done.lines)


def test_what_a_failed_batch_would_have_set_is_not_set(run: Run) -> None:
    text = """
  - block:
      - command: /bin/false
      - set_fact: {x: set}
      - ping:
    rescue:
      - debug: {msg: "{{ x | default('not set') }}"}
"""
    done = run(HEAD + text)
    assert done.lines == ["h1 command failed", "h1 debug ok"]
    assert done.results[-1].result["msg"] == "not set"


def test_what_a_task_writes_here_templates_of_the_next_read(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "made"
    text = f"""
  - copy: {{content: one, dest: {path}}}
  - debug: {{msg: "{{{{ lookup('file', '{path}') }}}} {{{{ '{path}' is file }}}}"}}
  - copy: {{src: {path}, dest: {path}-too}}
"""
    done = run(HEAD + text)
    assert done.results[1].result["msg"] == "one True"
    assert path.with_name("made-too").read_text() == "one"


def test_tasks_on_one_hosts_own_files_go_in_one_request(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sappers.provisioner.executor.task_session import TaskSession
    from sappers.provisioner.playbook.run import request

    monkeypatch.setattr(request, "is_here", lambda _: False)  # this machine is taken for another
    sizes: list[int] = []
    ask = TaskSession.run

    def counted(self, groups, blobs, *listeners):
        sizes.append(len(groups))
        return ask(self, groups, blobs, *listeners)

    monkeypatch.setattr(TaskSession, "run", counted)
    root = tmp_path / "out"
    text = f"""
  - file: {{path: {root}/a, state: directory}}
  - copy: {{content: x, dest: {root}/a/x}}
    register: made
  - set_fact: {{y: 1}}
  - lineinfile: {{path: {root}/a/x, line: "{{{{ y }}}}"}}
  - stat: {{path: {root}/a/x}}
  - file: {{path: {root}/b, state: touch}}
    when: made is changed
"""
    done = run(HEAD + text)
    assert sizes == [4, 1]  # only the last had to know what came of the copy
    assert [line.split()[-1] for line in done.lines] == [
        "changed", "changed", "ok", "changed", "ok", "changed",
    ]  # fmt: skip


def test_a_user_without_a_home_runs_programs_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    assert run(HEAD + "  - command: pwd\n").results[0].result["stdout"] == "/"


def test_a_task_that_may_see_others_waits_for_them(run: Run, tmp_path: Path) -> None:
    text = f"""
  - shell: sleep 0.3; touch {tmp_path}/slow
    when: inventory_hostname == 'h2'
  - command: test -e {tmp_path}/slow
"""
    assert "failed" not in " ".join(run(HEAD + text, hosts="h1 h2").lines)


def test_secrets_of_no_log_are_not_in_what_a_run_shows(run: Run) -> None:
    from io import StringIO

    from rich.console import Console

    from sappers.cli.playbook_view import TaskLines

    done = run(HEAD + "  - shell: echo hidden; exit 1\n    no_log: true\n    loop: [hidden]\n")
    shown = StringIO()
    TaskLines(Console(file=shown), verbosity=3).result("h1", done.results[-1])
    assert "failed: [h1]" in shown.getvalue()
    assert "hidden" not in shown.getvalue()


@pytest.mark.parametrize(
    "task",
    [
        """debug: var="{{ r.stdout }}" """,
        """debug: {var: "{{ r.stdout }}"}""",
        """debug: {var: "{{ r.stdout }} + r.stdout"}""",
        """assert: {that: "{{ r.stdout }}"}""",
        """assert: {that: ["{{ r.stdout }}"]}""",
        """ping:\n    when: r.stdout""",
        """ping:\n    when: "{{ r.stdout }}" """,
        """include_tasks: {file: pings.yml, apply: {when: "{{ r.stdout }}"}}""",
    ],
)
def test_what_a_host_says_is_never_an_expression(run: Run, tmp_path: Path, task: str) -> None:
    (tmp_path / "pings.yml").write_text("- ping:\n")
    said = f"lookup('pipe', 'touch {tmp_path}/pwned')"
    text = f"""
  - command:
      argv: [printf, "%s", "{said}"]
    register: r
  - {task}
"""
    done = run(HEAD + text)
    assert not (tmp_path / "pwned").exists()
    last = done.results[-1]
    assert last.failed or last.result["{{ r.stdout }}"] == said


def test_debug_shows_an_expression_by_its_text(run: Run) -> None:
    text = """
  - debug: {var: "[1, 2] | sum"}
  - debug: var=nope.nope
  - debug: {var: [a]}
"""
    done = [one.result for one in run(HEAD + text).results]
    assert done[0]["[1, 2] | sum"] == 3
    assert done[1]["nope.nope"] == "VARIABLE IS NOT DEFINED!"
    assert done[2]["failed"]
    assert "expression" in done[2]["msg"]


def test_assert_takes_one_condition_with_commas(run: Run) -> None:
    assert run(HEAD + "  - assert: {that: '2 in [1, 2]'}\n").lines == ["h1 assert ok"]


def test_a_hosts_facts_do_not_say_how_hosts_are_reached(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sappers.provisioner.executor.task_session import TaskSession

    ask = TaskSession.run
    steering = [
        "become", "become_user", "become_password", "host", "ssh_host", "port", "user",
        "connection", "ssh_common_args", "private_key_file", "python_interpreter",
        "sudo_pass", "remote_user",
    ]  # fmt: skip
    lies: dict[str, object] = {}
    for name in steering:
        lies.update({"ansible_" + name: "evil", name: "evil"})
    lies |= {"ansible_hostname": "told", "ansible_ssh_host_key_rsa_public": "key"}

    def hostile(self, groups, blobs, taken, *more):
        def lying(at, one):
            taken(at, {**one, "ansible_facts": dict(lies)})

        return ask(self, groups, blobs, lying, *more)

    monkeypatch.setattr(TaskSession, "run", hostile)
    text = """
  - ping:
  - debug: {msg: "{{ ansible_facts }}"}
  - setup:
  - debug: {msg: "{{ ansible_facts }}"}
  - debug: {msg: "{{ ansible_become | default('no') }} {{ ansible_connection }}"}
  - set_fact: {ansible_become: false}
  - debug: {var: ansible_become}
"""
    done = [one.result for one in run(HEAD + text).results if one.task.module == "debug"]
    assert done[0]["msg"] == {}
    assert done[1]["msg"] == {"hostname": "told", "ssh_host_key_rsa_public": "key"}
    assert done[2]["msg"] == "no local"
    assert done[3]["ansible_become"] is False


def test_all_facts_of_setup_are_facts(run: Run) -> None:
    done = run(HEAD + "  - setup:\n  - debug: {msg: '{{ ansible_facts.keys() | list }}'}\n")
    told = {name.removeprefix("ansible_") for name in done.results[0].result["ansible_facts"]}
    kept = set(done.results[1].result["msg"])
    assert kept == told - {"local"} | {"ansible_local"}


SECRET = "shell: echo hidden\n        no_log: true\n        register: s\n        "


@pytest.mark.parametrize(
    "task",
    [
        SECRET + "until: s.stdout\n        retries: 1",
        SECRET + "failed_when: s.stdout",
        SECRET + "changed_when: s.stdout",
        SECRET + "until: s.stdout != 'hidden'\n        retries: 1\n        delay: 0",
        SECRET + "loop: '{{ secret }}'",
        SECRET + "become: '{{ secret | int_of }}'",
        SECRET + "delegate_to: '{{ secret.split() | no_such_thing }}'",
        SECRET + "when: secret",
        SECRET + "retries: '{{ secret }}'",
        "copy: {dest: /nowhere, content: x, backup: '{{ secret }}'}\n        no_log: true",
        "ping:\n        no_log: '{{ secret + 1 }}'",
        "include_vars: {file: '{{ secret }}'}\n        no_log: true",
    ],
)
def test_errors_under_no_log_tell_no_values(run: Run, task: str) -> None:
    from io import StringIO

    from rich.console import Console

    from sappers.cli.playbook_view import TaskLines

    text = f"""
  - block:
      - set_fact: {{secret: hidden}}
        no_log: true
      - {task}
    rescue:
      - debug: {{msg: "{{{{ ansible_failed_result.msg }}}}"}}
"""
    done = run(HEAD + text)
    assert done.results[-1].task.module == "debug"
    assert done.results[-2].no_log
    shown = StringIO()
    for one in done.results:
        TaskLines(Console(file=shown), verbosity=3).result("h1", one)
    assert "hidden" not in shown.getvalue()


def test_max_fail_percentage_and_limit(run: Run) -> None:
    text = HEAD.replace("gather", "max_fail_percentage: 40\n  gather") + (
        "  - fail:\n    when: inventory_hostname == 'h1'\n  - ping:\n"
    )
    assert "h2 ping ok" in run(text, hosts="h1 h2 h3").lines
    assert "h2 ping ok" not in run(text, hosts="h1 h2").lines
    assert run(text, hosts="h1 h2 h3", limit="h3").lines == ["h3 fail skipped", "h3 ping ok"]
    with pytest.raises(InventoryError, match="'h1:!h1' leaves no host"):
        run(text, hosts="h1 h2 h3", limit="h1:!h1")


def test_what_a_task_of_check_mode_would_do_is_not_there_for_others(
    run: Run, tmp_path: Path
) -> None:
    text = f"""
  - file: {{path: {tmp_path}/a, state: directory}}
    check_mode: true
  - stat: {{path: {tmp_path}/a}}
    check_mode: true
  - stat: {{path: {tmp_path}/a}}
  - copy: {{content: x, dest: {tmp_path}/b}}
    check_mode: true
  - copy: {{content: x, dest: {tmp_path}/b}}
"""
    done = run(HEAD + text)
    assert [one.result["stat"]["exists"] for one in done.results[1:3]] == [False, False]
    assert done.lines[-1] == "h1 copy changed"
    assert (tmp_path / "b").read_text() == "x"


def test_vars_prompt_asks_unless_the_variable_is_given(tmp_path: Path) -> None:
    (tmp_path / "inventory.ini").write_text("h1 ansible_connection=local\n")
    (tmp_path / "play.yml").write_text("""
- hosts: all
  gather_facts: false
  vars: {who: world, usually: usual}
  vars_prompt:
    - {name: a, prompt: first, private: false, confirm: true}
    - {name: b, prompt: "Hello {{ who }}", default: "{{ usually }}"}
    - {name: c, prompt: third}
  tasks:
    - debug: {msg: "{{ a }} {{ b }} {{ c }}"}
""")
    asked: list[tuple[str, bool]] = []
    answers = iter(["one", "other", "one", "one", ""])

    def ask(text: str, echo: bool) -> str:
        asked.append((text, echo))
        return next(answers)

    inventory, lines = load_inventory(tmp_path / "inventory.ini"), Lines()
    engine = Engine(inventory, RunOptions(extra={"c": "given"}), lines, ask=ask)
    engine.run(load_playbook(tmp_path / "play.yml"))
    assert lines.results[0].result["msg"] == "one usual given"
    assert asked[:2] == [("first", True), ("confirm first", True)]
    assert asked[-1] == ("Hello world [usual]", False)
    with pytest.raises(PlaybookError, match="nobody is there to be asked for a"):
        Engine(inventory, RunOptions(extra={"c": 1}), lines).run(
            load_playbook(tmp_path / "play.yml")
        )


def test_a_task_that_asks_is_told_of_before_its_question(tmp_path: Path) -> None:
    (tmp_path / "inventory.ini").write_text("h[1:2] ansible_connection=local\n")
    (tmp_path / "more.yml").write_text("- {name: more, pause: {prompt: and}}\n")
    (tmp_path / "play.yml").write_text("""
- hosts: all
  gather_facts: false
  tasks:
    - {name: before, debug: {msg: x}}
    - {name: ask, pause: {prompt: "which {{ item }}"}, loop: [one, two]}
    - {name: not asked, pause: {prompt: what}, when: false}
    - {name: again, include_tasks: more.yml, loop: [1, 2]}
""")
    told: list[str] = []

    class Told(Lines):
        def task(self, task: Task, name: str) -> None:
            super().task(task, name)
            told.append(name)

    def ask(text: str, _: bool) -> str:
        told.append(text)
        return ""

    inventory = load_inventory(tmp_path / "inventory.ini")
    engine = Engine(inventory, RunOptions(), Told(), ask=ask)
    engine.run(load_playbook(tmp_path / "play.yml"))
    assert told == [
        *("before", "ask", "which one", "which two", "not asked"),
        *("again", "more", "and", "more", "and"),
    ]


def test_throttle_and_pause_between_items(run: Run, tmp_path: Path) -> None:
    text = f"""
  - shell: mkdir {tmp_path}/busy && sleep 0.1 && rmdir {tmp_path}/busy
    throttle: 1
  - command: date +%s%N
    loop: [1, 2]
    loop_control: {{pause: 0.2}}
    register: times
  - assert:
      that: times.results[1].stdout | int - times.results[0].stdout | int > 200000000
"""
    assert "failed" not in " ".join(run(HEAD + text, hosts="h1 h2 h3").lines)


def test_a_host_does_not_choose_where_fetch_writes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    text = f"""
  - command: {{argv: [printf, "%s", ../../x]}}
    register: said
  - copy: {{content: mine, dest: {tmp_path}/f}}
  - fetch: {{src: {tmp_path}/f, dest: "{tmp_path}/kept/{{{{ said.stdout }}}}/"}}
    ignore_errors: true
  - fetch: {{src: "{{{{ said.stdout }}}}/../{tmp_path}/f", dest: {tmp_path}/kept}}
    ignore_errors: true
  - add_host: {{name: "{{{{ said.stdout }}}}"}}
    ignore_errors: true
  - add_host: {{name: new, ansible_host: "{{{{ '{{{{' }}}} ansible_password }}}}"}}
    ignore_errors: true
"""
    done = run(HEAD + text)
    assert [line.split()[-1] for line in done.lines[2:]] == ["ignored"] * 4
    assert "another folder" in done.results[2].result["msg"]
    kept = [path for path in tmp_path.rglob("f") if path != tmp_path / "f"]
    assert all(path.is_relative_to(tmp_path / "kept") for path in kept)


UNSUPPORTED = """
  - file: {{path: {0}/first, state: touch}}
  - set_fact: {{late: true}}
  - yum_repository: {{name: a}}
    when: {1}
  - ping:
"""


def test_a_module_that_is_not_there_may_stand_under_a_condition_that_does_not_hold(
    run: Run, tmp_path: Path
) -> None:
    done = run(HEAD + UNSUPPORTED.format(tmp_path, "inventory_hostname == 'other'"))
    assert done.lines[-2:] == ["h1 yum_repository skipped", "h1 ping ok"]


def test_one_that_is_sure_to_be_reached_is_refused_before_anything_runs(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(PlaybookError, match=r"play.yml:7:5: .*`yum_repository`") as caught:
        run(HEAD + UNSUPPORTED.format(tmp_path, "inventory_hostname == 'h1'"))
    assert "deb822_repository" in str(caught.value.hint)
    assert not (tmp_path / "first").exists()


def test_one_that_only_the_run_shows_to_be_reached_fails_there(run: Run, tmp_path: Path) -> None:
    done = run(HEAD + UNSUPPORTED.format(tmp_path, "late"))
    assert done.lines[-1] == "h1 yum_repository failed"
    assert "play.yml:7:5: the module" in done.results[-1].result["msg"]


@pytest.mark.parametrize(
    ("task", "lines"),
    [
        ("{npm: {name: x}, loop: '{{ [] }}'}", ["h1 npm skipped"]),
        ("{npm: {name: x}, with_items: '{{ nothing | default([]) }}'}", ["h1 npm skipped"]),
        ("{copy: {dest: /x, content: x, attributes: +i}, when: false}", ["h1 copy skipped"]),
        ("{pip: {name: x, virtualenv: '{{ omit }}', executable: pip3}, when: false}",
         ["h1 pip skipped"]),
    ],
)  # fmt: skip
def test_what_is_not_supported_stops_nothing_where_it_is_not_reached(
    run: Run, task: str, lines: list[str]
) -> None:
    assert run(f"{HEAD}  - {task}\n").lines == lines


def test_an_argument_that_is_not_supported_is_refused_once_its_condition_holds(run: Run) -> None:
    with pytest.raises(PlaybookError, match="`attributes` is not supported"):
        run(HEAD + "  - ping:\n  - {copy: {dest: /x, content: x, attributes: +i}, when: true}\n")
    with pytest.raises(PlaybookError, match="`npm` is not supported"):
        run(HEAD + "  - ping:\n  - {npm: {name: x}, loop: '{{ [1] }}'}\n")


def test_facts_that_a_task_tells_are_known_to_the_next_and_no_other_names(run: Run) -> None:
    text = """
  - getent: {database: passwd, key: root}
  - debug: {msg: "{{ getent_passwd.root[1] }} {{ ansible_facts.getent_passwd.root[1] }}"}
  - setup:
  - debug: {msg: "{{ hostname is defined }} {{ ansible_hostname is defined }}"}
"""
    done = run(HEAD + text)
    assert done.results[1].result["msg"] == "0 0"
    assert done.results[3].result["msg"] == "False True"


def test_a_block_calls_handlers_for_all_its_tasks(run: Run) -> None:
    text = """
- hosts: all
  gather_facts: false
  tasks:
    - notify: outer
      block:
        - command: echo
          notify: inner
        - {ping: , notify: never}
  handlers:
    - {name: inner, ping: }
    - {name: outer, ping: }
    - {name: never, ping: }
"""
    assert run(text).lines[2:] == ["h1 inner ok", "h1 outer ok"]


def test_what_only_the_run_shows_to_be_wrong_is_said_with_its_place(run: Run) -> None:
    text = """
  - wait_for: {port: "{{ 'many' }}"}
    ignore_errors: true
  - template: {src: none.j2, dest: /x}
    ignore_errors: true
"""
    messages = [one.result["msg"] for one in run(HEAD + text).results]
    assert "play.yml:5:22: wait_for: port: 'many' is no whole number" in messages[0]
    assert "play.yml:7:5: there is no none.j2 here" in messages[1]


def test_a_computed_name_includes_only_what_is_kept_as_a_template(run: Run, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "secrets.yml").write_text("beside the playbook")
    (tmp_path / "templates/kept.j2").write_text("kept as a template")
    for name, include in (("a", "said"), ("b", "'secrets.yml'"), ("c", "'../secrets.yml'")):
        (tmp_path / f"templates/{name}.j2").write_text(f"{{% include {include} %}}")
    task = "  - debug: {{msg: \"{{{{ lookup('template', '{}.j2') }}}}\"}}\n    vars: {{said: {}}}\n"
    asked = [("a", "kept.j2"), ("b", "x"), ("a", "secrets.yml"), ("c", "x"), ("a", "/etc/hostname")]
    done = [run(HEAD + task.format(*one)).results[-1].result["msg"] for one in asked]
    assert done[:2] == ["kept as a template", "beside the playbook"]
    assert all("there is no template" in message for message in done[2:])


@pytest.mark.parametrize(
    ("outer", "inner", "where", "problem"),
    [
        ("1\n{% include 'inner.j2' %}\n", "1\n2\n{{ nope }}\n", "inner.j2:3:4", "'nope' is undef"),
        (
            "{% include 'inner.j2' %}\n",
            "1\n{{ 1 }} {{ x | lost }}\n",
            "inner.j2:2:16",
            "named 'lost'",
        ),
        ("#jinja2: trim_blocks: False\n1\n {{ x } }}\n", "", "outer.j2:3:7", "unexpected '}'"),
        ("1\n{{ 2 }}: {{ a.nope }}\n", "", "outer.j2:2:15", "has no attribute 'nope'"),
        ("1\n x {{ 1 / 0 }}\n", "", "outer.j2:2:4", "division by zero"),
        ("{% if a %}\n", "", "outer.j2:1:9", "'endif'"),
    ],
)
def test_an_error_in_a_template_file_names_its_place_and_that_of_the_task(
    run: Run, tmp_path: Path, outer: str, inner: str, where: str, problem: str
) -> None:
    (tmp_path / "outer.j2").write_text(outer)
    (tmp_path / "inner.j2").write_text(inner)
    task = (
        "  - name: fill\n    vars: {a: {}}\n    template: {src: outer.j2, dest: /nonexistent/x}\n"
    )
    message = run(HEAD + task).results[0].result["msg"]
    assert message.startswith(f"{tmp_path}/{where}: ")
    assert problem in message
    assert f", in the task 'fill' at {tmp_path}/play.yml:4:5" in message


def test_what_is_undefined_in_an_expression_names_the_column_of_its_name(run: Run) -> None:
    text = "  - debug:\n      msg: |\n        one\n        {{ 1 }} {{ nope }}\n"
    assert "play.yml:7:20: 'nope' is undefined" in run(HEAD + text).results[0].result["msg"]


@pytest.mark.parametrize(
    ("tags", "skipped", "lines"),
    [
        ("", "always", ["h1 ping ok"]),
        ("  tags: mine\n", "always", ["h1 Gathering Facts ok", "h1 ping ok"]),
        ("  tags: mine\n", "mine", []),
    ],
)
def test_facts_are_not_gathered_where_their_tags_are_skipped(
    run: Run, tags: str, skipped: str, lines: list[str]
) -> None:
    text = f"- hosts: all\n{tags}  tasks: [{{ping: }}]\n"
    assert run(text, skip_tags=frozenset({skipped})).lines == lines


def test_what_a_task_announces_for_itself_alone_is_not_taken_for_done(
    run: Run, tmp_path: Path
) -> None:
    copy = f"copy: {{content: x, dest: {tmp_path}/f}}"
    alone = f"    - {{{copy}, check_mode: true}}\n"
    text = HEAD + alone + alone + f"    - {copy}\n" + alone
    outcomes = [f"h1 copy {word}" for word in ("changed", "changed", "changed", "ok")]
    assert run(text, check=True).lines == outcomes
    assert run(text).lines == outcomes

"""Loading: what is wrong is refused before anything runs, with file, line, column and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language.extra_vars import read_extra_vars
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.language.model import Block, Task


def load(tmp_path: Path, text: str):
    path = tmp_path / "play.yml"
    path.write_text(text)
    return load_playbook(path)


def tasks(*lines: str) -> str:
    return "- hosts: all\n  tasks:\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        ("- hosts: all\n  tasks:\n\t- ping:\n", "3:1", "found character", "spaces"),
        ("hosts: all\n", "1:1", "a list of plays", "- hosts"),
        ("- tasks: []\n", "1:3", "no `hosts`", "hosts: all"),
        ("- hosts: all\n  task: []\n", "2:3", "`task` is no keyword of a play", "`tasks`"),
        (
            "- {hosts: all, user: a, remote_user: b}\n",
            "1:16",
            "`user` is `remote_user`",
            "leave it",
        ),
        ("- hosts: all\n  hosts: b\n", "2:3", "'hosts' is here twice, first in line 1", None),
        (tasks("- pingg:"), "3:7", "`pingg` is neither a keyword nor a module", "`ping`"),
        (
            tasks("- ping:", "  no_log: ture"),
            "4:15",
            "`no_log`: 'ture' is neither yes nor no",
            "true",
        ),
        (
            tasks("- block: [ping: ]", "  become: 2"),
            "4:7",
            "`become`: 2 is neither",
            "true or false",
        ),
        (
            "- {hosts: all, gather_facts: maybe}\n",
            "1:30",
            "`gather_facts`: 'maybe' is neither",
            "true",
        ),
        (tasks("- name: a"), "3:7", "names no module", "debug"),
        (tasks("- ping:", "  debug:"), "4:7", "names ping and debug", None),
        (tasks("- debug:", "    msg: {{ x }}"), "4:15", "plain text", "quote a value that begins"),
        (tasks("- debug:", "    msg: x: y"), "4:15", "mapping values", "holds `: `"),
        (tasks("- rescue: []"), "3:7", "`rescue` needs a `block`", "- block"),
        (tasks("- set_fact: {a-b: 1}"), "3:18", "'a-b' is no name of a variable", "letters"),
        ("- import_playbook: no.yml\n", "1:20", "there is no playbook no.yml", "looked for"),
        (tasks("- ping:", "  whenn: x"), "4:7", "`whenn`", "`when`"),
        (tasks("- debug:", "  async: 5"), "4:7", "debug cannot run by itself", "leave out"),
        (tasks("- ping:", "  become_method: runas"), "4:7", "become_method: `runas` is not", None),
        (tasks("- ping:", "  become_method: [sudo]"), "4:22", "`become_method` takes a text", None),
        (tasks("- ping:", "  port: {a: 1}"), "4:13", "`port` takes a text", None),
        (tasks("- ping:", "  become_method: 5"), "4:7", "`5` is not", None),
        (tasks("- ping:", "  connection: docker"), "4:7", "`docker` is not supported", None),
        (tasks("- ping:", "  port: many"), "4:7", "'many' is no port", None),
        (tasks("- ping:", "  vars: {ansible_become_flags: -n}"), "4:14", "`ansible_become_f", "-S"),
        (tasks("- set_fact: {ansible_shell_type: csh}"), "3:18", "`ansible_shell_type`", "POSIX"),
        (tasks('- action: "{{ x }} a=1"'), "3:7", "name of a module is no template", "when"),
        (tasks("- local_action: pingg"), "3:7", "`pingg` is neither", "`ping`"),
        (tasks("- yum_repository: {name: a}"), "3:7", "`yum_repository` is not", "deb822_rep"),
        (tasks("- a.b.c:"), "3:7", "the module `a.b.c` is not supported", "sappers-deploy module"),
        (tasks("- name: greet", "  pingg:"), "4:7", "supported, in the task 'greet'", "`ping`"),
        (tasks("- pingg:", "  when: x"), "3:7", "`pingg` is neither a keyword", "`ping`"),
        (tasks("- include: a.yml", "  when: x"), "3:7", "`include` is not supported", "include_t"),
        (tasks("- ping:", "  local_action: ping"), "4:7", "names ping and local_action", None),
        (
            "- hosts: all\n  vars:\n    ansible_host_key_checking: false\n",
            "3:5",
            "`ansible_host_key_checking` is not supported",
            "accept-new",
        ),
        (tasks("- ping:", "  notify: nobody"), "4:15", "there is no handler 'nobody'", None),
        ("- hosts: all\n  vars_prompt: [{prompt: x}]\n", "2:17", "the `name` of a", "- name"),
        (
            "- hosts: all\n  vars_prompt: [{name: x, encrypt: y}]\n",
            "2:27",
            "there is no hash 'y'",
            "sha512_crypt",
        ),
        (tasks("- ping:", "  debugger: always"), "4:7", "`debugger` is not supported", "--step"),
        (tasks("- include: a.yml"), "3:7", "`include` is not supported", "include_tasks"),
        (tasks("- file: {path: /a, stat: absent}"), "3:24", "`stat` is no argument", "`state`"),
        (tasks("- file: {path: /a, state: gone}"), "3:31", "'gone' is none of absent", None),
        (tasks("- file: state=absent"), "3:7", "needs the argument `path`", "module file"),
        (tasks("- copy: {dest: /a}"), "3:7", "needs one of the arguments src, content", None),
        (tasks("- copy: {dest: /a, src: a, content: b}"), "3:7", "it takes one", None),
        (tasks("- apache2_module: {name: rewrite}"), "3:7", "`apache2_module` is not", "a2enmod"),
        (
            tasks("- ec2_group: {name: x}"),
            "3:7",
            "`ec2_group` is neither",
            "write command or shell",
        ),
        (tasks("- ansible.builtin.assemble: {}"), "3:7", "is not supported", "query('fileglob'"),
        (
            tasks("- copy: {dest: /a, src: a, attributes: +i}"),
            "3:32",
            "`attributes` is not",
            "chattr",
        ),
        (tasks("- copy: {dest: /a, src: a, mode: rw}"), "3:38", "'rw' is no mode", None),
        (tasks("- ping:", "  register: a-b"), "4:17", "no name of a variable", None),
        (tasks("- ping:", "  loop: abc"), "4:13", "`loop` takes a list", None),
        (tasks("- ping:", "  loop_control: {loopvar: x}"), "4:22", "`loopvar`", "`loop_var`"),
        (tasks("- include_tasks: a.yml v=1"), "3:22", "`v` is no argument of it", "`vars:`"),
        (tasks("- include_tasks: a.yml", "- import_tasks: no.yml"), "4:7", "no task file", None),
        ("- hosts: all\n  roles: [nope]\n", "2:11", "there is no role nope", "looked for"),
        ("- hosts: all\n  strategy: debug\n", "2:3", "strategy", "linear"),
        (tasks("- command: a warn=no"), "3:7", "`warn` is not supported", "leave it out"),
        (tasks("- shell: a", "  args: {warn: no}"), "4:14", "`warn` is not supported", "leave"),
        (tasks('- shell: echo "a'), "3:19", 'shell: the quote " has no end', "cmd:"),
        (
            tasks("- name: o", "  command: |", "    a", "    it's"),
            "6:11",
            "in the task 'o' at ",
            None,
        ),
        (tasks("- raw: echo {{ a"), "3:17", "raw: the template {{ has no }}", "cmd:"),
        (tasks('- copy: src=a dest="b'), "3:24", 'copy: the quote " has no end', None),
        (tasks("- debug: {msg: !custom x}"), "3:20", "the tag !custom is not supported", None),
    ],
)
def test_what_is_wrong_is_refused(
    tmp_path: Path, text: str, where: str, message: str, hint: str | None
) -> None:
    with pytest.raises(PlaybookError) as caught:
        load(tmp_path, text)
    assert f"play.yml:{where}: " in str(caught.value)
    assert message in str(caught.value)
    if hint:
        assert hint in str(caught.value.hint)


def test_keywords_are_handed_down(tmp_path: Path) -> None:
    (play,) = load(
        tmp_path,
        """
- hosts: web
  become: true
  tags: a
  environment: {X: 1}
  tasks:
    - block:
        - command: echo hi creates=/x
          when: two
          tags: [c, "d,e"]
          become: false
      when: one
      tags: b
      rescue:
        - ansible.builtin.debug: msg="a b" verbosity=1
""",
    )
    block = play.sections[1][0]
    assert isinstance(block, Block)
    task = block.body[0]
    assert isinstance(task, Task)
    assert task.arguments == {"cmd": "echo hi", "creates": "/x"}
    assert task.inherited.when == ("one", "two")
    assert task.inherited.tags == {"a", "b", "c", "d", "e"}
    assert task.setting("become") is False
    assert task.inherited.environment == ({"X": 1},)
    rescue = block.rescue[0]
    assert isinstance(rescue, Task)
    assert (rescue.module, rescue.arguments) == ("debug", {"msg": "a b", "verbosity": "1"})


def test_roles_bring_their_dependencies_and_handlers(tmp_path: Path) -> None:
    for name, files in {
        "base": {"tasks": "- ping:\n", "defaults": "port: 1\n"},
        "web": {
            "tasks": "- debug: msg={{ port }}\n  notify: again\n- import_tasks: more.yml\n",
            "handlers": "- name: again\n  ping:\n",
            "vars": "a: 1\n",
            "meta": "dependencies: [base]\n",
        },
    }.items():
        for kind, text in files.items():
            (tmp_path / "roles" / name / kind).mkdir(parents=True)
            (tmp_path / "roles" / name / kind / "main.yml").write_text(text)
    (tmp_path / "roles/web/tasks/more.yml").write_text("- ping:\n")
    (play,) = load(tmp_path, "- hosts: all\n  roles: [base, {role: web, number: 2, tags: t}]\n")

    nodes = play.sections[1]
    assert [node.title for node in nodes if isinstance(node, Task)] == [
        "base : ping", "base : ping", "web : debug", "web : ping",
    ]  # fmt: skip
    again = [node.inherited.role.is_again for node in nodes]  # which only a run can do without
    assert again == [False, True, False, False]
    assert [handler.title for handler in play.handlers] == ["web : again"]
    assert [role.params for role in play.roles] == [{}, {"number": 2}]
    assert isinstance(nodes[2], Task)
    assert nodes[2].inherited.tags == {"t"}


def _role(folder: Path, name: str, **files: str) -> None:
    for kind, text in files.items():
        (folder / name / kind).mkdir(parents=True)
        (folder / name / kind / "main.yml").write_text(text)


def test_roles_of_collections_are_found_by_short_names_and_before_others(tmp_path: Path) -> None:
    there = tmp_path / "collections/ansible_collections/corp/web/roles"
    _role(there, "site", tasks="- ping:\n", meta="dependencies: [base]\n")
    _role(there, "base", tasks="- import_role: {name: lone}\n")
    _role(there, "lone", tasks="- ping:\n")
    _role(tmp_path / "roles", "base", tasks="- fail:\n")
    _role(tmp_path / "roles", "lone", tasks="- fail:\n")
    _role(tmp_path / "roles", "mine", tasks="- import_role: {name: lone}\n")
    _role(tmp_path / "roles", "told", meta="collections: [corp.web]\n",
          tasks="- import_role: {name: lone}\n")  # fmt: skip
    text = "- hosts: all\n  collections: corp.web\n  roles: [site, mine, told]\n"
    (play,) = load(tmp_path, text)
    assert [(node.title, node.inherited.role.collection) for node in play.sections[1]] == [
        ("corp.web.lone : ping", "corp.web"), ("corp.web.site : ping", "corp.web"),
        ("lone : fail", ""), ("corp.web.lone : ping", "corp.web"),
    ]  # fmt: skip
    assert play.roles[0].dependencies == ("corp.web.base",)
    (play,) = load(
        tmp_path, tasks("- import_role: {name: lone}\n  collections: [no.such, corp.web]")
    )
    assert [node.title for node in play.sections[1]] == ["corp.web.lone : ping"]
    (play,) = load(tmp_path, tasks("- import_role: {name: lone}"))
    assert [node.title for node in play.sections[1]] == ["lone : fail"]


def test_roles_of_one_name_in_folders_of_a_collection_are_two(tmp_path: Path) -> None:
    there = tmp_path / "collections/ansible_collections/corp/web/roles"
    _role(there / "old", "site", tasks="- ping:\n", meta="dependencies: [corp.web.new.site]\n")
    _role(there / "new", "site", tasks="- fail:\n")
    (play,) = load(tmp_path, "- hosts: all\n  roles: [corp.web.old.site]\n")
    assert [node.title for node in play.sections[1]] == [
        "corp.web.site : fail", "corp.web.site : ping"
    ]  # fmt: skip
    (there / "old/site/meta/main.yml").unlink()
    (play,) = load(tmp_path, "- hosts: all\n  roles: [corp.web.old.site, corp.web.new.site]\n")
    assert [node.inherited.role.is_again for node in play.sections[1]] == [False, False]
    assert len({role.key for role in play.roles}) == 2


def test_folders_of_collections_that_are_named_are_those_there_are(tmp_path: Path) -> None:
    _role(tmp_path / "more/ansible_collections/corp/web/roles", "site", tasks="- ping:\n")
    path = tmp_path / "play.yml"
    path.write_text("- hosts: all\n  roles: [corp.web.site]\n")
    (play,) = load_playbook(path, collections_path=[tmp_path / "none", tmp_path / "more"])
    assert [node.title for node in play.sections[1]] == ["corp.web.site : ping"]
    with pytest.raises(PlaybookError, match="there is no role"):
        load_playbook(path)


@pytest.mark.parametrize("said", ["[web]", "['{{ x }}.web']", "[{name: corp.web}]", "[3]"])
def test_collections_that_have_no_name_of_one_are_refused(tmp_path: Path, said: str) -> None:
    with pytest.raises(PlaybookError, match="names of collections") as caught:
        load(tmp_path, f"- hosts: all\n  collections: {said}\n")
    assert caught.value.hint == "- NAMESPACE.COLLECTION"


def test_what_imports_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("- import_tasks: a.yml\n")
    with pytest.raises(PlaybookError, match="without end"):
        load(tmp_path, tasks("- import_tasks: a.yml"))
    with pytest.raises(PlaybookError, match="imports itself"):
        load(tmp_path, "- import_playbook: play.yml\n")


def test_roles_that_need_each_other_are_refused_where_one_names_the_other(tmp_path: Path) -> None:
    play = "- hosts: all\n  roles: [first]\n"
    for name, needed in (("first", "second"), ("second", "third"), ("third", "first")):
        _role(tmp_path / "roles", name, meta=f"dependencies:\n  - {needed}\n", tasks="- ping:\n")
    with pytest.raises(PlaybookError, match="the role first needs itself") as caught:
        load(tmp_path, play)
    assert "third/meta/main.yml:2:5" in str(caught.value)
    (tmp_path / "roles/third/meta/main.yml").write_text("dependencies: [third]\n")
    with pytest.raises(PlaybookError, match="the role third needs itself"):
        load(tmp_path, play)


def test_a_module_that_a_role_brings_is_refused_where_nothing_stands_before_it(
    tmp_path: Path,
) -> None:
    for folder in ("tasks", "library"):
        (tmp_path / "roles/r" / folder).mkdir(parents=True)
    (tmp_path / "roles/r/library/mine.py").touch()
    written = tmp_path / "roles/r/tasks/main.yml"
    play = "- hosts: all\n  roles: [r]\n"
    written.write_text("- mine: {a: 1}\n  when: false\n")
    load(tmp_path, play)
    written.write_text("- mine: {a: 1}\n")
    with pytest.raises(PlaybookError) as caught:
        load(tmp_path, play)
    assert "`mine` is not supported: modules in `library` are not run" in str(caught.value)
    assert "script" in str(caught.value.hint)
    written.write_text("- other: {a: 1}\n  when: false\n")
    with pytest.raises(PlaybookError, match="neither a keyword nor a module"):
        load(tmp_path, play)


def test_a_play_may_name_its_user_as_old_ones_do(tmp_path: Path) -> None:
    (play,) = load(tmp_path, "- {hosts: all, user: admin, tasks: [{user: {name: ann}}]}\n")
    (task,) = play.sections[1]
    assert isinstance(task, Task)
    assert (task.module, task.setting("remote_user")) == ("user", "admin")


@pytest.mark.parametrize(
    ("task", "where"),
    [
        ("import_tasks: '{{ ansible_os_family }}.yml'", "3:25"),
        ("import_role: {name: 'r-{{ told }}'}", "3:33"),
    ],
)
def test_what_is_imported_is_not_named_by_what_only_hosts_know(
    tmp_path: Path, task: str, where: str
) -> None:
    with pytest.raises(PlaybookError, match="asked for before any host is") as caught:
        load(tmp_path, tasks(f"- {task}"))
    assert f"{caught.value.line}:{caught.value.column}" == where
    assert "include_tasks or include_role" in str(caught.value.hint)


def test_a_backslash_in_extra_variables_is_read_as_in_arguments() -> None:
    assert read_extra_vars(r'one="a\tb" two=c\nd three=\d') == {
        "one": "a\tb", "two": "c\nd", "three": r"\d"
    }  # fmt: skip

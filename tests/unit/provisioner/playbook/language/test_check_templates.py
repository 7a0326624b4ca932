"""Templates that cannot be understood are refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language.check_templates import all_tasks, check_templates
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.language.model import Task
from sappers.provisioner.playbook.templates.functions import make_templates

HEAD = "- hosts: all\n  tasks:\n"


def check(tmp_path: Path, text: str) -> dict[int, Task]:
    path = tmp_path / "play.yml"
    path.write_text(HEAD + text)
    return check_templates(all_tasks(load_playbook(path)), make_templates())


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        (
            '  - debug: {msg: "{{ x | ipaddr }}"}\n',
            "3:26",
            "No filter named 'ipaddr'",
            "a variable",
        ),
        ('  - debug: {msg: "{{ x | combin(y) }}"}\n', "3:26", "'combin'", "`combine`"),
        ("  - ping:\n    when: x is defind\n", "4:13", "No test named 'defind'", "`defined`"),
        ('  - debug: {msg: "{{ x "}\n', "3:22", "unexpected end of template", None),
        ("  - ping:\n    when: a == \n", "4:14", "unexpected end of the expression", None),
        ("  - ping:\n    when: a = 1\n", "4:13", "expected end of the expression", "`==`"),
        ("  - ping:\n    when: a === 1\n", "4:15", "unexpected '='", "`==` compares"),
        ("  - ping:\n    when: a && b\n", "4:13", "unexpected char '&'", "`and`"),
        ("  - ping:\n    when: a || b\n", "4:14", "got '|'", "`or`"),
        ("  - ping:\n    when: not !a\n", "4:15", "unexpected char '!'", "`not`"),
        ("  - ping:\n    when: a == 'b\n", "4:16", "unexpected char", "a quote"),
        ('  - ping:\n    when: "{{ a }} == 1"\n', "4:17", "got '}'", "no braces"),
        ("  - ping:\n    until: x |\n", "4:14", "template", None),
        ('  - ping:\n    loop: "{{ x | nope }}"\n', "4:19", "No filter named 'nope'", None),
        ('  - ping:\n    become_user: "{{ x | nope }}"\n', "4:26", "'nope'", None),
        (
            "  - debug:\n      msg: |\n        one\n        two {{ x y }}\n",
            "6:18",
            "got 'y', in the task at ",
            "one expression",
        ),
        (
            "  - name: fold\n    debug:\n      msg: >-\n        a\n        {{ x | nope }}\n",
            "7:16",
            "in the task 'fold' at ",
            None,
        ),
        (
            "  - ping:\n    when:\n      - x is defined\n      - 'x is nosuch'\n",
            "6:12",
            "'nosuch'",
            None,
        ),
        ('  - debug: msg="it {{ a ! }}"\n', "3:25", "unexpected char '!'", None),
        ("  - debug: {msg: '{{ x }) }}'}\n", "3:24", "unexpected '}'", "`{{` ends with `}}`"),
        ('  - debug: {msg: "{% if x %}"}\n', "3:27", "'endif'", "end each"),
        (r"""  - debug: {msg: "{{ '\\d' + x | nope }}"}""" + "\n", "3:34", "'nope'", None),
        ('  - debug: {msg: "{{ x | a.b.c }}"}\n', "3:26", "No filter named 'a.b.c'", "builtin"),
        (
            """  - debug: {msg: "{{ lookup('nolookup', 'x') }}"}\n""",
            "3:29",
            "'nolookup'",
            "csvfile",
        ),
        (
            """  - debug: {msg: "{{ q('fil', 'x') }}"}\n""",
            "3:24",
            "No lookup named 'fil'",
            "`file`?",
        ),
        ("  - ping:\n    when: query('nope') | length > 0\n", "4:17", "named 'nope'", "csvfile"),
        (
            """  - debug: {msg: "{{ lookup('config', 'DEFAULT_FORKS') }}"}\n""",
            "3:29",
            "'config'",
            "`ansible_forks`",
        ),
        (
            """  - debug: {msg: "{{ lookup('community.general.dig', 'a') }}"}\n""",
            "3:29",
            "dig",
            "`lookup('pipe', …)` with the command dig +short",
        ),
        ("  - ping:\n    with_filetree: x\n", "4:5", "with_filetree: there is no", "`fileglob`"),
        ("  - ping:\n    with_itmes: x\n", "4:5", "no lookup 'itmes'", "`items`?"),
        # What is rendered whether a condition holds or not.
        ("  - ping:\n    when: x | a.b.c\n", "4:15", "'a.b.c'", None),
        ('  - ping:\n    loop: "{{ x | a.b.c }}"\n    when: x\n', "4:19", "'a.b.c'", None),
        # Nobody's: a slip of the pen.
        ('  - debug: {msg: "{{ x | nope }}"}\n    when: x\n', "3:26", "'nope'", None),
    ],
)
def test_what_is_wrong_is_refused(
    tmp_path: Path, text: str, where: str, message: str, hint: str | None
) -> None:
    with pytest.raises(PlaybookError) as caught:
        check(tmp_path, text)
    assert f"play.yml:{where}: " in str(caught.value)
    assert message in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)


@pytest.mark.parametrize(
    "text",
    [
        """  - debug: {msg: "{{ lookup('ansible.builtin.file', 'x') }}"}\n""",
        """  - debug: {msg: "{{ query('community.general.flattened', x) }}"}\n""",
        """  - debug: {msg: "{{ lookup(name, 'x') }}"}\n""",
        """  - debug: {msg: "{{ lookup('nope') if x is defined else 1 }}"}\n""",
        "  - ping:\n    with_community.general.flattened: [[1], 2]\n",
    ],
)
def test_lookups_that_are_there_or_may_not_be_asked(tmp_path: Path, text: str) -> None:
    check(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        '  - debug: {msg: "{{ x | community.general.json_query(y) }}"}\n    when: x\n',
        """  - debug: {msg: "{{ lookup('config', 'x') }}"}\n    loop: "{{ x }}"\n""",
        "  - ping:\n    when: x\n    failed_when: x is a.b.c\n",
    ],
)
def test_what_is_not_supported_may_stand_under_a_condition(tmp_path: Path, text: str) -> None:
    assert [one.module for one in check(tmp_path, text).values()] == ["_unsupported"]


def test_a_loop_that_is_not_supported_may_stand_under_a_condition(tmp_path: Path) -> None:
    path = tmp_path / "play.yml"
    path.write_text(HEAD + "  - ping:\n    with_filetree: x\n    when: x\n")
    (task,) = all_tasks(load_playbook(path))
    assert (task.module, task.loop_with, task.loop) == ("_unsupported", "", None)


def test_what_is_never_a_template_is_not_read_as_one(tmp_path: Path) -> None:
    check(tmp_path, "  - debug: {var: a.b}\n  - assert: {that: [x is sometest]}\n")
    check(tmp_path, '  - set_fact: {x: !unsafe "{{ x | nope }}"}\n')

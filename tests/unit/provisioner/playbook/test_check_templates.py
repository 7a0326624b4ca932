"""Templates that cannot be understood are refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.check_templates import all_tasks, check_templates
from sappers.provisioner.playbook.functions import make_templates
from sappers.provisioner.playbook.load import load_playbook

HEAD = "- hosts: all\n  tasks:\n"


def check(tmp_path: Path, text: str) -> None:
    path = tmp_path / "play.yml"
    path.write_text(HEAD + text)
    check_templates(all_tasks(load_playbook(path)), make_templates())


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        ('  - debug: {msg: "{{ x | ipaddr }}"}\n', "3:26", "No filter named 'ipaddr'", "builtin"),
        ('  - debug: {msg: "{{ x | combin(y) }}"}\n', "3:26", "'combin'", "`combine`"),
        ("  - ping:\n    when: x is defind\n", "4:13", "No test named 'defind'", "`defined`"),
        ('  - debug: {msg: "{{ x "}\n', "3:22", "unexpected end of template", None),
        ("  - ping:\n    when: a == \n", "4:14", "unexpected 'end of print", None),
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


def test_what_is_never_a_template_is_not_read_as_one(tmp_path: Path) -> None:
    check(tmp_path, "  - debug: {var: a.b}\n  - assert: {that: [x is sometest]}\n")
    check(tmp_path, '  - set_fact: {x: !unsafe "{{ x | nope }}"}\n')

"""The corpus with mistakes in it: whatever is written there, only our own error comes, at a place.

Each playbook gets mistakes of two kinds: in its text (a tab, a bracket, a line too much) and
in what the text says (a list where a mapping belongs, a keyword in the wrong place).
"""

from __future__ import annotations

import copy
import io
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sappers.errors import PlaybookError
from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.run.engine import Engine
from sappers.provisioner.playbook.tasks.options import RunOptions
from tests.corpus.case import CASES, HERE
from tests.unit.provisioner.playbook.lines import Lines

VALUES: list[Any] = [
    None, [], {}, "x", 5, -1, True, 1.5, "", "'", '"a', "{{", "{{ x }}", "{{ x y }}", "{% for %}",
    {"a": {}}, [[]], [None], [{}], {"x": None}, {"{{ x }}": 1}, {5: 5}, {"block": 5}, "a: b",
    ["a", 5], "../..", float("inf"), "{{ 1/0 }}", "{{ x | nosuch }}",
]  # fmt: skip
KEYS = [
    "when", "loop", "block", "rescue", "name", "with_items", "vars", "tags", "become", "register",
    "notify", "listen", "args", "hosts", "roles", "environment", "module_defaults", "loop_control",
    "until", "action", "serial", "order", "async", "delegate_to", "vars_files", "vars_prompt",
    "retries", "changed_when", "no_log", "strategy", "import_playbook", "include_tasks",
    "import_tasks", "include_role", "import_role", "meta", "include_vars", "nosuch", 5, None,
]  # fmt: skip
PIECES = [
    "\t", "{", "}", "[", "]", ":", ": ", "- ", "'", '"', "|", ">", "&a ", "*a ", "!!", "!x ", "#",
    "%", "@", "\0", "\r", "{{", "}}", "\n", "  ", "<<: ", "? ", "---\n", "é", "\u2028",
]  # fmt: skip


def holders(value: Any) -> Iterator[tuple[Any, Any]]:
    """All that is in a value, by what holds it and under which key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in pairs:
        yield value, key
        if isinstance(one, dict | list):
            yield from holders(one)


def with_another_meaning(document: Any, chance: random.Random) -> str:
    document = copy.deepcopy(document)
    holder, key = chance.choice(list(holders(document)))
    match chance.randrange(5):
        case 0 | 1:
            holder[key] = chance.choice(VALUES)
        case 2:
            holder[key] = [holder[key]]
        case 3 if isinstance(holder, dict):
            holder[chance.choice(KEYS)] = chance.choice(VALUES)
        case _:
            del holder[key]
    out = io.StringIO()
    YAML(typ="safe", pure=True).dump(document, out)
    return out.getvalue()


def with_another_text(text: str, chance: random.Random) -> str:
    at, lines = chance.randrange(len(text)), text.split("\n")
    number = chance.randrange(len(lines))
    match chance.randrange(5):
        case 0 | 1:
            return text[:at] + chance.choice(PIECES) + text[at:]
        case 2:
            return text[:at] + text[at + chance.choice([1, 2, 20, len(text)]) :]
        case 3:
            lines.insert(number, chance.choice(lines))
        case _:
            lines[number] = " " * chance.randrange(6) + lines[number].lstrip()
    return "\n".join(lines)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: mistakes are written beside what the playbooks name."""
    return shutil.copytree(HERE / "cases", tmp_path_factory.mktemp("corpus") / "cases")


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_refused_at_its_place_or_is_none(case: str, corpus: Path) -> None:
    chance = random.Random(case)
    text = (HERE / "cases" / f"{case}.yml").read_text()
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)
    mistaken = [with_another_text(text, chance)]
    try:
        document = reader.load(text)
    except YAMLError:
        pass  # it has tags of Ansible's
    else:
        mistaken.append(with_another_meaning(document, chance))
    path = corpus / "mistaken.yml"
    for one in mistaken:
        try:
            path.write_text(one)
            plan(path)
        except PlaybookError as error:
            # Of another file, which is encrypted or a folder, there may be no line.
            assert error.line is not None or error.path != str(path), f"{error}\n{one}"


def plan(path: Path) -> None:
    """All that is done before anything runs. Raises PlaybookError."""
    plays = load_playbook(path)
    engine = Engine(load_inventory(HERE / "inventory.ini"), RunOptions(), Lines())
    engine.check(plays)
    engine.outline(plays)

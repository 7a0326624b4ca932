"""What includes will bring is refused before anything runs, where it can be known."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language.check_templates import check_templates
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.language.read_ahead import included_ahead
from sappers.provisioner.playbook.templates.functions import make_templates

FILES = {
    "fine.yml": "- ping:\n- include_tasks: deeper/more.yml\n",
    "deeper/more.yml": "- debug: {msg: '{{ x }}'}\n",
    "itself.yml": "- include_tasks: itself.yml\n",
    "slip.yml": "- ping:\n- pingg:\n",
    "below.yml": "- include_tasks: slip.yml\n",
    "unsupported.yml": "- ping:\n- docker_container: {name: a}\n",
    "broken.yml": "- ping: [\n",
    "filter.yml": "- debug: {msg: '{{ x | nosuch }}'}\n",
    "roles/good/tasks/main.yml": "- include_tasks: own.yml\n",
    "roles/good/tasks/own.yml": "- ping:\n",
    "roles/bad/tasks/main.yml": "- ping:\n",
    "roles/bad/handlers/main.yml": "- pingg:\n",
    "roles/inner/tasks/main.yml": "- include_tasks: own.yml\n",
    "roles/inner/tasks/own.yml": "- pingg:\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def read(folder: Path, *lines: str) -> list[str]:
    """The modules that are brought."""
    text = "- hosts: all\n  tasks:\n" + "".join(f"    {line}\n" for line in lines)
    (folder / "play.yml").write_text(text)
    plays = load_playbook(folder / "play.yml")
    tasks = list(included_ahead(plays))
    check_templates(tasks, make_templates())
    assert not any(play.loader and play.loader.handlers for play in plays)
    return [task.module for task in tasks]


@pytest.mark.parametrize(
    ("task", "where", "message"),
    [
        ("include_tasks: slip.yml", "slip.yml:2:3", "`pingg` is neither"),
        ("include_tasks: below.yml", "slip.yml:2:3", "`pingg` is neither"),
        ("include_tasks: {file: unsupported.yml}", "unsupported.yml:2:3", "`docker_container`"),
        ("include_tasks: broken.yml", "broken.yml:2:1", "expected"),
        ("include_tasks: filter.yml", "filter.yml:1:", "nosuch"),
        ("include_role: {name: bad}", "roles/bad/handlers/main.yml:1:3", "`pingg` is neither"),
        ("include_role: {name: inner}", "roles/inner/tasks/own.yml:1:3", "`pingg` is neither"),
        ("include_role: {name: good, tasks_from: missing}", "play.yml:3:7", "has no tasks/missing"),
    ],
)
def test_what_is_wrong_in_it_is_said_before_the_run(
    folder: Path, task: str, where: str, message: str
) -> None:
    with pytest.raises(PlaybookError, match=message) as caught:
        read(folder, f"- {task}")
    assert f"{folder}/{where}" in str(caught.value)


@pytest.mark.parametrize(
    "lines",
    [
        ("- include_tasks: '{{ x }}.yml'",),
        ("- include_tasks: slip.yml", "  when: x"),
        ("- block: [include_tasks: slip.yml]", "  when: x"),
        ("- include_role: {name: good, tasks_from: '{{ x }}'}",),
        ("- include_tasks: comes-later.yml",),
        ("- include_role: {name: comes.later}",),
    ],
)
def test_what_only_the_run_can_tell_is_left_to_it(folder: Path, lines: tuple[str, ...]) -> None:
    assert read(folder, *lines) == []


def test_what_is_right_is_read_once_and_nothing_of_it_is_kept(folder: Path) -> None:
    assert read(folder, "- include_tasks: fine.yml", "- include_tasks: fine.yml") == [
        "ping", "include_tasks", "debug",
    ]  # fmt: skip
    assert read(folder, "- include_role: {name: good}") == ["include_tasks", "ping"]
    assert read(folder, "- include_tasks: itself.yml") == ["include_tasks"]


def test_a_loop_may_have_no_item(folder: Path) -> None:
    assert read(folder, "- include_tasks: unsupported.yml", "  loop: '{{ x }}'") == [
        "ping", "_unsupported",
    ]  # fmt: skip

"""Files of playbooks are parsed once while they stay the same, and anew when they are others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.language.files import PlaybookFiles


def test_what_stays_the_same_is_parsed_once_and_what_changed_anew(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yml"
    path.write_text("- debug:\n")
    files = PlaybookFiles()
    first = files.read(path)
    assert files.read(path) is first
    path.write_text("- ping:\n")  # as long as before
    os.utime(path, ns=(0, 0))  # and with a time of its own, however coarse the clock
    assert files.read(path) == [{"ping": None}]
    path.unlink()
    with pytest.raises(PlaybookError, match="cannot be read"):
        files.read(path)


def test_vault_is_opened_once(tmp_path: Path) -> None:
    path = tmp_path / "secret.yml"
    path.write_text("$ANSIBLE_VAULT;1.1;AES256\n00\n")
    opened: list[str] = []

    def decrypt(text: str) -> str:
        opened.append(text)
        return "a: 1\n"

    files = PlaybookFiles(decrypt)
    assert files.read_variables(path) == {"a": 1} == files.read_variables(path)
    assert len(opened) == 1


def test_variables_are_a_mapping_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yml").write_text("# nothing yet\n")
    (tmp_path / "list.yml").write_text("- a\n")
    assert PlaybookFiles().read_variables(tmp_path / "empty.yml") == {}
    with pytest.raises(PlaybookError, match=r"list\.yml is no mapping of variable names"):
        PlaybookFiles().read_variables(tmp_path / "list.yml")

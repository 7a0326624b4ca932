from __future__ import annotations

from pathlib import Path

import pytest

from sappers.assembly.agent import make_folders
from sappers.config import StateFolder
from sappers.errors import ConfigError


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    make_folders(folder)
    folder.raft.rmdir()
    folder.raft.write_text("")
    with pytest.raises(ConfigError, match="/raft cannot be made a folder: File exists") as caught:
        make_folders(folder)
    assert "move what is in its place away" in str(caught.value.hint)

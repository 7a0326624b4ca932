import shutil
from pathlib import Path

import pytest

from sappers.errors import LockHeld
from sappers.lab.lock import folder_lock


def test_the_second_is_told_who_holds_the_lock(tmp_path: Path):
    folder = tmp_path / "labs" / "lab"
    held = pytest.raises(LockHeld, match=r"lab `lab` is locked by process \d+")
    with folder_lock(folder, "lab `lab`"), held, folder_lock(folder, "lab `lab`"):
        pass
    with folder_lock(folder, "lab `lab`"):
        pass


def test_the_holder_may_remove_the_folder(tmp_path: Path):
    folder = tmp_path / "lab"
    with folder_lock(folder, "lab"):
        shutil.rmtree(folder)
    assert not folder.exists()
    with folder_lock(folder, "lab"):
        assert folder.stat().st_mode & 0o777 == 0o700

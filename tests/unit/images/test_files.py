"""Files of a person's: whole or not there, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images import files

KILLED = """
import os, signal, sys
from pathlib import Path
from sappers.images.files import replacing

with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_who_is_killed_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"an older one")
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "image"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "image": b"an older one"
    }


@pytest.mark.parametrize("nameless", [True, False])
def test_a_file_takes_the_place_of_another_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """Also where a file system has no files without a name."""
    if not nameless:
        monkeypatch.setattr(files, "_nameless", lambda _: None)
    path = tmp_path / "image"
    path.write_bytes(b"an older one")
    with files.replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"an older one"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(ImageError, match="no room"), files.replacing(path):
        raise OSError(28, os.strerror(28))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]

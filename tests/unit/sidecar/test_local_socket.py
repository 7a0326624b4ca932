"""Where the socket is: in the root that the application has, wherever its links lead."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sappers.sidecar.local_socket import open_listener

BIND = """
import sys
from sappers.sidecar.local_socket import open_listener
assert open_listener(sys.argv[1]) is not None
open("/outside-still-there-%s" % sys.argv[2], "w").close()
"""


def test_everybody_in_the_guest_may_connect(tmp_path: Path) -> None:
    path = tmp_path / "run" / "sidecar.sock"
    for _ in range(2):  # one that is left over is replaced
        listener = open_listener(path=str(path))
        assert listener is not None
        listener.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_a_place_that_cannot_be_is_told_and_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a file")
    assert open_listener(path=str(tmp_path / "run" / "sidecar.sock")) is None
    assert "no-socket" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have another root")
def test_a_containers_links_lead_nowhere_else(tmp_path: Path) -> None:
    root = tmp_path / "container"
    (root / "elsewhere").mkdir(parents=True)
    (root / "run").symlink_to("/elsewhere")
    word = tmp_path.name
    marker = Path(f"/outside-still-there-{word}")
    try:
        subprocess.run(
            [sys.executable, "-c", BIND, str(root), word], check=True, cwd=Path(__file__).parents[3]
        )
        assert marker.exists()
        assert (root / "elsewhere" / "sappers" / "sidecar.sock").is_socket()
        assert not Path("/elsewhere").exists()
    finally:
        marker.unlink(missing_ok=True)

"""Root disks: owners, links and devices are in them, whoever builds; equal input, equal bytes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from sappers.images.archive import Entry, file_entry, folder_entry
from sappers.images.erofs import write_root_disk

TOOLS = ("mkfs.erofs", "dump.erofs", "fakeroot", "sfdisk")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
pytestmark = [
    pytest.mark.skipif(not shutil.which(tool, path=PATH), reason=f"needs {tool}") for tool in TOOLS
]
MIB = 1 << 20


def written(folder: Path, source: bytes = b"x" * 9000) -> Path:
    folder.mkdir()
    (folder / "source").write_bytes(source)
    layer = [
        folder_entry("bin"),
        Entry("bin/app", stat.S_IFREG | 0o4755, folder / "source", user_id=5, group_id=6, link=1),
        Entry("bin/same", stat.S_IFREG | 0o4755, folder / "source", user_id=5, group_id=6, link=1),
        Entry("bin/link", stat.S_IFLNK | 0o777, b"/bin/app"),
        Entry("console", stat.S_IFCHR | 0o600, device=(5, 1)),
    ]
    (folder / "work").mkdir()
    other = [file_entry("other", b"o" * 5000)]
    write_root_disk([layer, other], folder / "disk", folder / "work", lambda _: None)
    return folder / "disk"


def shown(disk: Path, folder: Path, path: str) -> str:
    """What dump.erofs says of a file of the first layer."""
    (folder / "layer").write_bytes(disk.read_bytes()[MIB : 2 * MIB])
    command = ["dump.erofs", f"--path={path}", str(folder / "layer")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_owners_links_and_devices_are_kept(tmp_path: Path) -> None:
    disk = written(tmp_path / "one")
    app = shown(disk, tmp_path, "/bin/app")
    assert "Uid: 5   Gid: 6" in app and "Links: 2" in app
    assert "char dev" in shown(disk, tmp_path, "/console")
    assert "symlink" in shown(disk, tmp_path, "/bin/link")


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    one = written(tmp_path / "one").read_bytes()
    before = os.umask(0o077)
    try:
        assert written(tmp_path / "two").read_bytes() == one
    finally:
        os.umask(before)


def test_a_layer_that_changes_leaves_the_other_s_chunks_alone(tmp_path: Path) -> None:
    one = written(tmp_path / "one").read_bytes()
    two = written(tmp_path / "two", source=os.urandom(300_000)).read_bytes()
    assert one[MIB : 2 * MIB] != two[MIB : 2 * MIB]
    assert one[2 * MIB : 3 * MIB] == two[2 * MIB : 3 * MIB]
    assert len(one) % 512 == len(two) % 512 == 0

"""Archives: the same content gives the same bytes, and the kernel's format is kept."""

from __future__ import annotations

import stat
from pathlib import Path

from sappers.images.archive import Entry, cpio, file_entry, tree_entries


def test_order_and_times_do_not_matter(tmp_path: Path) -> None:
    for name, order in (("one", "ab"), ("two", "ba")):
        for letter in order:
            (tmp_path / name / letter).mkdir(parents=True)
            (tmp_path / name / letter / "f").write_text(letter)
    (tmp_path / "two" / "a" / "f").touch()
    assert b"".join(cpio(tree_entries(tmp_path / "one"))) == b"".join(
        cpio(reversed(tree_entries(tmp_path / "two")))
    )


def test_parents_come_first_and_the_last_entry_of_a_path_wins() -> None:
    archive = b"".join(cpio([file_entry("a/b/c", b"old"), file_entry("a/b/c", b"new")]))
    assert archive.index(b"a\0") < archive.index(b"a/b\0") < archive.index(b"a/b/c\0")
    assert b"new" in archive and b"old" not in archive


def test_headers_are_as_the_kernel_reads_them() -> None:
    archive = b"".join(cpio([Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))]))
    at = archive.index(b"dev/console\0") - 110
    fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
    assert archive[at : at + 6] == b"070701"
    assert fields[1] == stat.S_IFCHR | 0o600
    assert fields[2:4] == [0, 0]  # root's
    assert fields[5] == 0  # no time
    assert fields[9:12] == [5, 1, len("dev/console") + 1]
    assert len(archive) % 4 == 0


def test_links_and_executables_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "link").symlink_to("run")
    entries = {entry.path: entry for entry in tree_entries(tmp_path, "bin/")}
    assert entries["bin/run"].mode == stat.S_IFREG | 0o755
    assert entries["bin/link"].mode == stat.S_IFLNK | 0o777
    assert entries["bin/link"].content == b"run"

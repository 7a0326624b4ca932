"""Archives that want to be written elsewhere: nothing outside the folder is touched."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sappers.provisioner.remote import archives, files


def tar_of(*entries: dict[str, Any]) -> io.BytesIO:
    """A tar with these members: `name`, and `content`, `link`, `hard` or `type`."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry["name"])
            info.mode = entry.get("mode", 0o644)
            info.mtime = 1_500_000_000
            content = entry.get("content", "").encode()
            if "link" in entry:
                info.type, info.linkname = tarfile.SYMTYPE, entry["link"]
            elif "hard" in entry:
                info.type, info.linkname = tarfile.LNKTYPE, entry["hard"]
            else:
                info.type, info.size = entry.get("type", tarfile.REGTYPE), len(content)
            tar.addfile(info, io.BytesIO(content))
    made.seek(0)
    return made


def unpacked(archive: io.BytesIO, folder: Path) -> None:
    found = tuple(member for member, _ in archives.members(archive, str(folder)))
    archive.seek(0)
    archives.unpack(archive, str(folder), found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    made = tmp_path / "dest"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": "../outside/x", "content": "x"}],
        [{"name": "a/../../outside/x", "content": "x"}],
        [{"name": "l", "link": "../outside"}, {"name": "l/x", "content": "x"}],
        [{"name": "h", "hard": "../outside/secret"}],
        [{"name": "l", "link": "../outside"}, {"name": "h", "hard": "l/secret"}],
        [{"name": "dev", "type": tarfile.CHRTYPE}],
        [{"name": "pipe", "type": tarfile.FIFOTYPE}],
    ],
)
def test_what_would_go_elsewhere_is_refused(folder: Path, entries: list[dict[str, Any]]) -> None:
    outside = folder.parent / "outside"
    (outside / "secret").write_text("secret")
    with pytest.raises(files.Refused):
        unpacked(tar_of(*entries), folder)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").stat().st_nlink == 1


def test_a_planted_link_is_not_followed_and_one_in_a_files_place_is_replaced(folder: Path) -> None:
    outside = folder.parent / "outside"
    (outside / "secret").write_text("secret")
    (folder / "f").symlink_to(outside / "secret")
    (folder / "d").symlink_to(outside)
    unpacked(tar_of({"name": "/f", "content": "new"}), folder)
    assert (outside / "secret").read_text() == "secret"
    assert (folder / "f").read_text() == "new"
    assert not (folder / "f").is_symlink()
    with pytest.raises(files.Refused, match="d on the way to d/x is a link"):
        unpacked(tar_of({"name": "d/x", "content": "x"}), folder)


def test_an_archive_that_is_cut_off_changes_no_file(folder: Path) -> None:
    (folder / "a").write_text("old")
    archive = tar_of({"name": "a", "content": "new"}, {"name": "b", "content": "b" * 100_000})
    found = tuple(member for member, _ in archives.members(archive, str(folder)))
    plain = gzip.decompress(archive.getvalue())
    with pytest.raises(files.Refused, match="unexpected end"):
        archives.unpack(io.BytesIO(plain[:2_000]), str(folder), found)
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert (folder / "a").read_text() == "old"


def test_names_that_begin_alike_and_long_ones_of_few_letters_are_their_own(folder: Path) -> None:
    names = ["n" * 254 + end for end in "ab"] + ["é" * 127]
    unpacked(tar_of(*({"name": name, "content": name[-1]} for name in names)), folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [(folder / name).read_text() for name in names] == [name[-1] for name in names]


def test_all_is_as_the_archive_says(folder: Path) -> None:
    archive = tar_of(
        {"name": "./sub", "type": tarfile.DIRTYPE, "mode": 0o500},
        {"name": "./sub/f", "content": "one", "mode": 0o640},
        {"name": "hard", "hard": "./sub/f"},
        {"name": "link", "link": "/nowhere"},
    )
    unpacked(archive, folder)
    assert (folder / "sub/f").read_text() == "one"
    assert (folder / "sub").stat().st_mode & 0o7777 == 0o500
    assert (folder / "hard").stat().st_ino == (folder / "sub/f").stat().st_ino
    assert (folder / "link").readlink() == Path("/nowhere")
    assert (folder / "sub/f").stat().st_mtime == 1_500_000_000
    archive.seek(0)
    found = {member.name: there for member, there in archives.members(archive, str(folder))}
    assert found["sub/f"] is not None
    assert found["sub/f"].size == 3
    (folder / "sub").chmod(0o700)


def test_a_zip_is_unpacked_and_refused_alike(folder: Path) -> None:
    def zip_of(name: str) -> io.BytesIO:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as file:
            file.writestr(name, "one")
        made.seek(0)
        return made

    unpacked(zip_of("a/b"), folder)
    assert (folder / "a/b").read_text() == "one"
    with pytest.raises(files.Refused):
        unpacked(zip_of("../outside/b"), folder)
    with pytest.raises(files.Refused, match="no archive"):
        unpacked(io.BytesIO(b"PK\x03\x04 and nothing else"), folder)
    with pytest.raises(files.Refused, match="no archive"):
        unpacked(io.BytesIO(b"plain text"), folder)

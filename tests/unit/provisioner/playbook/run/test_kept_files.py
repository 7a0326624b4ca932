"""What hosts send stays below its folder on the control machine, whatever they say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sappers.provisioner.modules.step import Failed
from sappers.provisioner.playbook.run.kept_files import digest_of, keep

ONE = hashlib.sha1(b"one").hexdigest()


@pytest.mark.parametrize(
    "names",
    [(), ("",), (".",), ("..", "x"), ("h1", "..", "..", "x"), ("h1", "../x"), ("h1", "/etc/x")],
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = tmp_path / "a/kept"
    with pytest.raises(Failed, match="leads out"):
        keep(folder, names, b"one", first=True, last=True, sha1=ONE, host="h1")
    with pytest.raises(Failed, match="leads out"):
        digest_of(folder, names)
    assert list(tmp_path.rglob("*")) == []


def test_links_below_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "kept", tmp_path / "outside"
    (folder / "h1").mkdir(parents=True)
    outside.mkdir()
    (outside / "f").write_text("mine")
    (folder / "h1/etc").symlink_to(outside)
    with pytest.raises(Failed, match=r"etc in .* is a link"):
        keep(folder, ("h1", "etc", "f"), b"one", first=True, last=True, sha1=ONE, host="h1")
    (folder / "h1/f").symlink_to(outside / "f")
    (folder / "h1/.f.sappers-new-33112ee14ee4").symlink_to(outside / "f")
    assert digest_of(folder, ("h1", "f")) is None
    keep(folder, ("h1", "f"), b"one", first=True, last=True, sha1=ONE, host="h1")
    assert (outside / "f").read_text() == "mine"
    assert (folder / "h1/f").read_text() == "one"
    assert not (folder / "h1/f").is_symlink()


def test_a_file_comes_in_parts_and_counts_when_it_is_whole(tmp_path: Path) -> None:
    names = ("h1", "etc", "f")
    keep(tmp_path, names, b"o", first=True, last=False, sha1=ONE, host="h1")
    assert not (tmp_path / "h1/etc/f").exists()
    keep(tmp_path, names, b"ne", first=False, last=True, sha1=ONE, host="h1")
    assert (tmp_path / "h1/etc/f").read_text() == "one"
    assert digest_of(tmp_path, names) == ONE
    with pytest.raises(Failed, match="changed while"):
        keep(tmp_path, names, b"two", first=True, last=True, sha1=ONE, host="h1")
    assert (tmp_path / "h1/etc/f").read_text() == "one"
    assert [path.name for path in (tmp_path / "h1/etc").iterdir()] == ["f"]

"""Links that a user of a host plants where we work as root: what they point to is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sappers.provisioner.modules import step
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.arguments import typed_arguments
from sappers.provisioner.remote import commands, files
from sappers.provisioner.remote.perform import Performer

SECRET = "root:secret\n"
KEY = "ssh-ed25519 AAAA me"


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file that has to stay as it is."""
    path = tmp_path / "shadow"
    path.write_text(SECRET)
    path.chmod(0o600)
    yield path
    assert (path.read_text(), path.stat().st_mode & 0o7777) == (SECRET, 0o600)


@pytest.fixture
def performer() -> Performer:
    return Performer(commands.Runner(), lambda blob: iter([CONTENT]))


CONTENT = b"new\n"
BLOB = step.Blob(
    "7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c", "", len(CONTENT)
)


def done(performer: Performer, module: str, args: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a module makes of this machine."""
    source = catalog.source_of(module)
    plan = source.plan(step.Task(typed_arguments(args, source.SPEC) | more))
    answer = None
    while True:
        try:
            answer = performer.perform(plan.send(answer))
        except StopIteration as end:
            return dict(end.value)
        except step.Failed as failed:
            return {"failed": True, "msg": failed.message}


@pytest.mark.parametrize("planted", ["file", "folder"])
def test_authorized_key_follows_links_only_when_told_to(
    planted: str, performer: Performer, tmp_path: Path, secret: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    keys = own / "keys"
    if planted == "file":
        keys.symlink_to(secret)
    else:
        (tmp_path / "planted").symlink_to(own)
        keys = tmp_path / "planted/keys"
    user = os.environ.get("USER") or "root"
    args = {"user": user, "key": KEY, "path": str(keys)}
    refused = done(performer, "authorized_key", args)
    assert "is a link" in refused["msg"]
    if planted == "folder":
        assert done(performer, "authorized_key", {**args, "follow": True})["changed"]
        assert (own / "keys").read_text() == KEY + "\n"


def test_steps_without_links_do_not_follow_them(
    performer: Performer, tmp_path: Path, secret: Path
) -> None:
    (tmp_path / "link").symlink_to(secret)
    (tmp_path / "folder").symlink_to(tmp_path)
    ids = os.getuid(), os.getgid()
    with pytest.raises(Exception, match="regular"):
        performer.perform(step.Read(str(tmp_path / "link"), no_links=True))
    assert performer.perform(step.Read(str(tmp_path / "folder/shadow"), no_links=True)) is None
    with pytest.raises(OSError, match="directory"):
        performer.perform(step.WriteFile(str(tmp_path / "folder/shadow"), b"", 0o644, *ids, True))
    performer.perform(step.SetAttributes(str(tmp_path / "link"), 0o777, *ids, follow=False))


def test_copy_replaces_a_link(performer: Performer, tmp_path: Path, secret: Path) -> None:
    dest = tmp_path / "dest"
    dest.symlink_to(secret)
    args = {"content": "x", "dest": str(dest), "mode": "0644"}
    assert done(performer, "copy", args, _blob=BLOB._asdict())["changed"]
    assert not dest.is_symlink()
    assert dest.read_bytes() == CONTENT


def test_copy_of_a_folder_replaces_links_to_files_and_refuses_those_to_folders(
    performer: Performer, tmp_path: Path, secret: Path
) -> None:
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest/a").symlink_to(secret)
    tree = [{"path": "a", "blob": BLOB._asdict(), "mode": "0644", "target": None}]
    args = {"src": "x/", "dest": str(tmp_path / "dest"), "mode": "0644"}
    assert done(performer, "copy", args, _tree=tree)["changed"]
    assert (tmp_path / "dest/a").read_bytes() == CONTENT
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "dest/b").symlink_to(tmp_path / "elsewhere")
    tree = [{"path": "b", "blob": None, "mode": None, "target": None}]
    assert "is a link" in done(performer, "copy", args, _tree=tree)["msg"]


def test_a_backup_is_not_written_through_a_link(
    performer: Performer, tmp_path: Path, secret: Path
) -> None:
    (tmp_path / "source").write_text("mine")
    (tmp_path / "source").chmod(0o640)
    for name in ("backup.sappers-new", ".backup.sappers-new", "backup"):
        (tmp_path / name).symlink_to(secret)
    performer.perform(step.CopyFile(str(tmp_path / "source"), str(tmp_path / "backup")))
    copied = tmp_path / "backup"
    assert not copied.is_symlink()
    assert (copied.read_text(), copied.stat().st_mode & 0o777) == ("mine", 0o640)
    assert copied.stat().st_mtime == (tmp_path / "source").stat().st_mtime


def test_a_folder_that_is_exchanged_for_a_link_is_not_given_away(
    performer: Performer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.mkdir(0o700)

    def exchanged(path: str, mode: int) -> None:
        Path(path).symlink_to(target)  # the user was quicker than what comes after mkdir

    monkeypatch.setattr(os, "mkdir", exchanged)
    with pytest.raises(OSError, match="directory"):
        performer.perform(step.MakeFolder(str(tmp_path / "new"), 0o777, os.getuid(), os.getgid()))
    assert target.stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_exchanged_for_a_link_is_not_given_away(
    tmp_path: Path, secret: Path
) -> None:
    """Between the look at its content and what its mode and owner are set of."""
    path = tmp_path / "own"
    path.write_bytes(CONTENT)
    nobody = ("65534", "65534")
    write = files.FileWrite(str(path), 0o666, *nobody, len(CONTENT), BLOB.sha256)
    assert not write.content_differs()
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(files.Refused, match="another kind"):
        write.adjust(check=False)
    (tmp_path / "folder").symlink_to(tmp_path)
    before = tmp_path.stat().st_mode
    with pytest.raises(files.Refused, match="no folder"):
        files.ensure_folder(str(tmp_path / "folder"), 0o777, *nobody, check=False)
    assert tmp_path.stat().st_mode == before

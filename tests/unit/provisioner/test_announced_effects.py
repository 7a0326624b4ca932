"""In check mode effects are refused as the system would, and what would be made is found."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.provisioner.modules import step
from sappers.provisioner.remote import commands
from sappers.provisioner.remote.perform import Performer
from sappers.provisioner.remote.permitted import refuse_in_vain
from sappers.provisioner.remote.pretence import Pretence

WRITES = step.WriteFile("", b"x", 0o644, 0, 0)


def refuse(effect: object, found: step.Found | None = None, *, pretends: bool = False) -> None:
    refuse_in_vain(effect, lambda _: found, lambda path: path, lambda _: pretends)


def test_a_folder_that_is_not_there_is_told_ahead(tmp_path: Path) -> None:
    effect = WRITES._replace(path=str(tmp_path / "none/file"))
    with pytest.raises(FileNotFoundError):
        refuse(effect)
    refuse(effect, pretends=True)  # an earlier task would make it
    refuse(WRITES._replace(path=str(tmp_path / "file")))


def test_what_a_user_may_not_is_told_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = step.Found("file", 0o644, os.geteuid() + 1, 0, 0, "", {}, {})
    path = tmp_path / "file"
    path.touch()
    effect = step.SetAttributes(str(path), 0o600, None, None)
    monkeypatch.setattr(os, "geteuid", lambda: theirs.uid + 1)
    with pytest.raises(PermissionError):
        refuse(effect, theirs)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        refuse(WRITES._replace(path=str(path)))


def test_patterns_find_what_would_be_made_and_not_what_would_go() -> None:
    pretence = Pretence()
    for name in ("a.list", "b.list", "c.txt"):
        pretence.remember(WRITES._replace(path=f"/etc/d/{name}"), None, b"x")
    pretence.remember(step.Remove("/etc/d/b.list"), None, None)
    assert pretence.matches("/etc/d/*.list") == ["/etc/d/a.list"]
    assert pretence.matches("/etc/*.list") == []


def test_a_file_of_which_only_the_mode_would_change_holds_what_it_does(tmp_path: Path) -> None:
    def nothing(_: step.Blob) -> Iterator[bytes]:
        yield b""

    path = tmp_path / "file"
    path.write_text("x")
    performer = Performer(commands.Runner(), nothing)
    performer.begin(check=True, alone=False, diff=False, environment={})
    performer.perform(step.SetAttributes(str(path), 0o600, None, None))
    found = performer.perform(step.Stat(str(path), digests=("sha1",)))
    assert (found.mode, found.digests) == (0o600, {"sha1": hashlib.sha1(b"x").hexdigest()})


def test_what_a_program_amounts_to_is_taken_as_done() -> None:
    made = step.MakeFolder("/home/ada", 0o750, 7, 7)
    pretence = Pretence()
    pretence.remember(step.Execute(("useradd", "ada"), amounts_to=(made,)), None, None)
    found = pretence.found("/home/ada")
    assert found is not None
    assert (found.kind, found.mode, found.uid) == ("directory", 0o750, 7)


def test_a_way_up_again_leads_to_what_would_be_made(tmp_path: Path) -> None:
    performer = Performer(commands.Runner(), lambda _: iter(()))
    performer.begin(check=True, alone=False, diff=False, environment={})
    for name in ("available", "enabled"):
        performer.perform(step.MakeFolder(f"{tmp_path}/{name}", 0o755, 0, 0))
    performer.perform(WRITES._replace(path=f"{tmp_path}/available/site"))
    found = performer.perform(step.Stat(f"{tmp_path}/enabled/../available/site", True))
    assert found is not None
    assert found.kind == "file"

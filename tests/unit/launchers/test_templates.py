"""Templates as files and in memory: what may be used, and that nobody can change it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sappers.errors import TemplateError
from sappers.launchers.templates import Held, Template, TemplateFolder, new_memory

KEY, IMAGE = "a" * 64, "b" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With one template, of a machine with something at its beginning and at its end."""
    memory = new_memory(2)
    os.pwrite(memory, b"begin", 100)
    os.pwrite(memory, b"end", (2 << 20) - 3)
    TemplateFolder(tmp_path).add(KEY, IMAGE, memory, b"device", 0.0)
    os.close(memory)
    return tmp_path


def content(held: Held) -> bytes:
    return os.pread(held.memory, 2 << 20, 0)


def test_another_agent_finds_the_whole_machine_again(root: Path) -> None:
    held = TemplateFolder(root).hold(KEY, 0.0)
    assert content(held)[100:105] == b"begin" and content(held).endswith(b"end")
    assert len(content(held)) == 2 << 20
    with held.device_file() as file:
        assert os.read(file, 100) == b"device"


def test_empty_memory_takes_no_room(root: Path) -> None:
    found = (root / KEY / "memory").stat()
    assert found.st_size == 2 << 20
    assert found.st_blocks * 512 < 1 << 20


def test_nobody_can_change_what_guests_start_from(root: Path) -> None:
    held = TemplateFolder(root).hold(KEY, 0.0)
    again = os.open(f"/proc/self/fd/{held.memory}", os.O_RDWR)  # as QEMU opens it
    try:
        with pytest.raises(PermissionError):
            os.pwrite(again, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(again, 0)
    finally:
        os.close(again)


@pytest.mark.parametrize("file", ["memory", "device", "template.json"])
def test_what_is_damaged_is_removed_and_said(root: Path, file: str) -> None:
    path = root / KEY / file
    changed = bytearray(path.read_bytes())
    changed[3] ^= 1
    path.write_bytes(changed)
    folder = TemplateFolder(root)
    with pytest.raises(TemplateError, match="damaged"):
        folder.hold(KEY, 0.0)
    assert not folder.has(KEY)
    assert not (root / KEY).exists()


def test_a_process_that_can_open_nothing_more_says_nothing_about_a_template(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TemplateFolder(root)

    def lacking(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched, pytest.raises(TemplateError, match="Too many open"):
        patched.setattr(os, "memfd_create", lacking)
        folder.hold(KEY, 0.0)
    assert content(folder.hold(KEY, 0.0)).endswith(b"end")


def test_what_a_guest_uses_stays_when_it_is_removed(root: Path) -> None:
    folder = TemplateFolder(root)
    held = folder.hold(KEY, 0.0)
    folder.discard(KEY)
    assert not folder.has(KEY)
    assert content(held).endswith(b"end")


def test_memory_is_given_back_unless_guests_run_from_it(root: Path) -> None:
    folder = TemplateFolder(root)
    held = folder.hold(KEY, 0.0)
    folder.release({KEY}, 10_000.0)
    assert folder.hold(KEY, 10_000.0) is held
    folder.release((), 10_001.0)
    assert folder.hold(KEY, 10_001.0) is held  # used a moment ago
    folder.release((), 20_000.0)
    assert folder.hold(KEY, 20_000.0) is not held
    assert folder.has(KEY)


def test_only_what_is_wanted_survives_a_sweep(root: Path) -> None:
    (root / "half").mkdir()
    (root / ".making").mkdir()
    asked: list[Template] = []
    folder = TemplateFolder(root)
    assert folder.sweep(lambda template: bool(asked.append(template)) or True) == ("half",)
    assert [template.image for template in asked] == [IMAGE]
    assert folder.sweep(lambda _: False) == (KEY,)
    assert [path.name for path in root.iterdir()] == [".making"]


def test_what_an_agent_left_half_added_goes(root: Path) -> None:
    (root / f".new-{KEY}").mkdir()
    TemplateFolder(root).clear_unfinished()
    assert [path.name for path in root.iterdir()] == [KEY]

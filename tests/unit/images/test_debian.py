"""What apt and dpkg say is understood wherever they run."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import ImageError, ImagePartError
from sappers.images import debian


def test_apt_is_understood_in_any_language(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        kernel = debian.kernel_package()
    except ImageError as error:
        pytest.skip(f"apt has no lists here: {error}")
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de:fr")
    assert debian.kernel_package() == kernel


def test_a_package_that_apt_does_not_know_is_the_definitions_mistake(tmp_path: Path) -> None:
    try:
        debian.kernel_package()
    except ImageError as error:
        pytest.skip(f"apt has no lists here: {error}")
    with pytest.raises(ImagePartError, match="no package sappers-has-no-such-thing") as caught:
        debian.with_dependencies(("redis-server", "sappers-has-no-such-thing"), tmp_path)
    assert caught.value.key == "application.packages"


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("E: Unable to locate package gone", "appliance.packages"),
        ("E: Package 'virtual' has no installation candidate", "appliance.kernel"),
        ("E: Unable to locate package openssh-server", None),  # ours, not the definition's
        ("E: Unable to correct problems, you have held broken packages.", "appliance.packages"),
        ("E: Could not open lock file", None),
    ],
)
def test_what_apt_says_is_blamed_on_what_the_definition_names(said: str, key: str | None) -> None:
    keys = {"gone": "appliance.packages", "virtual": "appliance.kernel"}
    mistake = debian.mistaken_packages(ImageError(f"apt-get failed: {said}"), keys)
    assert (mistake and mistake.key) == key


def test_a_full_disk_is_not_blamed_on_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "dpkg-deb"
    tool.write_text("#!/bin/sh\necho 'tar: x: Cannot write: No space left on device' >&2\nexit 2\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ImageError, match="No space left") as caught:
        debian.unpack(tmp_path / "x.deb", tmp_path / "x")
    assert caught.value.hint == "free some space and repeat"

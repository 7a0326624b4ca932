"""What `restore` asks before a backup's keys are trusted."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sappers.cli.restore import require_trust, unknown_keys
from sappers.errors import BackupError
from sappers.model.image import ImageKey

ANNA, BEN = ImageKey("a" * 64, "anna"), ImageKey("b" * 64, "ben")


def asked(*new: ImageKey, trusted: bool = False) -> str:
    shown = io.StringIO()
    require_trust(new, "lab", Console(file=shown), trusted=trusted)
    return shown.getvalue()


def test_a_key_is_known_by_itself_and_not_by_its_owner() -> None:
    assert unknown_keys((ANNA, BEN), (ImageKey("a" * 64, "anna b."),)) == [BEN]
    assert unknown_keys((ANNA,), (ImageKey("c" * 64, "anna"),)) == [ANNA]


def test_keys_that_the_cluster_knows_are_no_question() -> None:
    assert asked() == ""


def test_unknown_keys_are_listed_and_refused_unless_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(BackupError, match="does not trust") as caught:
        asked(ANNA, BEN)
    assert "--trust-image-keys" in str(caught.value.hint)
    shown = asked(ANNA, BEN, trusted=True)
    assert f"{ANNA.key} anna" in shown
    assert f"{BEN.key} ben" in shown

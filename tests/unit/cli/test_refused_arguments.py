"""What `explain` and `backup` refuse before they ask anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.cli.backup import backup
from sappers.cli.explain import explain
from sappers.errors import BackupError, ConfigError


@pytest.mark.parametrize("name", ["", "a b", "../x", "a\n", "ü", "x" * 129])
def test_what_is_no_name_is_explained_by_nobody(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name"):
        explain(name)


@pytest.mark.parametrize("place", ["/dev/null", "/"])
def test_a_backup_takes_the_place_of_a_file_alone(place: str) -> None:
    with pytest.raises(BackupError, match="is no file"):
        backup(Path(place), force=True)

from __future__ import annotations

from pathlib import Path

from sappers.config import ControlHome, control_home


def test_the_xdg_folders_unless_told_otherwise() -> None:
    assert control_home({"HOME": "/h"}) == ControlHome(
        Path("/h/.local/share/sappers"), Path("/h/.cache/sappers")
    )
    assert control_home({"HOME": "/h", "XDG_DATA_HOME": "/d", "XDG_CACHE_HOME": "/c"}) == (
        ControlHome(Path("/d/sappers"), Path("/c/sappers"))
    )


def test_a_home_of_its_own_has_its_cache_within() -> None:
    assert control_home({"SAPPERS_HOME": "/s"}) == ControlHome(Path("/s"), Path("/s/cache"))
    assert control_home({"SAPPERS_HOME": "/s", "SAPPERS_CACHE": "/c"}).cache == Path("/c")


def test_an_empty_variable_is_no_variable() -> None:
    """`SAPPERS_CACHE=` once put the cache into the folder that the command was started in."""
    empty = {"HOME": "/h", "SAPPERS_HOME": "", "SAPPERS_CACHE": "", "XDG_DATA_HOME": ""}
    assert control_home(empty) == control_home({"HOME": "/h"})

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import sappers
from sappers.cli.man_pages import man_pages

FOLDER = Path(sappers.__file__).parents[1] / "docs" / "man"
PAGES = man_pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_that_of_the_command(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name], "run tools/man-pages"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_renders_without_a_warning(name: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-cbou", "-ww", "-rLL=100n", FOLDER / name],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert all(section in done.stdout for section in ("NAME", "SYNOPSIS", "EXIT CODES", "FILES"))

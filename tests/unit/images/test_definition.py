"""Image definitions: every mistake is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import ImageDefinitionError
from sappers.images.definition import load_definition

GOOD = """\
kind = "microvm"
memory_mib = 256
port = 8080

[application]
module = "app"
files = ["app.py"]

[health]
check = "http"
path = "/health"
"""


def written(folder: Path, text: str, name: str = "web") -> Path:
    (folder / name).mkdir()
    (folder / name / "image.toml").write_text(text)
    (folder / name / "app.py").write_text("")
    return folder


def test_a_good_one_is_read(tmp_path: Path) -> None:
    definition = load_definition(written(tmp_path, GOOD), "web")
    assert definition.memory_mib == 256
    assert definition.application.files == ("app.py",)
    assert definition.health.check == "http"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('kind = "microvm"', 'kind = "container"', 1, "kind: Invalid enum value"),
        ("memory_mib = 256", "memory_mib = 256 MiB", 2, "Expected newline"),
        ("memory_mib = 256", 'memory_mib = "256"', 2, "memory_mib: Expected `int`"),
        ("memory_mib = 256", "memory_mib = 32", 2, "must be 96 to 65536"),
        ("memory_mib = 256", "memroy_mib = 256", 2, "unknown field `memroy_mib`"),
        ("port = 8080", "port = 99999", 3, "port must be 1 to 65535"),
        ("port = 8080", "", 10, "needs a `port`"),
        ('module = "app"', "", 5, "application: Object missing required field `module`"),
        ('module = "app"', 'module = "rm -rf"', 6, "no module name"),
        ('files = ["app.py"]', 'files = ["gone.py"]', 7, "'gone.py' is not beside"),
        ('files = ["app.py"]', 'files = ["../../etc/passwd"]', 7, "is not beside"),
        ('files = ["app.py"]', "files = [1]", 7, "application.files: Expected `str`"),
        ('check = "http"', 'check = "ping"', 10, "health.check: Invalid enum value"),
        ('path = "/health"', 'path = "/a\\r\\nb"', 11, "no control characters"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    folder = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ImageDefinitionError) as caught:
        load_definition(folder, "web")
    assert caught.value.line == line
    assert words in caught.value.message
    assert "web/image.toml" in caught.value.message


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    folder = written(tmp_path, GOOD)
    with pytest.raises(ImageDefinitionError) as caught:
        load_definition(folder, "wbe")
    assert caught.value.hint == "known here: web"


@pytest.mark.parametrize("name", ["../web", "Web", "", "a/b"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageDefinitionError, match="no image name"):
        load_definition(tmp_path, name)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    folder = written(tmp_path, GOOD)
    (folder / "web" / "image.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ImageDefinitionError, match="not UTF-8"):
        load_definition(folder, "web")


@pytest.mark.parametrize("name", ["hello", "healer"])
def test_ours_are_good(name: str) -> None:
    project = Path(__file__).parents[3]
    assert load_definition(project / "unikernels", name).kind == "microvm"

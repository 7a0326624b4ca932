"""Image definitions: every mistake is named with its line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sappers.errors import ImageDefinitionError, ImagePartError
from sappers.images.definition import (
    definition_schema,
    find_definitions,
    load_definition,
    placing,
)

PROJECT = Path(__file__).parents[3]
DEFINITIONS = sorted((PROJECT / "unikernels").glob("*/image.toml"))
SCHEMA = PROJECT / "unikernels" / "image.schema.json"
APPLIANCES = sorted((PROJECT / "images" / "packer").glob("*/image.toml"))

GOOD = """\
kinds = ["microvm"]
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
    (folder / name / "app.tar").write_text("")
    return folder


def test_a_good_one_is_read(tmp_path: Path) -> None:
    definition = load_definition(written(tmp_path, GOOD), "web")
    assert definition.memory_mib == 256
    assert definition.program.files == ("app.py",)
    assert definition.health.check == "http"


MODULE = 'module = "app"\nfiles = ["app.py"]'


@pytest.mark.parametrize(
    "program",
    [
        'script = "app.py"',
        'binary = "app.py"\narguments = ["--port", "8080"]\npackages = ["libpq5"]',
        'command = ["redis-server", "--port", "8080"]\npackages = ["redis-server"]',
        'container = "app.tar"',
    ],
)
def test_there_are_five_ways_to_name_a_program(tmp_path: Path, program: str) -> None:
    definition = load_definition(written(tmp_path, GOOD.replace(MODULE, program)), "web")
    assert definition.program.programs == (program.partition(" ")[0],)


def test_a_container_says_its_port_itself(tmp_path: Path) -> None:
    text = GOOD.replace(MODULE, 'container = "app.tar"').replace("port = 8080\n", "")
    assert load_definition(written(tmp_path, text), "web").port is None


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('kinds = ["microvm"]', 'kinds = ["container"]', 1, "kinds: Invalid enum value"),
        ('kinds = ["microvm"]', "kinds = []", 1, "length >= 1"),
        ('kinds = ["microvm"]', 'kinds = ["microvm", "microvm"]', 1, "named twice"),
        ('kinds = ["microvm"]', 'kind = "microvm"', 1, "unknown field `kind`"),
        ("memory_mib = 256", "memory_mib = 256 MiB", 2, "Expected newline"),
        ("memory_mib = 256", 'memory_mib = "256"', 2, "memory_mib: Expected `int`"),
        ("memory_mib = 256", "memory_mib = 32", 2, ">= 64"),
        ("memory_mib = 256", "memory_mib = 64", 2, "at least 96"),
        ("memory_mib = 256", "memroy_mib = 256", 2, "unknown field `memroy_mib`"),
        ("port = 8080", "port = 99999", 3, "port: Expected `int` <= 65535"),
        ("port = 8080", "", 10, "needs a `port`"),
        ('module = "app"', "", 5, "exactly one of module, script"),
        ('module = "app"', 'module = "app"\nscript = "app.py"', 5, "found module, script"),
        ('module = "app"', 'module = "rm -rf"', 6, "no module name"),
        ('module = "app"', 'script = "gone.py"', 6, "no file beside"),
        ('module = "app"', 'binary = "../web/app.py"', 6, "no file beside"),
        ('module = "app"', 'container = "gone.tar"', 6, "does not exist"),
        ('module = "app"', "command = []", 6, "length >= 1"),
        ('files = ["app.py"]', 'packages = ["UPPER"]', 7, "application.packages: Expected `str`"),
        ('files = ["app.py"]', "", 5, "`files` must name"),
        ('files = ["app.py"]', 'files = ["gone.py"]', 7, "'gone.py' is not beside"),
        ('files = ["app.py"]', 'files = ["../../etc/passwd"]', 7, "is not beside"),
        ('files = ["app.py"]', "files = [1]", 7, "application.files: Expected `str`"),
        ('files = ["app.py"]', 'files = ["app.py"]\nprepare = "a b"', 8, "no name of a function"),
        ('check = "http"', 'check = "ping"', 10, "health.check: Invalid enum value"),
        ('check = "http"', 'check = "http"\ntimeout_seconds = 0', 11, ">= 0.1"),
        ('check = "http"', 'check = "exec"', 10, "needs a `command`"),
        ('check = "http"', 'check = "http"\ncommand = ["true"]', 11, "is for check = 'exec'"),
        ('path = "/health"', 'path = "/a\\r\\nb"', 11, "control characters"),
        ('path = "/health"', 'path = "/a b"', 11, "no spaces"),
        ('path = "/health"', "path = [", 11, "nvalid"),
        ('files = ["app.py"]', 'files = ["a\\u0000"]', 7, "is not beside"),
        ('files = ["app.py"]', f'files = ["{"x" * 300}"]', 7, "is not beside"),
        ('module = "app"', f'binary = "{"x" * 300}"', 6, "no file beside"),
        ('module = "app"', f'container = "{"x" * 300}"', 6, "does not exist"),
        (MODULE, f'{MODULE}\nsappers_modules = ["sappers./etc/os"]', 8, "no module of Sappers"),
        (MODULE, f'{MODULE}\narguments = ["a\\u0000"]', 8, "no NUL"),
        (MODULE, 'command = ["sh\\u0000"]', 6, "no NUL"),
        (MODULE, 'command = [""]', 6, "name of a program"),
        ('kinds = ["microvm"]\n', "", 1, "`kinds` is missing"),
        ('kinds = ["microvm"]', 'kinds = ["appliance"]\nappliance = {}', 6, "is for guests"),
        (f"[application]\n{MODULE}", '["application"]\nscript = "gone"', 6, "no file beside"),
        (f"[application]\n{MODULE}", '[ "application" ]\n"script" = "gone"', 6, "no file beside"),
        (f"[application]\n{MODULE}", "application . 'script' = 'gone'", 5, "no file beside"),
        ('check = "http"', 'check = "exec"\ncommand = ["a\\u0000"]', 11, "no NUL"),
        ('[health]\ncheck = "http"', '[environment]\n"A=B" = "1"\n[health]', 10, "variable"),
        ('[health]\ncheck = "http"', "[environment]\nB = ''\nA = 1\n[health]", 11, "environment.A"),
        ('[health]\ncheck = "http"', '[[health]]\ncheck = "http"', 9, "Expected `object`"),
        ('kinds = ["microvm"]', 'kinds = ["microvm", "appliance"]', 1, "needs an [appliance]"),
        ('[health]\ncheck = "http"', "[appliance]\ndisk_mib = 3000\n[health]", 9, "for kind"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    folder = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ImageDefinitionError) as caught:
        load_definition(folder, "web")
    assert caught.value.line == line
    assert words in caught.value.message
    assert "web/image.toml" in caught.value.message


def test_a_mistake_in_a_table_of_one_line_has_its_line(tmp_path: Path) -> None:
    folder = written(tmp_path, 'kinds = ["microvm"]\nhealth = { chek = "tcp" }\n')
    with pytest.raises(ImageDefinitionError, match="unknown field `chek`") as caught:
        load_definition(folder, "web")
    assert caught.value.line == 2
    assert "sappers-deploy image schema" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("key", "line"), [("application.module", 6), ("application.files", 7), ("application", 5)]
)
def test_what_a_build_misses_has_the_line_that_names_it(
    tmp_path: Path, key: str, line: int
) -> None:
    folder = written(tmp_path, GOOD)
    with pytest.raises(ImageDefinitionError, match="it is gone") as caught, placing(folder, "web"):
        raise ImagePartError("it is gone", key=key, hint="look for it")
    assert caught.value.line == line
    assert caught.value.hint == "look for it"


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    folder = written(tmp_path, GOOD)
    other = tmp_path / "other" / "unikernels"
    (other / "box").mkdir(parents=True)
    (other / "box" / "image.toml").touch()
    written(folder, GOOD, "Web")
    names = {"wbe": "no image 'wbe'", "../web": "no image name", "Web": "no image name"}
    for unknown, why in names.items():
        with pytest.raises(ImageDefinitionError, match=why) as caught:
            find_definitions((folder, other), unknown)
        assert caught.value.hint == "known here: box, web"
    assert find_definitions((folder, other), "box") == other


@pytest.mark.parametrize("name", ["../web", "Web", "", "a/b"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageDefinitionError, match="no image name"):
        load_definition(tmp_path, name)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    folder = written(tmp_path, GOOD)
    (folder / "web" / "image.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ImageDefinitionError, match="not UTF-8"):
        load_definition(folder, "web")


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "a = " + "{a = " * 20_000])
def test_what_nests_without_end_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImageDefinitionError, match="nested too deeply"):
        load_definition(written(tmp_path, text), "web")


def test_a_file_that_is_no_definition_is_not_read_whole(tmp_path: Path) -> None:
    folder = written(tmp_path, GOOD)
    with (folder / "web" / "image.toml").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageDefinitionError, match="too long"):
        load_definition(folder, "web")


def test_what_is_neither_file_nor_folder_is_not_left_out_in_silence(tmp_path: Path) -> None:
    folder = written(tmp_path, GOOD.replace("app.py", "other"))
    other = folder / "web" / "other"
    for make in (os.mkfifo, lambda path: path.symlink_to("other")):
        make(other)
        with pytest.raises(ImageDefinitionError, match="is not beside"):
            load_definition(folder, "web")
        other.unlink()


@pytest.mark.parametrize("path", [*DEFINITIONS, *APPLIANCES], ids=lambda path: path.parent.name)
def test_ours_are_good_and_name_their_schema(path: Path) -> None:
    definition = load_definition(path.parents[1], path.parent.name)
    assert definition.kinds == (("microvm", "nanos") if path in DEFINITIONS else ("appliance",))
    schema = path.read_text().splitlines()[0].removeprefix("#:schema ")
    assert (path.parent / schema).resolve() == SCHEMA


def test_the_schema_for_editors_is_the_one_that_is_checked() -> None:
    committed = json.loads((SCHEMA).read_text())
    assert committed == json.loads(json.dumps(definition_schema()))


def test_a_command_check_is_nothing_for_a_unikernel(tmp_path: Path) -> None:
    text = GOOD.replace('["microvm"]', '["microvm", "nanos"]')
    text = text.replace('check = "http"', 'check = "exec"\ncommand = ["true"]')
    with pytest.raises(ImageDefinitionError, match="needs a second process") as caught:
        load_definition(written(tmp_path, text), "web")
    assert caught.value.line == 10

"""What programs need, found without running them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sappers.errors import ImageError, ImagePartError
from sappers.images.application import inputs_of
from sappers.images.container_process import container_launch
from sappers.images.definition import ApplicationDefinition, HealthDefinition, ImageDefinition
from sappers.images.elf import libraries_of, package_names, read_program
from sappers.images.oci import open_container
from sappers.images.preload import imported_modules, preload_of
from sappers.images.tree import Tree
from tests.unit.images.containers import docker_save, file, layer

SOURCE = """\
from __future__ import annotations
import os, json.decoder
from typing import TYPE_CHECKING
from mine.part import thing
if TYPE_CHECKING:
    import decimal
else:
    import heapq
try:
    import tomllib
except ImportError:
    import fallback
with open("x") as file:
    import bisect
def late():
    import sqlite3
"""


def test_imports_are_those_of_the_top_level() -> None:
    found = imported_modules(SOURCE)
    assert {"os", "json.decoder", "mine.part", "heapq", "tomllib", "bisect"} <= set(found)
    assert not {"decimal", "fallback", "sqlite3"} & set(found)
    assert imported_modules("not python (") == ()


def test_own_modules_are_followed_and_only_what_is_there_is_preloaded(tmp_path: Path) -> None:
    for name in ("os.pyc", "json/decoder.pyc", "heapq.pyc", "queue.pyc", "_q.cpython.so"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    own = {"main": SOURCE, "mine.part": "import queue, _q, main", "unused": "import bisect"}
    assert set(preload_of("main", own, [tmp_path])) == {
        "os",
        "json.decoder",
        "heapq",
        "queue",
        "_q",
    }


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libpq.so.5", "libpq5"),
        ("libssl.so.3", "libssl3"),
        ("libpcre2-8.so.0", "libpcre2-8-0"),
        ("libdb-5.3.so", "libdb5.3"),
        ("ld-musl-x86_64.so.1", "musl"),
    ],
)
def test_a_library_s_package_is_guessed(library: str, package: str) -> None:
    assert package in package_names(library)


def test_what_is_no_program_for_us_says_so() -> None:
    with pytest.raises(ImageError, match="no ELF program"):
        read_program(b"#!/bin/sh\n", "tool")
    arm = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, *(0,) * 10)
    with pytest.raises(ImageError, match="not for x86-64"):
        read_program(arm, "tool")


def test_libraries_are_found_through_each_other_and_a_missing_one_is_named() -> None:
    python = Path("/usr/bin/python3").resolve().read_bytes()

    def read(path: str) -> bytes | None:
        place = Path("/") / path
        return place.read_bytes() if place.is_file() and "libz" not in place.name else None

    with pytest.raises(ImageError, match=r"needs libz\.so\.1"):
        libraries_of(python, "usr/bin/python3", read)
    found = libraries_of(
        python, "usr/bin/python3", lambda path: (Path("/") / path).read_bytes()
        if (Path("/") / path).is_file() else None
    )  # fmt: skip
    assert {"libc.so.6", "libexpat.so.1", "ld-linux-x86-64.so.2"} <= {Path(p).name for p in found}


FILES = layer(
    file("usr/bin/app", mode=0o755),
    file("srv/run", mode=0o755),
    file("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n"),
    file("etc/group", "root:x:0:\nweb:x:34:\nextra:x:50:a,web\n"),
)


def launch(tmp_path: Path, definition: ImageDefinition | None = None, **config):
    path = docker_save(tmp_path / "app.tar", [FILES], **config)
    (tmp_path / "spool").mkdir()
    definition = definition or ImageDefinition(("microvm",), ApplicationDefinition(container="x"))
    with open_container(path) as image:
        tree = Tree(tmp_path / "spool", "app.tar")
        list(image.unpack(tree))
        return container_launch(image, tree, definition)


def test_the_configuration_says_what_runs_where_and_as_whom(tmp_path: Path) -> None:
    found = launch(
        tmp_path,
        Entrypoint=["app"],
        Cmd=["--serve"],
        Env=["PATH=/opt:/usr/bin", "A=b=c"],
        User="web",
        WorkingDir="/data",
        ExposedPorts={"8080/tcp": {}},
    )
    assert (found.program, found.arguments) == ("/usr/bin/app", ("--serve",))
    assert (found.user_id, found.group_id, found.groups) == (33, 34, (50,))
    assert found.environment == {"PATH": "/opt:/usr/bin", "HOME": "/var/www", "A": "b=c"}
    assert (found.folder, found.port) == ("/data", 8080)


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        (None, (0, 0)),
        ("", (0, 0)),
        ("77", (77, 0)),
        ("77:88", (77, 88)),
        ("33", (33, 34)),
        ("web:extra", (33, 50)),
    ],
)
def test_users_are_names_or_numbers(tmp_path: Path, user: str | None, ids: tuple) -> None:
    found = launch(tmp_path, Cmd=["/usr/bin/app"], User=user)
    assert (found.user_id, found.group_id) == ids


def test_a_definition_overrides(tmp_path: Path) -> None:
    program = ApplicationDefinition(container="x", arguments=("other",))
    definition = ImageDefinition(("microvm",), program, port=1234)
    found = launch(
        tmp_path, definition, Entrypoint=["./run"], Cmd=["c"], WorkingDir="/srv",
        ExposedPorts={"1/tcp": {}, "2/tcp": {}},
    )  # fmt: skip
    assert (found.program, found.arguments, found.port) == ("/srv/./run", ("other",), 1234)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "says not what to run"),
        ({"Cmd": ["gone"]}, "has no program gone"),
        ({"Cmd": ["/usr/bin"]}, "has no program"),
        ({"Cmd": ["app"], "User": "nobody"}, "no such user"),
        ({"Cmd": ["app"], "User": "web:nobody"}, "no such group"),
        ({"Cmd": ["app"], "ExposedPorts": {"80/tcp": {}, "81/tcp": {}}}, "exposes 80, 81"),
    ],
)
def test_what_cannot_run_is_refused_when_it_is_built(
    tmp_path: Path, config: dict, words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        launch(tmp_path, **config)


def test_a_check_needs_a_port(tmp_path: Path) -> None:
    program = ApplicationDefinition(container="x")
    definition = ImageDefinition(("microvm",), program, health=HealthDefinition(check="tcp"))
    with pytest.raises(ImageError, match="exposes no port"):
        launch(tmp_path, definition, Cmd=["app"])


@pytest.mark.parametrize("key", ["container", "files"])
def test_what_the_definition_names_is_blamed_where_it_stands(tmp_path: Path, key: str) -> None:
    (tmp_path / "container").write_text("no archive")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "link").symlink_to("/etc/passwd")
    program = ApplicationDefinition(container="container", files=("files",) * (key == "files"))
    definition = ImageDefinition(kinds=("microvm",), application=program)
    with pytest.raises(ImagePartError) as caught:
        list(inputs_of(definition, tmp_path))
    assert caught.value.key == f"application.{key}"

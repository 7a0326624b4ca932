"""What programs need, found without running them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from sappers.errors import ImageError, ImagePartError
from sappers.images.application import Application, inputs_of
from sappers.images.archive import tree_entries
from sappers.images.container_process import container_launch
from sappers.images.debian import Package
from sappers.images.definition import ApplicationDefinition, HealthDefinition, ImageDefinition
from sappers.images.elf import libraries_of, package_names, read_program
from sappers.images.oci import open_container
from sappers.images.own_files import copy_files, own_files
from sappers.images.parts import Parts, Versions
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
    damaged = bytearray(elf("libmine.so", "/lib"))
    damaged[72:80] = b"\xff" * 8  # where its first segment begins
    with pytest.raises(ImageError, match="no ELF program"):
        read_program(bytes(damaged), "tool")


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


def elf(needed: str, folder: str) -> bytes:
    """A program for x86-64 that is linked with one library and looks for it in one folder."""
    names = b"\0" + needed.encode() + b"\0" + folder.encode() + b"\0"
    # Where the names are and how long, one that is needed, where it is looked for, the end.
    tags = ((5, 176), (10, len(names)), (1, 1), (29, 2 + len(needed)), (0, 0))
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    places = ((1, 0, 176 + len(names) + len(dynamic)), (2, 176 + len(names), len(dynamic)))
    segments = b"".join(
        struct.pack("<IIQQQQQQ", kind, 4, start, start, start, size, size, 1)
        for kind, start, size in places
    )
    return header + segments + names + dynamic


def build_elf(tmp_path: Path, *files: str) -> set[str]:
    """What is in the image of a program `bin/server` that needs `lib/libmine.so`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "server").write_bytes(elf("libmine.so", "$ORIGIN/../lib"))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libmine.so").write_bytes(elf("libmine.so", "$ORIGIN"))
    definition = ImageDefinition(
        ("microvm",), ApplicationDefinition(binary="bin/server", files=files)
    )
    none = Package("none_1_all.deb", "")
    versions = Versions(kernel=none, busybox=none, python=(), application=(), requirements="")
    parts = Parts(tmp_path / "cache", tmp_path / "lock")
    application = Application(definition, tmp_path, parts, versions, lambda _: None)
    (tmp_path / "work").mkdir()
    with parts.alone():
        filled = application.fill(tmp_path / "root", frozenset(), tmp_path / "work")
    return {entry.path for entry in filled.own}


def test_a_library_beside_the_program_is_one_of_the_files(tmp_path: Path) -> None:
    assert "app/lib/libmine.so" in build_elf(tmp_path, "lib")


def test_a_library_that_the_files_leave_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImagePartError, match=r"bin/server needs lib/libmine\.so") as caught:
        build_elf(tmp_path)
    assert caught.value.hint is not None and 'files = ["lib/libmine.so"]' in caught.value.hint
    assert caught.value.key == "application.binary"


def folder_of(tmp_path: Path) -> tuple[ImageDefinition, Path]:
    """A definition that names a folder `d`, which has a file."""
    (tmp_path / "d" / "real").mkdir(parents=True)
    (tmp_path / "d" / "real" / "x").write_text("1")
    (tmp_path / "app.py").write_text("")
    program = ApplicationDefinition(script="app.py", files=("d",))
    return ImageDefinition(("microvm",), program), tmp_path / "d"


def test_links_and_empty_folders_of_a_folder_are_kept(tmp_path: Path) -> None:
    definition, folder = folder_of(tmp_path)
    before = list(inputs_of(definition, tmp_path))
    (folder / "current").symlink_to("real")
    (folder / "y").symlink_to("real/x")
    (folder / "spool" / "new").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    copy_files(own_files(definition, tmp_path), tmp_path / "copied")
    assert {entry.path for entry in tree_entries(tmp_path / "copied" / "d")} == {
        *("current", "real", "real/x", "spool", "spool/new", "y"),
    }
    assert (tmp_path / "copied" / "d" / "current").readlink() == Path("real")
    assert not (tmp_path / "copied" / "d" / "y").is_symlink()
    assert len(list(inputs_of(definition, tmp_path))) == len(before) + 4


def test_what_is_named_below_a_link_is_there_by_the_link(tmp_path: Path) -> None:
    definition, folder = folder_of(tmp_path)
    (folder / "current").symlink_to("real")
    program = ApplicationDefinition(script="d/current/x", files=("d/current", "d"))
    definition = ImageDefinition(("microvm",), program)
    copy_files(own_files(definition, tmp_path), tmp_path / "copied")
    assert (tmp_path / "copied" / "d" / "current").is_symlink()
    assert (tmp_path / "copied" / "d" / "current" / "x").read_text() == "1"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere", "link to nothing"),
        ("odd", "link to nothing"),
        ("..", "leads out"),
        ("/etc", "leads out"),
        ("../other", "`files` does not name"),
        ("", "neither a file nor a folder"),
    ],
)
def test_what_a_guest_cannot_have_is_refused(tmp_path: Path, target: str, words: str) -> None:
    definition, folder = folder_of(tmp_path / "app")
    (tmp_path / "app" / "other").mkdir()
    if target:
        (folder / "odd").symlink_to(target if target != ".." else "../..")
    else:
        os.mkfifo(folder / "odd")
    with pytest.raises(ImagePartError, match=words) as caught:
        list(inputs_of(definition, tmp_path / "app"))
    assert caught.value.key == "application.files"
    assert str(folder / "odd") in caught.value.message


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
        Env=["PATH=/opt:/usr/bin", "A=b=c", "=d", "E"],
        User="web",
        WorkingDir="/data",
        ExposedPorts={"8080/tcp": {}, "65536/tcp": {}, "0": {}},
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
        ({"Cmd": ["app"], "User": "4294967295"}, "no user can have"),
        ({"Cmd": ["app"], "User": "\N{SUPERSCRIPT TWO}"}, "no such user"),
        ({"Cmd": ["app"], "User": "0:\N{SUPERSCRIPT TWO}"}, "no such group"),
        ({"Cmd": ["app"], "User": "9" * 5000}, "no such user"),
        ({"Cmd": ["app"], "User": "0:4294967296"}, "no user can have"),
        ({"Cmd": ["app", "a\0b"]}, "no NUL"),
        ({"Cmd": ["app"], "Env": ["A=b\0c"]}, "no NUL"),
        ({"Cmd": ["app"], "WorkingDir": "/srv/run"}, "which is a file"),
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

"""Where `ops` and the Nanos kernel come from, what `ops` is told, and what it is never told."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images import ops


def kernel_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("kernel.img", "boot.img"):
        (folder / name).write_bytes(b"x")
    return folder


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def silent(_: str) -> None:
    pass


def test_the_kernel_of_nanos_dir_comes_before_that_of_ops_home(tmp_path):
    named = kernel_in(tmp_path / "named")
    home = kernel_in(tmp_path / "home" / ".ops" / "0.1.55")
    (tmp_path / "home" / ".ops" / "latest.txt").write_text("0.1.55\n")
    of_home = {"OPS_HOME": str(tmp_path / "home")}
    assert ops.find_kernel(of_home).kernel == home / "kernel.img"
    assert ops.find_kernel({"HOME": str(tmp_path / "home")}).boot == home / "boot.img"
    found = ops.find_kernel(of_home | {"NANOS_DIR": str(named)})
    assert (found.kernel, found.klibs) == (named / "kernel.img", named / "klibs")


@pytest.mark.parametrize("missing", ["kernel.img", "boot.img"])
def test_a_kernel_that_is_not_there_is_named_with_what_to_do(missing, tmp_path):
    folder = kernel_in(tmp_path / "nanos")
    (folder / missing).unlink()
    with pytest.raises(ImageError, match=f"lacks {missing}") as caught:
        ops.find_kernel({"NANOS_DIR": str(folder)})
    assert "NANOS_DIR" in (caught.value.hint or "")
    with pytest.raises(ImageError, match="no Nanos kernel"):
        ops.find_kernel({"OPS_HOME": str(tmp_path / "nowhere")})


def test_ops_of_path_comes_first_and_then_the_one_that_was_brought(tmp_path):
    tools = tmp_path / "tools"
    empty = {"PATH": str(tmp_path / "nothing")}
    with pytest.raises(ImageError, match="no Go to bring it"):
        ops.find_ops(empty, tools, silent)
    kept = program(tools / f"ops-{ops.VERSION}", "")
    assert ops.find_ops(empty, tools, silent) == kept
    own = program(tmp_path / "bin" / "ops", "")
    assert ops.find_ops({"PATH": str(own.parent)}, tools, silent) == own


def test_go_brings_ops_into_the_tools_and_touches_nothing_else(tmp_path):
    script = """
        test "$1 $2 $3" = "install -tags onlyprovider" || exit 9
        case $GOPATH$GOCACHE$GOMODCACHE in *elsewhere*) exit 8;; esac
        mkdir -p "$GOBIN" && echo "$4" >"$GOBIN/ops" """
    go = program(tmp_path / "bin" / "go", script)
    environment = {"PATH": f"{go.parent}:/usr/bin:/bin", "GOPATH": "/elsewhere"}
    brought = ops.find_ops(environment, tmp_path / "tools", silent)
    assert brought.read_text() == f"{ops.MODULE}@{ops.VERSION}\n"
    assert list((tmp_path / "tools").iterdir()) == [brought]


def test_a_go_that_cannot_says_why_and_leaves_nothing(tmp_path):
    go = program(tmp_path / "bin" / "go", "echo 'no such module' >&2; exit 1")
    with pytest.raises(ImageError, match="Go cannot bring ops: no such module") as caught:
        ops.find_ops({"PATH": f"{go.parent}:/usr/bin:/bin"}, tmp_path / "tools", silent)
    assert "PATH" in (caught.value.hint or "")
    assert list((tmp_path / "tools").iterdir()) == []


def test_ops_is_run_in_a_home_of_its_own_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("OPS_HOME", "/of-the-user")
    script = (
        'env >"$OPS_HOME/said"; mkdir -p "$OPS_HOME/.ops/images"; : >"$OPS_HOME/.ops/images/guest"'
    )
    fake, home = program(tmp_path / "ops", script), tmp_path / "home"
    ops.prepare_home(home)
    kernel = ops.find_kernel({"NANOS_DIR": str(kernel_in(tmp_path / "nanos"))})
    ops.create_disk(fake, kernel, {"Program": "/p"}, home)
    said = dict(line.split("=", 1) for line in (home / "said").read_text().splitlines())
    assert said["HOME"] == said["OPS_HOME"] == str(home)
    assert said["HTTPS_PROXY"].startswith("http://127.0.0.1:")


def test_what_ops_says_when_it_fails_is_told_without_colours(tmp_path):
    fake, home = (
        program(tmp_path / "ops", r"printf '\033[1;31mno kernel\033[0m'; exit 1"),
        tmp_path / "h",
    )
    ops.prepare_home(home)
    kernel = ops.find_kernel({"NANOS_DIR": str(kernel_in(tmp_path / "nanos"))})
    with pytest.raises(ImageError, match=r"ops cannot make the image: no kernel$"):
        ops.create_disk(fake, kernel, {"Program": "/p"}, home)
    quiet = program(tmp_path / "quiet", "exit 0")
    with pytest.raises(ImageError, match="ops made no image"):
        ops.create_disk(quiet, kernel, {"Program": "/p"}, home)


def test_the_configuration_names_the_kernel_so_that_nothing_is_downloaded(tmp_path):
    folder = kernel_in(tmp_path / "nanos")
    told = ops.configuration(ops.find_kernel({"NANOS_DIR": str(folder)}))
    assert (told["Kernel"], told["Boot"]) == (str(folder / "kernel.img"), str(folder / "boot.img"))
    assert told["KlibDir"] == str(folder / "klibs")
    assert "debug_exit" in told["Debugflags"]

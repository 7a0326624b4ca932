"""The agent's bundle: what goes in, and what it is known by. Building it is tried end to end."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile

import pytest

from sappers.provisioner.bootstrap import bundle
from sappers.provisioner.bootstrap.bundle import (
    PYTHON_MINORS,
    AgentSources,
    BundleError,
    _build_source_packages,
    build_bundle,
    complete_platform,
    find_sources,
)

LOCK = """\
anyio==4.0 \\
    --hash=sha256:aa
    # via httpx
cffi==2.1 ; platform_python_implementation != 'PyPy' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
pydantic-core==2.5 \\
    --hash=sha256:dd
"""


@pytest.fixture
def sources(tmp_path) -> AgentSources:
    sources = AgentSources(tmp_path / "checkout")
    sources.package.mkdir(parents=True)
    (sources.package / "errors.py").write_text("x = 1\n")
    sources.lock.parent.mkdir()
    sources.lock.write_text(LOCK)
    return sources


def test_sources_are_a_checkout(sources, tmp_path):
    assert find_sources(sources.package) == sources
    with pytest.raises(BundleError, match="built from a checkout"):
        find_sources(tmp_path / "site-packages" / "sappers")


def test_inputs_name_the_bundle(sources):
    before = bundle._input_digest(sources)
    (sources.package / "__pycache__").mkdir()
    (sources.package / "__pycache__" / "errors.pyc").write_bytes(b"x")
    assert bundle._input_digest(sources) == before
    (sources.package / "errors.py").write_text("x = 2\n")
    changed = bundle._input_digest(sources)
    assert changed != before
    sources.lock.write_text(LOCK.replace("aa", "ab"))
    assert bundle._input_digest(sources) != changed


def test_a_built_bundle_is_not_built_again(sources, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    built = cache / f"{bundle._input_digest(sources)[:16]}.pex"
    built.write_bytes(b"agent")
    found = build_bundle(sources, cache, pytest.fail)
    assert (found.path, found.size_bytes) == (built, 5)
    assert found.digest == hashlib.sha256(b"agent").hexdigest()


def test_old_bundles_and_leftovers_are_swept(sources, tmp_path):
    cache = tmp_path / "cache"
    (cache / ".pex-killed" / "root").mkdir(parents=True)
    for age in range(6):
        old = cache / f"old{age}.pex"
        old.touch()
        os.utime(old, (1000 - age, 1000 - age))
    built = cache / f"{bundle._input_digest(sources)[:16]}.pex"
    built.write_bytes(b"agent")
    build_bundle(sources, cache, pytest.fail)
    kept = {built.name, "old0.pex", "old1.pex", "old2.pex", "lock"}
    assert {path.name for path in cache.iterdir()} == kept


def test_requirements_without_hashes():
    assert bundle._names(LOCK).splitlines() == [
        "anyio==4.0",
        "cffi==2.1 ; platform_python_implementation != 'PyPy'",
        "pydantic-core==2.5",
    ]


def test_a_wheel_for_every_python_is_fetched_once(tmp_path):
    (tmp_path / "anyio-4.0-py3-none-any.whl").touch()
    (tmp_path / "pydantic_core-2.5-cp311-cp311-manylinux_2_17_x86_64.whl").touch()
    rest = bundle._without_universal(LOCK, tmp_path)
    assert "anyio" not in rest
    assert "pydantic-core==2.5 \\\n    --hash=sha256:dd" in rest
    assert bundle._without_universal(LOCK, tmp_path / "none").strip() == LOCK.strip()


@pytest.mark.parametrize("minor", PYTHON_MINORS)
def test_platforms_take_old_and_new_wheels(minor):
    tags = complete_platform(minor)["compatible_tags"]
    assert isinstance(tags, list)
    for tag in (
        f"cp3{minor}-cp3{minor}-manylinux_2_28_x86_64",
        f"cp3{minor}-cp3{minor}-manylinux1_x86_64",
        "cp38-abi3-manylinux_2_17_x86_64",
        "py3-none-manylinux_2_28_x86_64",
        "py3-none-any",
    ):
        assert tag in tags
    assert f"cp3{minor + 1}-abi3-manylinux_2_28_x86_64" not in tags


def test_a_source_package_is_built_with_what_is_here_and_the_same_under_each_umask(tmp_path):
    project = """
        [build-system]
        requires = ["setuptools", "no-such-package-as-this-one"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "tiny"
        version = "1"
    """
    made = set()
    for umask in (0o022, 0o077):
        folder = tmp_path / oct(umask)
        folder.mkdir()
        with tarfile.open(folder / "tiny-1.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo("tiny-1/pyproject.toml")
            entry.size = len(project)
            archive.addfile(entry, io.BytesIO(project.encode()))
        before = os.umask(umask)
        try:
            _build_source_packages(folder)
        finally:
            os.umask(before)
        (wheel,) = folder.iterdir()
        assert wheel.name == "tiny-1-py3-none-any.whl"
        made.add(wheel.read_bytes())
    assert len(made) == 1

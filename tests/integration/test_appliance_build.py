"""Appliances by the real builder, with a machine that only hands out a root: no boot, no Debian."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images import appliance_root
from sappers.images.appliance_root import Archive
from sappers.images.debian import Package
from sappers.images.definition import ApplianceDefinition, ImageDefinition
from sappers.images.packer import AgentKit, ApplianceBuilder
from tests.appliance_roots import root_tar
from tests.image_stores import KEY, make_store
from tests.integration.test_appliance_disk import PATH, TOOLS
from tests.waiting import wait_until

APPLIANCE = Path(__file__).parents[2] / "images/packer/appliance"
DEFINITION = ImageDefinition(kinds=("appliance",), appliance=ApplianceDefinition(disk_mib=256))
PROJECT = Path(__file__).parents[2]
# Does what Packer and the machine do: it takes the disk, and hands out a root.
MACHINE = """\
#!{python}
import sys
sys.path.insert(0, {project!r})
from pathlib import Path
from tests.appliance_roots import root_tar
if sys.argv[1] == "version":
    sys.exit(print("Packer {version}"))
if sys.argv[1] == "validate":
    sys.exit({problem!r} or "Error: Unset variable")
given = dict(one.split("=", 1) for one in sys.argv if "=" in one)
assert Path(given["disk"]).stat().st_size == 256 << 20
print("==> qemu.appliance: Booting")
if {hands_out}:
    made = root_tar(Path(given["root"]).with_suffix(".made"), agent=b"installed")
    Path(given["root"]).write_bytes(made.read_bytes())
"""
pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool, path=PATH) for tool in (*TOOLS, "ssh-keygen")),
    reason="a tool is not here",
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "packer"
    program.parent.mkdir()
    write_machine(program)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(
        appliance_root, "resolve_closure", lambda *_: (Package("systemd_252.deb", "SHA256:1"),)
    )
    monkeypatch.setattr(
        appliance_root, "build_root", lambda names, archive, path, scratch: debian(path)
    )
    return program


def write_machine(
    program: Path, *, hands_out: bool = True, version: str = "v1.6.6", problem: str = ""
) -> None:
    text = MACHINE.format(
        python=sys.executable,
        project=str(PROJECT),
        hands_out=hands_out,
        version=version,
        problem=problem,
    )
    program.write_text(text)
    program.chmod(0o755)


def debian(target: Path) -> None:
    target.parent.mkdir()
    root_tar(target)


def build(place: Path, definition: Path = APPLIANCE) -> tuple[str, bool, list[str]]:
    """An image's digest, whether it was built, what was told; cache and store are in `place`."""
    told: list[str] = []
    place.mkdir(exist_ok=True)
    (place / "agent.pex").write_bytes(b"agent")
    kit = AgentKit(place / "agent.pex", "0123456789ab-py311", b"[Unit]\n", "true\n", ())
    builder = ApplianceBuilder(
        make_store(place / "images"),
        KEY,
        place / "cache",
        agent=lambda _: kit,
        archive=lambda: Archive(()),
        accelerator=lambda: "tcg",
    )
    digest, built = builder.build("appliance", DEFINITION, definition, told.append)
    return digest, built, told


def test_the_same_inputs_make_the_same_image_and_others_another(
    machine: Path, tmp_path: Path
) -> None:
    definition = tmp_path / "appliance"
    shutil.copytree(APPLIANCE, definition)
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"

    digest, built, told = build(here, definition)
    assert built
    steps = ("making a disk of it", "booting it", "Booting", "storing")
    assert tuple(one for one in told if one in steps) == steps

    assert build(here, definition)[:2] == (digest, False)
    write_machine(machine, version="v1.16.0")  # which of them boots it makes no difference
    assert build(elsewhere, definition)[:2] == (digest, True)

    with (definition / "provision" / "agent.sh").open("a") as script:
        script.write("true\n")
    another, built, _ = build(here, definition)
    assert built and another != digest  # the disk's ids are derived from the inputs


def test_a_machine_that_hands_out_no_root_makes_no_image(machine: Path, tmp_path: Path) -> None:
    write_machine(machine, hands_out=False)

    with pytest.raises(ImageError, match="handed out no root") as refused:
        build(tmp_path / "place")

    assert refused.value.hint is not None and "seal.sh" in refused.value.hint


# What Packer 1.16 says.
NO_PLUGIN = """\
Error: Missing plugins

The following plugins are required, but not installed:

* github.com/hashicorp/qemu >= 1.0.0

Did you run packer init for this project ?

"""


def test_a_current_packer_without_its_plugin_is_told_of_before_anything_is_made(
    machine: Path, tmp_path: Path
) -> None:
    write_machine(machine, version="v1.16.0", problem=NO_PLUGIN)

    with pytest.raises(ImageError, match=r"lacks .*: github\.com/hashicorp/qemu$") as refused:
        build(tmp_path / "place")

    assert refused.value.hint is not None
    assert "packer plugins install github.com/hashicorp/qemu" in refused.value.hint
    assert not (tmp_path / "place/cache/appliance-roots").exists()
    assert not list((tmp_path / "place/cache/appliance-scratch").iterdir())


# Boots a disk with nothing on it, by the real template: the machine waits for ever.
BOOT = """\
import os, sys
from pathlib import Path
from sappers.images import packer
work, definition = Path(sys.argv[1]), Path(sys.argv[2])
environment = packer.packer_environment(work)
version = packer.packer_version()
template = packer.prepare_template(definition, work / "template", version)
if version >= (1, 7):
    packer.require_plugins(template, environment)
key, credential = packer._make_key(work)
values = {name: str(work / name) for name in ("disk", "agent", "unit", "unpack", "root")}
for name in values:
    (work / name).touch()
os.truncate(work / "disk", 1 << 20)
values |= {"output": str(work / "booted"), "version": "1", "key": str(key)}
command = ["packer", "build", *packer.variable_options({**values, "credential": credential}), "."]
packer._follow(command, template, work, environment, print)
"""


def running_for(work: Path) -> set[str]:
    """Programs that work in a folder: all that a build runs inherit its TMPDIR."""
    found, wanted = set(), f"TMPDIR={work}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.add((process / "comm").read_text().strip())
    return found


@pytest.mark.skipif(not shutil.which("packer"), reason="packer is not here")
def test_a_build_that_is_killed_leaves_no_packer_no_machine_and_no_file(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", BOOT, str(work), str(APPLIANCE)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as build:
        try:
            found = wait_until(
                "the machine boots",
                lambda: {"ended"} if build.poll() is not None else booted(running_for(work)),
            )
        finally:
            build.kill()
        assert build.stderr is not None
        if "lacks what the template requires" in (said := build.stderr.read()):
            pytest.skip("this Packer has no qemu plugin")
        assert "packer" in found, said

    wait_until("all that it ran ends", lambda: not running_for(work))
    wait_until("what it made goes", lambda: not work.exists())


def booted(running: set[str]) -> set[str]:
    return running if any(name.startswith("qemu-system") for name in running) else set()

"""The template as each Packer reads it, and what a build depends on."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest

from sappers.errors import ImageDefinitionError, ImageError
from sappers.images import debian, packer
from sappers.images.appliance_root import resolve_closure
from sappers.images.debian import Package
from sappers.images.definition import ApplianceDefinition, ImageDefinition, placing
from sappers.images.packer import (
    AgentKit,
    ApplianceBuilder,
    named_packages,
    prepare_template,
    variable_options,
    wanted_packages,
)
from sappers.images.store import FolderImageStore
from sappers.model.image import Blob
from tests.image_stores import KEY

APPLIANCE = Path(__file__).parents[3] / "images/packer/appliance"
KIT = AgentKit(Path("agent.pex"), "0123456789ab-py311", b"[Unit]\n", "true\n", ("nftables",))
DEFINITION = ImageDefinition(kinds=("appliance",), appliance=ApplianceDefinition())
VARIABLES = ("disk", "root", "agent", "unit", "unpack", "key")
needs_packer = pytest.mark.skipif(not shutil.which("packer"), reason="packer is not here")


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a `packer` of our own first in PATH."""
    folder.mkdir()
    (folder / "packer").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "packer").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize(
    ("version", "gets"),
    [
        ((1, 6, 6), {"appliance.pkr.hcl"}),
        ((1, 7, 0), {"appliance.pkr.hcl", "required.pkr.hcl"}),
        ((1, 16, 0), {"appliance.pkr.hcl", "required.pkr.hcl"}),
    ],
)
def test_only_newer_packers_are_told_of_plugins(
    version: tuple[int, ...], gets: set[str], tmp_path: Path
) -> None:
    made = prepare_template(APPLIANCE, tmp_path / "template", version)

    assert {path.name for path in made.glob("*.hcl")} == gets
    assert (made / "provision" / "seal.sh").exists()


def test_a_folder_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"has no \*.pkr.hcl"):
        prepare_template(tmp_path, tmp_path / "template", (1, 6, 6))


@needs_packer
def test_the_packer_that_is_here_finds_the_template_valid(tmp_path: Path) -> None:
    made = prepare_template(APPLIANCE, tmp_path / "template", packer.packer_version())
    for name in VARIABLES:
        (tmp_path / name).write_text("")
    (tmp_path / "keys").mkdir()
    key, credential = packer._make_key(tmp_path / "keys")
    values = {name: str(tmp_path / name) for name in VARIABLES}
    values |= {"key": str(key), "credential": credential, "output": str(tmp_path / "made")}
    command = ["packer", "validate", *variable_options({**values, "version": "1"}), "."]

    done = subprocess.run(
        command, cwd=made, env=packer.packer_environment(tmp_path), capture_output=True, text=True
    )

    if "Missing plugins" in done.stdout:
        pytest.skip("this Packer has no qemu plugin")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_forwarded_port_is_on_loopback_alone() -> None:
    template = (APPLIANCE / "appliance.pkr.hcl").read_text()

    assert template.count("hostfwd=") == 1
    assert "restrict=on,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22" in template
    assert 'boot_wait          = "0s"' not in template


def test_versions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "echo 'Packer v1.16.0-dev'", monkeypatch)

    assert packer.packer_version() == (1, 16, 0)


def test_packer_gets_neither_what_is_the_callers_own_nor_values_of_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKR_VAR_memory_mib", "64")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")  # Packer hands it on to the machine
    monkeypatch.setenv("PACKER_PLUGIN_PATH", "/opt/plugins")

    given = packer.packer_environment(tmp_path)

    assert not {"PKR_VAR_memory_mib", "SSH_AUTH_SOCK"} & given.keys()
    assert given["PACKER_PLUGIN_PATH"] == "/opt/plugins"
    assert given["PATH"] == os.environ["PATH"]


def test_nobody_is_asked_for_a_newer_packer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", 'echo "Packer v1.$CHECKPOINT_DISABLE.0"', monkeypatch)

    assert packer.packer_version() == (1, 1, 0)


def test_another_program_called_packer_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "echo /usr/share/dict/cracklib-small", monkeypatch)

    with pytest.raises(ImageError, match="does not say"):
        packer.packer_version()


def test_without_packer_one_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ImageError, match="packer is not here") as refused:
        packer.packer_version()

    assert refused.value.hint is not None and "make setup" in refused.value.hint


def test_all_packages_are_asked_for_once() -> None:
    wanted = wanted_packages(ApplianceDefinition(packages=("nano", "nftables")), KIT)

    assert len(wanted) == len(set(wanted))
    assert {"nano", "nftables", "linux-image-cloud-amd64", "openssh-server"} <= set(wanted)


@pytest.mark.parametrize(
    "appliance",
    [
        ApplianceDefinition(packages=("nano", "sappers-has-no-such-thing")),
        ApplianceDefinition(kernel="sappers-has-no-such-thing"),
    ],
)
def test_a_package_that_apt_does_not_know_has_its_line(
    appliance: ApplianceDefinition, tmp_path: Path
) -> None:
    try:
        debian.kernel_package()
    except ImageError as error:
        pytest.skip(f"apt has no lists here: {error}")
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "image.toml").write_text(
        f'kinds = ["appliance"]\n[appliance]\nkernel = "{appliance.kernel}"\npackages = [\n]\n'
    )
    with (
        pytest.raises(ImageDefinitionError, match="no package sappers-has-no-") as caught,
        placing(tmp_path, "edge"),
    ):
        resolve_closure(wanted_packages(appliance, KIT), named_packages(appliance))
    assert caught.value.line == (4 if appliance.packages else 3)


def test_whatever_goes_in_decides_what_is_built(tmp_path: Path) -> None:
    folder = tmp_path / "appliance"
    shutil.copytree(APPLIANCE, folder)
    packages = (Package("systemd_252_amd64.deb", "SHA256:1"),)

    def digest(agent: AgentKit = KIT, packages: tuple[Package, ...] = packages) -> str:
        return packer._input_digest("appliance", DEFINITION, folder, packages, agent)

    before = digest()
    assert digest() == before
    others = {
        digest(agent=msgspec.structs.replace(KIT, version="another")),
        digest(agent=msgspec.structs.replace(KIT, unit=b"another")),
        digest(packages=(Package("systemd_253_amd64.deb", "SHA256:2"),)),
    }
    script = folder / "provision" / "seal.sh"
    script.chmod(0o644)
    others.add(digest())
    script.chmod(0o755)
    script.write_text("another")
    others.add(digest())
    assert len(others) == 5 and before not in others


def test_what_packer_says_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(
        tmp_path / "bin", "echo '==> qemu.appliance: Booting'; echo no KVM; exit 3", monkeypatch
    )
    told: list[str] = []

    ended, output = packer._follow(["packer", "build"], tmp_path, tmp_path, os.environ, told.append)

    assert ended == 3
    assert "no KVM" in output
    assert told == ["Booting"]


class PrunedBetween(FolderImageStore):
    """A store that somebody else wants to prune as soon as a disk's chunks are in it."""

    def put_file(self, path: Path) -> Blob:
        blob = super().put_file(path)

        def prune() -> None:
            with contextlib.suppress(ImageError):  # others write: it is to come again
                FolderImageStore(self._folder, lambda: {KEY.public}).prune(())

        other = threading.Thread(target=prune)
        other.start()
        other.join()
        return blob


def test_nobody_prunes_a_disk_before_its_manifest_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.images.store._PRUNE_PATIENCE_SECONDS", 0.0)
    store = PrunedBetween(tmp_path / "images", lambda: {KEY.public})
    (tmp_path / "disk").write_bytes(b"a disk")
    builder = ApplianceBuilder(
        store,
        KEY,
        tmp_path / "cache",
        agent=lambda _: KIT,
        archive=lambda: pytest.fail("nothing is fetched"),
        accelerator=lambda: "tcg",
    )

    digest = builder._keep("appliance", "ab" * 32, tmp_path / "disk", 512)

    assert store.missing_chunks(digest) == ()

"""Seed disks, and what an appliance does with one; the machine's own script runs here."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from sappers.errors import ImageError
from sappers.images.appliance_seed import SEED_LABEL, write_seed_disk

INSTALLER = Path(__file__).parents[3] / "images/packer/appliance/root/usr/lib/sappers/seed"
SECRETS = (
    "agent.toml",
    "node-id",
    "pki/ca.pem",
    "pki/cert.pem",
    "pki/key.pem",
    "gossip.key",
    "hub.seed",
    "hub/operator.jwt",
    "hub/account.jwt",
)
FILES = {
    **{name: f"content of {name}\n".encode() for name in SECRETS},
    "node-id": b"edge1-123456\n",
    "hostname": b"edge1\n",
    "network": b"[Match]\nType=ether\n",
    "authorized_keys": b"ssh-ed25519 AAAA me\n",
}
needs_mtools = pytest.mark.skipif(not shutil.which("mformat"), reason="mtools is not here")


class Machine:
    """An appliance's folders, and the seed plugged into it."""

    def __init__(self, folder: Path) -> None:
        self.state, self.etc = folder / "state", folder / "etc"
        self.seed, self.home = folder / "seed", folder / "home"
        (self.etc / "systemd/network").mkdir(parents=True)

    def plug_in(self, files: dict[str, bytes]) -> None:
        shutil.rmtree(self.seed, ignore_errors=True)
        for name, content in files.items():
            (self.seed / name).parent.mkdir(parents=True, exist_ok=True)
            (self.seed / name).write_bytes(content)

    def install(self) -> subprocess.CompletedProcess[str]:
        places = {
            "SAPPERS_STATE": str(self.state),
            "SAPPERS_ETC": str(self.etc),
            "SAPPERS_SEED": str(self.seed),
            "SAPPERS_HOME": str(self.home),
        }
        command = ["sh", str(INSTALLER), ""]
        return subprocess.run(
            command, env=os.environ | places, capture_output=True, text=True, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@needs_mtools
def test_a_disk_holds_the_files_under_its_label(tmp_path: Path) -> None:
    disk = tmp_path / "edge1.img"
    write_seed_disk(disk, FILES)

    label = subprocess.run(["mlabel", "-s", "-i", disk, "::"], capture_output=True, text=True)
    key = subprocess.run(["mtype", "-i", disk, "::pki/key.pem"], capture_output=True)
    assert SEED_LABEL in label.stdout
    assert key.stdout == FILES["pki/key.pem"]
    assert stat.S_IMODE(disk.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["edge1.img"]


@needs_mtools
def test_another_seed_is_not_overwritten(tmp_path: Path) -> None:
    disk = tmp_path / "edge1.img"
    disk.write_bytes(b"another seed")

    with pytest.raises(ImageError, match="it exists"):
        write_seed_disk(disk, FILES)

    assert disk.read_bytes() == b"another seed"


def test_a_seed_is_installed_and_erased(machine: Machine) -> None:
    machine.plug_in(FILES)

    done = machine.install()

    assert done.returncode == 0, done.stderr
    for name in SECRETS:
        path = machine.state / name
        assert path.read_bytes() == FILES[name]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not (machine.seed / name).exists()
    assert stat.S_IMODE((machine.state / "pki").stat().st_mode) == 0o700
    assert (machine.etc / "hostname").read_text() == "edge1\n"
    assert (machine.etc / "systemd/network/10-sappers.network").exists()
    assert (machine.home / ".ssh/authorized_keys").read_bytes() == FILES["authorized_keys"]


def test_a_used_seed_makes_no_second_member(machine: Machine, tmp_path: Path) -> None:
    machine.plug_in(FILES)
    machine.install()
    second = Machine(tmp_path / "second")
    second.seed = machine.seed

    done = second.install()

    assert done.returncode == 1
    assert "was used by another machine" in done.stderr
    assert not second.state.exists()


def test_a_member_takes_no_other_seed(machine: Machine) -> None:
    machine.plug_in(FILES)
    machine.install()
    machine.plug_in({**FILES, "node-id": b"edge2-abcdef\n", "gossip.key": b"other\n"})

    done = machine.install()

    assert done.returncode == 1
    assert "is edge1-123456 already" in done.stderr
    assert (machine.state / "gossip.key").read_bytes() == FILES["gossip.key"]
    assert (machine.seed / "pki/key.pem").exists(), "another machine's seed must stay whole"


@pytest.mark.parametrize("lacking", SECRETS)
def test_half_a_seed_changes_nothing(machine: Machine, lacking: str) -> None:
    machine.plug_in({name: text for name, text in FILES.items() if name != lacking})

    done = machine.install()

    assert done.returncode == 1
    assert f"lacks {lacking}" in done.stderr
    assert not machine.state.exists()
    assert not (machine.etc / "hostname").exists()


def test_an_interrupted_erasure_is_finished(machine: Machine) -> None:
    machine.plug_in(FILES)
    machine.install()
    machine.plug_in({"node-id": FILES["node-id"], "pki/key.pem": FILES["pki/key.pem"], "used": b""})

    assert machine.install().returncode == 0
    assert not (machine.seed / "pki/key.pem").exists()
    assert machine.install().returncode == 0, "an empty one is nothing to complain of"

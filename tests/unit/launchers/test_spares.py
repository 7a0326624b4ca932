"""What an agent that died left of its spares is ended, and what is a guest's is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sappers.launchers.command import GuestSpec
from sappers.launchers.guest_folder import SPARE_PREFIX, UNIT_PREFIX, GuestFolder, Record
from sappers.launchers.guest_units import GuestUnits
from sappers.launchers.qemu import QemuLauncher
from sappers.launchers.spares import Spares
from sappers.launchers.templates import Held, Template, new_memory
from sappers.model.guest_scope import GuestScope
from sappers.model.image import Manifest, MicrovmBoot
from sappers.model.member import Accelerator
from sappers.ports import UnitStatus
from tests.image_stores import make_store, put_image
from tests.unit.clocks import FixedClock
from tests.waiting import eventually

LEFT, GUESTS = f"{SPARE_PREFIX}0a", f"{SPARE_PREFIX}0b"


class Units:
    """A supervisor of units that run since the second second, and of none that could start."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.started = 0

    async def start(self, spec: object) -> None:
        self.started += 1
        raise OSError("no room")

    async def stop(self, name: str, grace_seconds: float) -> None:
        self.names.discard(name)

    async def status(self, name: str) -> UnitStatus | None:
        return UnitStatus(name, running=True, started_at=2.0) if name in self.names else None

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        found = [await self.status(name) for name in sorted(self.names) if name.startswith(prefix)]
        return tuple(filter(None, found))


class Credentials:
    """None has gone stale."""

    def stale_before(self) -> float:
        return float("-inf")


def launcher_on(
    folder: Path, units: Units, scope_of: Callable[[str], GuestScope | None] = lambda _: None
) -> QemuLauncher:
    return QemuLauncher(
        folder=folder / "guests",
        templates=folder / "templates",
        spares=folder / "spares",
        images=make_store(folder / "images"),
        supervisor=units,
        hub=list,
        ca=None,
        credentials=Credentials(),
        scope_of=scope_of,
        accelerator=Accelerator("tcg", ""),
        address="127.0.0.1",
        clock=FixedClock(1000.0),
        refusals=None,
    )


async def test_a_guest_that_was_a_spare_is_found_and_its_predecessors_spares_are_ended(
    tmp_path: Path,
) -> None:
    for name in ("spare-0a", "spare-0b"):
        GuestFolder(tmp_path / "spares", name).prepare(Record(name, 1.0), {}, None)
    folder = GuestFolder(tmp_path / "spares", "spare-0b")
    record = Record("shop-1", 1.0, told=(), unit=GUESTS, began_at=50.0, credentials_until=1600.0)
    folder.become(tmp_path / "guests", record)
    units = Units(LEFT, GUESTS, f"{UNIT_PREFIX}shop-2")

    launcher = launcher_on(tmp_path, units)
    guests = await launcher.observe()
    assert {name: guest.started_at for name, guest in guests.items()} == {
        "shop-1": 50.0,
        "shop-2": 2.0,
    }
    assert all(guest.running for guest in guests.values())
    assert units.names == {GUESTS, f"{UNIT_PREFIX}shop-2"}
    assert list((tmp_path / "spares").iterdir()) == []

    await launcher.stop("shop-1", 0.0)
    assert units.names == {f"{UNIT_PREFIX}shop-2"}
    assert (await launcher.observe()).keys() == {"shop-2"}


def test_a_spares_folder_becomes_the_guests_with_its_record(tmp_path: Path) -> None:
    folder = GuestFolder(tmp_path / "spares", "spare-0a")
    folder.prepare(Record("spare-0a", 1.0), {}, None)
    before = GuestFolder(tmp_path / "guests", "shop-1")
    before.prepare(Record("shop-1", 1.0), {}, None)
    (before.path / "serial.log").write_text("of a start that failed")

    inode = folder.run.stat().st_ino
    folder.become(tmp_path / "guests", Record("shop-1", 1.0, unit=LEFT))
    assert folder.path == before.path
    assert before.unit == LEFT
    assert before.run.stat().st_ino == inode
    assert not (before.path / "serial.log").exists()
    assert list((tmp_path / "spares").iterdir()) == []
    before.clear()
    assert before.unit == f"{UNIT_PREFIX}shop-1"


@pytest.fixture
def held() -> Held:
    memory = new_memory(1)
    found = Held(Template("key", "image", 1, "", ""), os.dup(memory), b"")
    os.close(memory)
    return found


async def test_one_that_cannot_be_made_leaves_nothing_and_is_not_tried_again(
    tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sappers.launchers.spare_rules.QUIET_SECONDS", 0.0)
    store, units = make_store(tmp_path / "images"), Units()
    image = put_image(store)
    held.template = Template("key", image, 1, "", "")
    spec = GuestSpec("", 1, Accelerator("tcg", ""), "")
    spares = Spares(
        root=tmp_path / "spares",
        images=store,
        supervisor=units,
        units=GuestUnits(units, UNIT_PREFIX, time.monotonic),
        spec_of=lambda *_: spec,
        is_quiet=lambda: True,
        is_held=lambda one: one is held,
    )
    manifest = store.manifest(image)
    assert isinstance(manifest, Manifest) and isinstance(manifest.boot, MicrovmBoot)
    spares.used(held, manifest, spec, linked=True)  # it could not have taken one
    assert units.started == 0
    spares.used(held, manifest, spec, linked=False)
    await eventually(lambda: units.started)
    await eventually(lambda: not spares.is_making)
    assert units.started == 1
    assert not spares.ready
    assert list((tmp_path / "spares").iterdir()) == []
    assert spares.take(held, spec, linked=False) is None
    await spares.close()

"""Which guests start from templates, and the reason when one does not."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sappers.errors import SupervisorError, TemplateError
from sappers.launchers import template_key, template_maker
from sappers.launchers.checkpoints import Checkpoints
from sappers.launchers.command import GuestSpec
from sappers.launchers.templates import TemplateFolder, new_memory
from sappers.model.allocation import Allocation
from sappers.model.image import Manifest
from sappers.model.member import Accelerator
from sappers.model.workload import ImageReference
from sappers.ports import UnitSpec, UnitStatus
from tests.image_stores import KEY, make_store, put_image


class Supervisor:
    """Knows one unit that an agent left, and starts none."""

    def __init__(self) -> None:
        self.units = {"sappers-template-old"}

    async def start(self, spec: UnitSpec) -> None:
        raise SupervisorError("no room")

    async def stop(self, name: str, grace_seconds: float) -> None:
        self.units.discard(name)

    async def send_signal(self, name: str, number: signal.Signals) -> None:
        raise SupervisorError("none runs")

    async def status(self, name: str) -> UnitStatus | None:
        return None

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        return tuple(UnitStatus(name, running=True) for name in self.units)


class Host:
    """A host with one image, and templates as a test wants them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "templates"
        self.trusted = {KEY.public}
        self.store = make_store(folder / "images", lambda: self.trusted)
        self.image = put_image(self.store)
        self.supervisor = Supervisor()
        self.quiet = True
        self.checkpoints = self.make_checkpoints()

    def make_checkpoints(self) -> Checkpoints:
        return Checkpoints(
            root=self.root,
            images=self.store,
            supervisor=self.supervisor,
            spec_of=lambda _, memory: GuestSpec("template", memory, Accelerator("tcg", ""), ""),
            is_quiet=lambda: self.quiet,
        )

    @property
    def manifest(self) -> Manifest:
        found = self.store.manifest(self.image)
        assert found is not None
        return found

    def allocation(self, **values: Any) -> Allocation:
        image = ImageReference("web", self.image)
        return msgspec.structs.replace(Allocation("web-1", "web", 1, image, 1, "m1", 1), **values)

    def have_template(self) -> None:
        memory = new_memory(1)
        key = self.checkpoints._key(self.image, self.manifest, 1)
        TemplateFolder(self.root).add(key, self.image, memory, b"device", 0.0)
        os.close(memory)

    async def why_not(self, **values: Any) -> str:
        with pytest.raises(TemplateError) as caught:
            await self.checkpoints.template_for(self.allocation(**values), self.manifest)
        return caught.value.message


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_a_guest_starts_from_its_images_template(host: Host) -> None:
    host.have_template()
    held = await host.checkpoints.template_for(host.allocation(), host.manifest)
    assert held.device == b"device"
    assert "already" in await host.checkpoints.make_now(
        host.image, msgspec.structs.replace(host.manifest, memory_mib=1)
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"cold": True}, "as it was asked for"),
        ({"restarts": 1}, "it was restarted before, so nothing old is used"),
        ({"memory_mib": 2}, "there is no template yet"),
    ],
)
async def test_why_a_guest_boots(host: Host, values: dict, reason: str) -> None:
    host.have_template()
    assert await host.why_not(**values) == reason


async def test_a_damaged_template_is_said_once_and_gone(host: Host) -> None:
    host.have_template()
    (template,) = host.root.iterdir()
    (template / "device").write_bytes(b"other")
    assert "was damaged" in await host.why_not()
    assert await host.why_not() == "there is no template yet"


async def test_one_that_is_made_waits_until_no_guest_boots(host: Host) -> None:
    host.quiet = False
    host.checkpoints.make_later(host.image, host.manifest, 1)
    await asyncio.sleep(0)
    assert await host.why_not() == "its template is being made"
    await host.checkpoints.close()
    assert await host.why_not() == "there is no template yet"


async def test_one_that_cannot_be_made_gives_the_reason_and_is_let_be(host: Host) -> None:
    with pytest.raises(TemplateError, match="no room"):
        await host.checkpoints.make_now(
            host.image, msgspec.structs.replace(host.manifest, memory_mib=1)
        )
    assert "no template can be made: no room" in await host.why_not()
    host.checkpoints.make_later(host.image, host.manifest, 1)
    assert "no room" in await host.why_not()  # and none is being made
    assert not list(host.root.glob("[!.]*")) and not list(host.root.glob(".making/*"))


async def test_what_must_stay_free_is_said_where_there_is_no_room(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_maker, "available_memory_mib", lambda: 300)
    with pytest.raises(TemplateError, match=r"MiB of memory and leaves 256 free, but only 300 are"):
        await host.checkpoints.make_now(
            host.image, msgspec.structs.replace(host.manifest, memory_mib=128)
        )


async def test_what_a_dead_agent_left_is_swept(host: Host) -> None:
    (host.root / ".making" / "old").mkdir(parents=True)
    host.have_template()
    await host.checkpoints.look_after(())
    assert not host.supervisor.units
    assert [path.name for path in host.root.iterdir()] == [
        host.checkpoints._key(host.image, host.manifest, 1)
    ]


async def test_a_template_goes_with_its_image(host: Host) -> None:
    host.have_template()
    host.store.remove_name("web")
    host.store.prune(())
    assert host.store.manifest(host.image) is None
    await host.make_checkpoints().look_after(())
    assert not list(host.root.iterdir())


async def test_one_whose_image_nobody_trusts_yet_stays(host: Host) -> None:
    host.have_template()
    host.trusted.clear()  # as long as an agent that begins has not heard whom the cluster trusts
    await host.make_checkpoints().look_after(())
    host.trusted.add(KEY.public)
    assert (await host.checkpoints.template_for(host.allocation(), host.manifest)).device


async def test_one_stays_while_qemu_does_not_say_its_version(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\necho QEMU 7.2\n")
    qemu.chmod(0o755)
    monkeypatch.setattr(template_key, "QEMU", str(qemu))
    host.have_template()
    qemu.rename(tmp_path / "away")  # while a package of it is put in place of another
    await host.make_checkpoints().look_after(())
    assert "version" in await host.why_not()
    host.checkpoints.make_later(host.image, host.manifest, 1)  # a guest that booted is no worse off
    qemu.write_text("#!/bin/sh\nexit 1\n")
    qemu.chmod(0o755)
    assert "version" in await host.why_not()
    (tmp_path / "away").rename(qemu)
    assert (await host.checkpoints.template_for(host.allocation(), host.manifest)).device


async def test_one_that_somebody_waits_for_does_not_wait_for_quiet(host: Host) -> None:
    host.quiet = False
    host.checkpoints.make_later(host.image, host.manifest, 1)
    manifest = msgspec.structs.replace(host.manifest, memory_mib=1)
    async with asyncio.timeout(10.0):
        with pytest.raises(TemplateError, match="no room"):
            await host.checkpoints.make_now(host.image, manifest)

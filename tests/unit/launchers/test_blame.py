"""What goes wrong with a clone is its template's fault or not; only then the template goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sappers.errors import LaunchError
from sappers.launchers.template_key import template_key, this_host
from sappers.launchers.templates import TemplateFolder, new_memory
from sappers.model.allocation import Allocation
from sappers.model.guest_scope import GuestScope
from sappers.model.workload import ImageReference
from tests.image_stores import make_store, put_image
from tests.unit.launchers.test_spares import Units, launcher_on


async def test_a_unit_that_cannot_be_started_is_not(tmp_path: Path) -> None:
    store = make_store(tmp_path / "images")
    image = put_image(store)
    manifest = store.manifest(image)
    assert manifest is not None
    launcher = launcher_on(tmp_path, Units(), scope_of=lambda one: GuestScope(one, "web"))
    memory, spec = new_memory(128), launcher._specs.of_nobody(manifest, 128)
    key = template_key(image, spec, this_host(spec))
    TemplateFolder(tmp_path / "templates").add(key, image, memory, b"device", 0.0)
    os.close(memory)

    reference = ImageReference("web", image)
    with pytest.raises(LaunchError, match="no room"):
        await launcher.launch(Allocation("web-1", "web", 1, reference, 128, "m1", 1), manifest)
    assert [path.name for path in (tmp_path / "templates").iterdir()] == [key]
    await launcher.close()

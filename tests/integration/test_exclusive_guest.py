"""A real exclusive guest: it starts with a lease only, and ends with it though nobody is there."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import msgspec
import pytest

from sappers.errors import LaunchError
from sappers.launchers.watchdog import now
from tests.waiting import eventually

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86"),
    pytest.mark.skipif(not shutil.which("lz4"), reason="needs lz4"),
]


def qemus(allocation_id: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"qemu-system-x86_64") and f"guest={allocation_id}".encode() in words:
            found.append(int(path.parent.name))
    return found


async def test_an_exclusive_guest_lives_and_ends_with_its_lease(host, hello_image):
    one = msgspec.structs.replace(
        host.allocation("hello", hello_image), cold=True, lease_seconds=15.0, guest_port=None
    )
    with pytest.raises(LaunchError, match="has no lease"):
        await host.launch(one)

    leases = {one.id: now() + 1000.0}
    host.launcher = host.make_launcher(lease_of=lambda allocation_id: leases[allocation_id])
    await host.launch(one)
    await host.healthy(one)
    assert await host.launcher.leases() == pytest.approx(leases)

    # Another agent finds it, and what it says holds; then there is no agent any more.
    again = host.make_launcher()
    await again.extend_leases({one.id: now() + 2000.0})
    assert (await again.observe())[one.id].running
    assert qemus(one.id)
    await again.extend_leases({one.id: now()})
    await eventually(lambda: not qemus(one.id))
    assert "its lease ended" in await host.ended(one)
    await host.launcher.stop(one.id, 0.0)
    assert await host.launcher.leases() == {}


async def test_an_exclusive_guest_does_not_outlive_its_watchdog(host, hello_image):
    one = msgspec.structs.replace(
        host.allocation("hello", hello_image, 1), cold=True, lease_seconds=15.0, guest_port=None
    )
    host.launcher = host.make_launcher(lease_of=lambda _: now() + 1000.0)
    await host.launch(one)
    await eventually(lambda: bool(qemus(one.id)))
    unit = await host.supervisor.status(f"sappers-guest-{one.id}")
    os.kill(unit.pid, signal.SIGKILL)
    await eventually(lambda: not qemus(one.id))

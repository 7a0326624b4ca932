"""An image whose application was taken over: it floods, trespasses and forges from inside."""

from __future__ import annotations

from pathlib import Path

# An application inside the sidecar has all that the sidecar has, the credentials too.
HOSTILE = """
import asyncio, json, time

FLOOD_SECONDS = 5.0

async def ignore(subject, payload):
    pass

async def run(guest):
    guest.report()
    await guest.hub_connected()
    await asyncio.sleep(3.0)
    lie = json.dumps({"healthy": True, "boot_id": "mine", "sequence": 1}).encode()
    for _ in range(3):
        await guest.messaging.publish("sappers.guest.calm-1.health", lie)
        await guest.messaging.publish("sappers.log.entries", b"nonsense")
    await guest.subscribe("sappers.guest.*.health", ignore)
    until, sent = time.monotonic() + FLOOD_SECONDS, 0
    while time.monotonic() < until:
        try:
            sent += await guest.publish("health", b"x" * 100)
        except Exception:
            await asyncio.sleep(0.01)
        if sent % 50 == 0:
            await asyncio.sleep(0)
    print("flooded", sent, flush=True)
    await asyncio.Event().wait()
"""


def hostile_definition(folder: Path) -> Path:
    image = folder / "definitions" / "hostile"
    image.mkdir(parents=True)
    (image / "image.toml").write_text(
        'kinds = ["microvm"]\n[application]\nmodule = "hostile"\nfiles = ["hostile.py"]\n'
        "in_process = true\n"
    )
    (image / "hostile.py").write_text(HOSTILE)
    return image.parent

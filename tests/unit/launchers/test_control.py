"""Words between launcher and sidecar, over a real socket with both real ends."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sappers.errors import LaunchError
from sappers.launchers.control import ask_to_shut_down, configuration, configure
from sappers.launchers.guest_folder import GuestFolder
from sappers.launchers.guest_identity import CONTROL_SOCKET
from sappers.sidecar import link
from sappers.sidecar.settings import ImageSettings, environment_of, read_configuration

MESSAGE = configuration(
    "hello-1",
    "hello",
    ("127.0.0.1:4222", "10.0.0.7:4222"),
    "CA",
    "agent.sappers",
    "CREDS",
    1.5,
    1000.0,
    {"my-db": 22017},
    names={"127.0.0.1:4222": "m1", "10.0.0.7:4222": "m7"},
)


def test_an_application_finds_its_links_in_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configuration = read_configuration(json.loads(json.dumps(MESSAGE))["configure"])
    environment = environment_of(ImageSettings("app"), configuration)
    assert environment["SAPPERS_LINK_MY_DB"] == "10.0.2.2:22017"
    monkeypatch.setattr(os, "environ", environment)
    assert link("my-db") == "10.0.2.2:22017"
    with pytest.raises(LookupError, match="--link"):
        link("other")


@pytest.fixture
def folder(tmp_path: Path) -> GuestFolder:
    it = GuestFolder(tmp_path, "hello-1")
    it.run.mkdir(parents=True)
    return it


async def sidecar(folder: GuestFolder, speak: Callable[..., object]) -> asyncio.Server:
    return await asyncio.start_unix_server(speak, folder.run / CONTROL_SOCKET)


def test_what_the_launcher_says_the_sidecar_understands() -> None:
    read = read_configuration(json.loads(json.dumps(MESSAGE))["configure"])
    assert read.allocation_id == "hello-1"
    assert read.hub.servers == ("10.0.2.2:4222", "10.0.0.7:4222")
    assert (read.hub.ca_pem, read.hub.tls_name) == ("CA", "agent.sappers")
    assert read.hub.credentials == "CREDS"
    # Behind the loopback of a developer's machine any member may be.
    assert read.hub.names == {"10.0.0.7:4222": "m7"}
    assert (read.health_interval_seconds, read.now) == (1.5, 1000.0)
    assert len(read.seed) == 32
    assert read.links == {"my-db": "10.0.2.2:22017"}
    assert "CREDS" not in repr(read)


async def test_the_configuration_waits_until_the_guest_asks(folder: GuestFolder) -> None:
    asked = asyncio.Event()
    got: list[dict] = []

    async def speak(reader, writer):
        await asked.wait()
        writer.write(b'garbage\n{"waiting": true}\n')
        got.append(json.loads(await reader.readline()))
        writer.write(b'{"waiting": true}\n{"ok": true}\n')

    async with await sidecar(folder, speak):
        task = asyncio.create_task(configure(folder, lambda: MESSAGE, 30.0))
        await asyncio.sleep(0)
        assert not got
        asked.set()
        await task
    assert got == [MESSAGE]


async def test_a_guest_that_runs_is_told_at_once(folder: GuestFolder) -> None:
    async def speak(reader, writer):
        await reader.readline()
        writer.write(b'{"ok": true}\n')

    async with await sidecar(folder, speak):
        await configure(folder, lambda: MESSAGE, 0.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b'{"ok": false, "reason": "this guest is another"}\n', "refuses: this guest is another"),
        (b"", "hung up"),
        (b"x" * 100_000, "a line without end"),
        (b"x\n" * 2_000, "nonsense without end"),
        (b"{}\n" * 2_000, "talks without end"),
    ],
)
async def test_trouble_is_named(folder: GuestFolder, answer: bytes, words: str) -> None:
    async def speak(reader, writer):
        await reader.readline()
        writer.write(answer)
        writer.close()

    async with await sidecar(folder, speak):
        with pytest.raises(LaunchError, match=words):
            await configure(folder, lambda: MESSAGE, 0.0)


@pytest.mark.parametrize("answer", [b'{"x": ' + b"[" * 20_000, b'{"ok": "\xff"}'])
async def test_what_cannot_be_read_is_passed_over(folder: GuestFolder, answer: bytes) -> None:
    async def speak(reader, writer):
        await reader.readline()
        writer.write(answer + b'\n{"ok": true}\n')

    async with await sidecar(folder, speak):
        await ask_to_shut_down(folder, 1.0)


async def test_nobody_there(folder: GuestFolder) -> None:
    with pytest.raises(LaunchError, match="control socket does not open"):
        await ask_to_shut_down(folder, 1.0)


async def test_a_sidecar_that_hangs_is_given_up(folder: GuestFolder) -> None:
    async def speak(reader, writer):
        await reader.read()

    async with await sidecar(folder, speak):
        with pytest.raises(LaunchError, match="does not answer"):
            await ask_to_shut_down(folder, 0.1)

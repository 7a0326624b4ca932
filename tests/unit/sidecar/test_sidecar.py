"""The sidecar's parts that need no guest: checks, credentials, control port, imports."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import socket
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest

import sappers.sidecar
from sappers.hub.credentials import AgentCredentials, create_hub_account
from sappers.launchers.control import configuration
from sappers.model.guest_scope import GuestScope
from sappers.security.authority import create_authority
from sappers.sidecar.control import ControlPort, find_port
from sappers.sidecar.credentials import Credentials, seed_bytes, sign_ed25519
from sappers.sidecar.health import check
from sappers.sidecar.hub import HubLink
from sappers.sidecar.settings import HealthCheck, HubAccess, read_configuration


async def answering(answer: bytes) -> asyncio.Server:
    async def serve(reader, writer):
        await reader.readline()
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def port_of(server: asyncio.Server) -> int:
    return server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "/health answers 503"),
        (b"", "answers no HTTP"),
        (b"SSH-2.0-x\r\n", "answers no HTTP"),
        (b"x" * 200_000, "answers no HTTP"),
        (b"HTTP/1.0 " + b"9" * 5000 + b" x\r\n", "answers no HTTP"),
    ],
)
async def test_http_health_is_the_applications_own_word(answer: bytes, reason: str) -> None:
    async with await answering(answer) as server:
        rule = HealthCheck("http", port_of(server), "/health")
        assert reason in await check(rule)
        assert bool(reason) == bool(await check(rule))


async def test_a_closed_port_and_one_that_stalls_are_not_healthy() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        rule = HealthCheck("tcp", free.getsockname()[1])
        assert "does not answer" in await check(rule)
        free.listen()
        assert await check(rule) == ""
        stalling = HealthCheck("http", rule.port, timeout_seconds=0.05)
        assert "no answer within 0.05 s" in await check(stalling)


async def test_a_process_check_needs_no_port() -> None:
    assert await check(HealthCheck("process")) == ""


def test_openssl_signs_as_nkeys_does() -> None:
    account = AgentCredentials(create_hub_account("test").account_seed)
    text = account.mint(GuestScope("hello-1", "hello"), 2e9)
    seed = text.split("-----BEGIN USER NKEY SEED-----\n")[1].split("\n")[0]
    expected = nkeys.from_seed(seed.encode()).sign(b"nonce")
    assert sign_ed25519(seed_bytes(seed), b"nonce") == expected
    mine = Credentials(text)
    assert mine.jwt.decode() in text


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------"]
)
def test_no_credentials(text: str) -> None:
    with pytest.raises(ValueError, match="credentials"):
        Credentials(text)


@pytest.mark.parametrize("raw", [None, {}, {"hub": {}}, {"allocation_id": "a", "hub": 3}, []])
def test_no_configuration(raw: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_configuration(raw)  # type: ignore[arg-type]


def test_the_port_is_found_by_name(tmp_path: Path) -> None:
    for device in ("vport0p0", "vport0p1", "vport0p2"):
        (tmp_path / device).mkdir()
    (tmp_path / "vport0p1" / "name").write_text("org.other\n")
    with pytest.raises(FileNotFoundError):
        find_port(folder=str(tmp_path), wait_seconds=0.05)
    name = tmp_path / "vport0p2" / "name"
    late = threading.Timer(0.05, name.write_text, ["sappers.control\n"])
    late.start()
    assert find_port(folder=str(tmp_path)) == "/dev/vport0p2"
    late.join()


@pytest.fixture
def line() -> Iterator[tuple[int, ControlPort]]:
    """The member's end of a line, and the guest's port."""
    member, guest = os.openpty()
    tty.setraw(guest)
    yield member, ControlPort(os.ttyname(guest))
    for end in (member, guest):
        os.close(end)


def test_lines_come_whole_and_garbage_is_dropped(line: tuple[int, ControlPort]) -> None:
    member, port = line
    os.write(member, b'{"shutdown": true}\nnonsense\n[1]\n{"configure": ')
    assert port.receive() == ([{"shutdown": True}], True)
    os.write(member, b"{}}\n")
    assert port.receive() == ([{"configure": {}}], True)
    port.send({"ok": True})
    assert os.read(member, 100) == b'{"ok": true}\n'


def test_a_rehearsal_makes_nobody_of_a_guest(line: tuple[int, ControlPort]) -> None:
    member, port = line

    def told(allocation_id: str) -> dict[str, Any]:
        return configuration(allocation_id, "", (), "", "", "", 1.0, 5.0, {})["configure"]

    for message in ({"rehearse": told("a")}, {"rehearse": {}}, {"configure": told("b")}):
        os.write(member, json.dumps(message).encode() + b"\n")
    found = port.wait_for_configuration(pytest.fail, pytest.fail)
    assert found.allocation_id == "b"
    with os.fdopen(os.dup(member)) as answers:
        oks = [json.loads(answers.readline())["ok"] for _ in range(3)]
    assert oks == [True, False, True]


def test_it_needs_nothing_but_python_and_nats() -> None:
    """The image carries no other room and no other package."""
    folder = Path(sappers.sidecar.__file__).parent
    allowed = {*sys.stdlib_module_names, "nats"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                ours = name == "sappers.model" or name.startswith("sappers.sidecar")
                assert ours or name.split(".")[0] in allowed, f"{path.name} imports {name}"


async def test_a_server_that_denies_tls_is_told_nothing() -> None:
    """nats-py alone would believe it and send everything in the clear."""
    heard: list[bytes] = []

    async def lie(reader, writer):
        writer.write(b'INFO {"auth_required": true, "nonce": "n", "max_payload": 1048576}\r\n')
        heard.append(await reader.read(1000))
        writer.close()

    credentials = AgentCredentials(create_hub_account("test").account_seed)
    credentials = credentials.mint(GuestScope("hello-1", "hello"), 2e9)
    ca = create_authority("test").cert_pem.decode()
    link = HubLink()
    async with await asyncio.start_server(lie, "127.0.0.1", 0) as server:
        server_name = f"127.0.0.1:{port_of(server)}"
        await link.use(HubAccess((server_name,), ca, "agent.sappers", credentials))
        async with asyncio.timeout(60):
            while len(heard) < 2:  # noqa: ASYNC110 - it must have tried again
                await asyncio.sleep(0.01)
        assert not link.connected
        await link.use(HubAccess())
    assert set(heard) == {b""}

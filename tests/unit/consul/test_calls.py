"""What is shown to Consul, which may be hostile, and what an error says of it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from sappers.config import ConsulSettings
from sappers.consul.calls import ConsulCalls
from sappers.errors import ConsulError

TOKEN = str(uuid.UUID(int=7))


class Mirror:
    """A Consul that refuses, and says what it was shown."""

    def __init__(self) -> None:
        shown: list[str | None] = []

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shown.append(self.headers.get("X-Consul-Token"))
                self.send_response(403)
                self.end_headers()
                self.wfile.write(f"not with {shown[-1]}".encode())

            def log_message(self, *_: object) -> None: ...

        self.shown = shown
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    one = Mirror()
    yield one
    one.server.shutdown()
    one.server.server_close()


def ask(mirror: Mirror, token_file: Path) -> str:
    """What the error says."""
    address = f"127.0.0.1:{mirror.server.server_port}"
    calls = ConsulCalls(ConsulSettings(True, address, token_file=str(token_file)))
    try:
        with pytest.raises(ConsulError) as caught:
            calls.call_here(lambda client: client.agent.services())
    finally:
        calls.close()
    return str(caught.value)


def test_a_token_is_shown_and_not_told(mirror: Mirror, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    said = ask(mirror, path)
    assert mirror.shown == [TOKEN]
    assert "not with" in said and TOKEN not in said


@pytest.mark.parametrize(
    "content",
    ["SAADIOR6VYX4RRAU34JBXJ4I5WSX6YNC\n", "-----BEGIN KEY-----\nabc\n", f"{TOKEN}a", "é"],
)
def test_what_is_no_token_is_neither_shown_nor_told(
    content: str, mirror: Mirror, tmp_path: Path
) -> None:
    """A link that somebody put in its place, to a seed or a key."""
    secret, path = tmp_path / "secret", tmp_path / "token"
    secret.write_text(content)
    path.symlink_to(secret)
    said = ask(mirror, path)
    assert "holds no token" in said
    assert content.split("\n")[0] not in said
    assert mirror.shown == []


def test_a_pipe_in_its_place_holds_nothing_up(mirror: Mirror, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    assert "holds no token" in ask(mirror, tmp_path / "token")


def test_an_error_of_the_client_does_not_quote_what_it_was_to_send(
    mirror: Mirror, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    calls = ConsulCalls(ConsulSettings(enabled=True, token_file=str(path)))

    def fails(_: object) -> None:
        raise requests.exceptions.InvalidHeader(f"invalid character in header value: '{TOKEN}'")

    with pytest.raises(ConsulError) as caught:
        calls.call_here(fails)
    assert "InvalidHeader" in str(caught.value) and TOKEN not in str(caught.value)
    calls.close()

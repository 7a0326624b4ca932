"""How intentions are written: by id to an old Consul, by name to newer ones (which no test has)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sappers.config import ConsulSettings
from sappers.consul.calls import ConsulCalls
from sappers.consul.intentions import ConsulIntentions
from sappers.errors import ConsulError
from sappers.model.mesh import Intention, IntentionReading, RemoveIntention, SetIntention

ALLOW = Intention("shop", "db", "allow")
PATH = "/v1/connect/intentions"
EXACT = f"{PATH}/exact?source=shop&destination=db"


class Consul(ThreadingHTTPServer):
    """Answers as Consul's API does, as far as its version goes, and keeps what was written."""

    def __init__(self, version: str) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.version = version
        self.written: list[tuple[str, str, dict[str, str]]] = []


class Answers(BaseHTTPRequestHandler):
    server: Consul

    def do_GET(self) -> None:
        self.answer({"Config": {"Version": self.server.version}})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        written = {} if not body else json.loads(body)
        kept = {key: written[key] for key in written.keys() & {"Action", "Description"}}
        self.server.written.append((self.command, self.path, kept))
        self.answer(True)

    def do_POST(self) -> None:
        self.do_PUT()

    def do_DELETE(self) -> None:
        self.do_PUT()

    def answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def version() -> str:
    return "1.8.7"


@pytest.fixture
def consul(version: str) -> Iterator[Consul]:
    with Consul(version) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def intentions(consul: Consul) -> Iterator[ConsulIntentions]:
    calls = ConsulCalls(ConsulSettings(enabled=True, address=f"127.0.0.1:{consul.server_port}"))
    yield ConsulIntentions(calls, with_tokens=False)
    calls.close()


async def test_by_id_where_consul_knows_no_other_way(
    consul: Consul, intentions: ConsulIntentions
) -> None:
    await intentions.execute(SetIntention(ALLOW, "ours"))
    await intentions.execute(SetIntention(ALLOW, "ours", "17"))
    await intentions.execute(RemoveIntention(IntentionReading("shop", "db", "allow", "ours", "17")))
    said = {"Action": "allow", "Description": "ours"}
    assert consul.written == [
        ("POST", PATH, said),
        ("PUT", f"{PATH}/17", said),
        ("DELETE", f"{PATH}/17", {}),
    ]


@pytest.mark.parametrize("version", ["1.9.0", "1.22.1+ent", "2.0.0"])
async def test_by_name_since_1_9(consul: Consul, intentions: ConsulIntentions) -> None:
    await intentions.execute(SetIntention(ALLOW, "ours", "17"))
    await intentions.execute(RemoveIntention(IntentionReading("shop", "db", "allow", "ours")))
    assert consul.written == [
        ("PUT", EXACT, {"Action": "allow", "Description": "ours"}),
        ("DELETE", EXACT, {}),
    ]


@pytest.mark.parametrize("version", ["", "nonsense"])
async def test_a_version_that_is_none_is_said(intentions: ConsulIntentions) -> None:
    with pytest.raises(ConsulError, match="version"):
        await intentions.execute(SetIntention(ALLOW, "ours"))


async def test_no_tokens_are_asked_for_where_there_are_no_access_lists(
    consul: Consul, intentions: ConsulIntentions
) -> None:
    assert await intentions.tokens() == ()
    assert consul.written == []

"""What Consul is told about a guest, as it goes over HTTP; a real one is in tests/integration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from sappers.config import ConsulSettings
from sappers.consul.calls import ConsulCalls
from sappers.consul.registry import ConsulRegistry
from sappers.model.service import (
    DeregisterService,
    RegisterService,
    ReportService,
    Service,
    ServiceHealth,
    ServiceReading,
)

SERVICE = Service(
    "sappers-hello-1", "hello", "10.0.0.1", 8080, ("sappers",), {"sappers_cluster": "c1"}
)
Heard = list[tuple[str, Any]]


class Listener:
    """Answers each PUT as a Consul that is content, and remembers what was said."""

    def __init__(self) -> None:
        heard: Heard = []

        class Answer(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                heard.append((self.path, json.loads(body) if body else None))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.heard = heard
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def settings(self) -> ConsulSettings:
        return ConsulSettings(enabled=True, address=f"127.0.0.1:{self.server.server_port}")


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.server.shutdown()
    one.server.server_close()


async def test_a_guest_is_registered_with_a_check_that_ends_by_itself(listener: Listener) -> None:
    calls = ConsulCalls(listener.settings)
    registry = ConsulRegistry(calls)
    await registry.execute(RegisterService(ServiceReading(SERVICE, ServiceHealth.PASSING)))
    await registry.execute(ReportService(SERVICE.id, ServiceHealth.CRITICAL, "it panicked"))
    await registry.execute(DeregisterService(SERVICE.id, "it is gone"))
    calls.close()
    (registered, said), (reported, _), (removed, _) = listener.heard
    assert registered.startswith("/v1/agent/service/register")
    assert "replace-existing-checks=true" in registered
    assert (said["id"], said["name"], said["address"], said["port"], said["meta"]) == (
        *(SERVICE.id, SERVICE.name, SERVICE.address, SERVICE.port, SERVICE.meta),
    )
    (check,) = said["checks"]
    assert (
        check.items()
        >= {
            "CheckID": f"service:{SERVICE.id}",
            "TTL": "20s",
            "DeregisterCriticalServiceAfter": "600s",
            "Status": "passing",
        }.items()
    )
    assert reported.startswith(f"/v1/agent/check/fail/service:{SERVICE.id}")
    assert removed.startswith(f"/v1/agent/service/deregister/{SERVICE.id}")

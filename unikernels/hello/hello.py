"""A web server that says hello: the smallest thing worth running as a guest."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socketpair
from threading import Thread

ANSWER_SECONDS = 5.0


def ask(link: str) -> tuple[int, str]:
    """What the service that this workload is linked to answers, and with which status."""
    from http.client import HTTPConnection, HTTPException  # late on purpose: few guests ask

    from sappers.sidecar import link as place_of

    try:
        linked = HTTPConnection(place_of(link), timeout=ANSWER_SECONDS)
        linked.request("GET", "/")
        answer = linked.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (LookupError, OSError, HTTPException) as error:
        return HTTPStatus.BAD_GATEWAY, f"{link} does not answer: {error!r}\n"


class Hello(BaseHTTPRequestHandler):
    """Greets on every path but two: `/health` is for the sidecar, `/via/NAME` asks a link."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer in one line of text."""
        name = os.environ.get("SAPPERS_ALLOCATION_ID", "nobody")
        status, text = 200, "ok\n" if self.path == "/health" else f"Hello from {name}\n"
        if self.path.startswith("/via/"):
            status, text = ask(self.path.removeprefix("/via/"))
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
        if self.path != "/health":  # it would fill the log
            self.log_message('"%s" %s', self.requestline, status)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing yet: whoever asks has the answer first, for the serial line is slow."""


def prepare() -> Callable[[], None]:
    """Listen; a checkpoint is saved after this, and what is returned serves once a guest is one."""
    port = int(os.environ.get("SAPPERS_PORT", "8080"))
    server = ThreadingHTTPServer(("", port), Hello)
    with suppress(OSError):
        rehearse(server)
    return server.serve_forever


def rehearse(server: ThreadingHTTPServer) -> None:
    """Answer once, over a connection that leads nowhere: what is first done later, is done now.

    Its thread has ended when this returns, as a checkpoint wants it.
    """
    asking, answering = socketpair()
    with asking:
        asking.sendall(b"GET /health HTTP/1.1\r\nHost: rehearsal\r\nConnection: close\r\n\r\n")
        worker = Thread(target=server.process_request_thread, args=(answering, ("rehearsal", 0)))
        worker.start()
        worker.join()


if __name__ == "__main__":
    prepare()()

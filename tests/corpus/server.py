"""A web server for playbooks of the corpus: files, redirects, errors, an echo of what is sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"
FILES = {
    "/file.txt": ("text/plain", b"one\ntwo\n"),
    "/data.json": ("application/json", b'{"a": [1, 2], "b": null}'),
    "/SUMS": ("text/plain", b"c3f9c8c283a2b1f2f1896f27a01cbe3cddc0c9d93f752e4639035a0f5b36f6e8  "
              b"file.txt\n"),
}  # fmt: skip
LOGIN = "Basic " + base64.b64encode(b"me:secret").decode()


class _Handler(BaseHTTPRequestHandler):
    def _answer(self, code: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/redirect":
            self._answer(302, Location="/file.txt")
        elif path == "/private" and self.headers.get("Authorization") != LOGIN:
            self._answer(401, WWW_Authenticate='Basic realm="x"')
        elif path == "/private":
            self._answer(200, b"let in", Content_Type="text/plain")
        elif path == "/named":
            disposition = 'attachment; filename="../named.txt"'
            self._answer(200, b"named", Content_Disposition=disposition)
        elif path.startswith("/status/"):
            self._answer(int(path.rpartition("/")[2]), b"so", Content_Type="text/plain")
        elif path not in FILES:
            self._answer(404, b"no such file", Content_Type="text/plain")
        elif self.headers.get("If-Modified-Since"):
            self._answer(304)
        else:
            kind, content = FILES[path]
            self._answer(200, content, Content_Type=kind, Last_Modified=MODIFIED, X_Extra="yes")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        kind = self.headers.get("Content-Type")
        told = {"method": self.command, "body": body, "type": kind, "x": self.headers.get("X-Mine")}
        self._answer(200, json.dumps(told).encode(), Content_Type="application/json")

    do_PUT = do_DELETE = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web_server(address: str = "127.0.0.1") -> Iterator[str]:
    """A server while the block runs; where it is."""
    server = ThreadingHTTPServer((address, 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

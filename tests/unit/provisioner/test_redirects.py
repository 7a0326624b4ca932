"""What a server is told that another one names."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sappers.provisioner.modules import step
from sappers.provisioner.remote.contents import Contents
from sappers.provisioner.remote.web import ask, may_be_told


@pytest.mark.parametrize(
    ("asked", "named", "own"),
    [
        ("http://a/x", "http://a/y", True),
        ("http://a/x", "http://A:80/y", True),
        ("http://a/x", "https://a/y", True),
        ("https://a/x", "http://a/y", False),
        ("http://a:8080/x", "https://a/y", False),
        ("http://a/x", "http://a:81/y", False),
        ("http://a/x", "http://b/y", False),
        ("https://a/x", "https://a.b/y", False),
    ],
)
def test_a_server_s_own_addresses(asked: str, named: str, own: bool) -> None:
    assert may_be_told(asked, named) is own


@contextlib.contextmanager
def server(answers: dict[str, str]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Its address and the headers that it was sent; `answers` are redirects by path."""
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append({name.lower(): value for name, value in self.headers.items()})
            there = answers.get(self.path)
            self.send_response(302 if there else 200)
            if there:
                self.send_header("Location", there)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", heard
        finally:
            http.shutdown()
            thread.join()


def test_another_server_hears_no_secret(tmp_path: Path) -> None:
    with server({}) as (other, there), server({"/": f"{other}/", "/own": "/"}) as (first, here):
        headers = (("Private-Token", "s3cret"), ("Accept", "text/plain"), ("Cookie", "c=1"))
        request = step.Request(
            f"{first}/own", headers=headers, login=("me", "pw"), login_at_once=True
        )
        assert ask(request, Contents(str(tmp_path))).status == 200
    assert [one["private-token"] for one in here] == ["s3cret", "s3cret"]
    assert all("authorization" in one for one in here)
    assert there[0]["accept"] == "text/plain"
    assert there[0].keys().isdisjoint({"private-token", "cookie", "authorization"})

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.bootstrap.package_requests import (
    HEAD_BYTES_MAX,
    PackageRequests,
    RequestRefused,
    is_package_request,
)

GOOD = b"GET http://mirror.test/debian/dists/bookworm/InRelease HTTP/1.1\r\nHost: mirror.test"


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://mirror.test/debian/pool/main/q/qemu_7.2%2bdfsg-7+deb12u1.deb HTTP/1.1",
        b"GET http://mirror.test/debian-security/dists/x/main/by-hash/SHA256/ab HTTP/1.1",
        b"HEAD http://mirror.test:80/dists/bookworm/Release HTTP/1.0",
    ],
)
def test_files_of_an_archive_pass(line: bytes) -> None:
    assert is_package_request(line + b"\r\nHost: mirror.test\r\nUser-Agent: Debian APT-HTTP/1.3")


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1",
        b"GET http://mirror.test/ HTTP/1.1",
        b"GET http://mirror.test:8080/debian/pool/a.deb HTTP/1.1",
        b"GET http://user@mirror.test/debian/pool/a.deb HTTP/1.1",
        b"GET http://mirror.test/debian/pool/../../latest/meta-data HTTP/1.1",
        b"GET http://mirror.test/debian/pool/%2E%2e/latest HTTP/1.1",
        b"GET http://mirror.test/latest?x=/pool/a HTTP/1.1",
        b"GET /acng-report.html HTTP/1.1",
        b"GET https://mirror.test/debian/pool/a.deb HTTP/1.1",
        b"CONNECT mirror.test:443 HTTP/1.1",
        b"POST http://mirror.test/debian/pool/a.deb HTTP/1.1",
        GOOD + b"\r\nContent-Length: 90",
        GOOD + b"\r\ntransfer-encoding : chunked",
        GOOD + b"\nGET http://mirror.test/secret HTTP/1.1",
        b"",
        b"\x16\x03\x01",
    ],
)
def test_everything_else_is_refused(head: bytes) -> None:
    assert not is_package_request(head)
    with pytest.raises(RequestRefused):
        PackageRequests().admit(head + b"\r\n\r\n")


def test_requests_pass_whole_however_they_are_cut() -> None:
    stream = (GOOD + b"\r\n\r\n") * 3
    for size in (1, 7, 100, len(stream)):
        requests = PackageRequests()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert b"".join(requests.admit(piece) for piece in pieces) == stream


def test_a_good_request_does_not_open_the_way_for_a_bad_one() -> None:
    requests = PackageRequests()
    with pytest.raises(RequestRefused):
        requests.admit(GOOD + b"\r\n\r\nGET http://mirror.test/secret HTTP/1.1\r\n\r\n")


def test_a_head_without_end_is_refused() -> None:
    requests = PackageRequests()
    with pytest.raises(RequestRefused):
        for _ in range(HEAD_BYTES_MAX):
            assert requests.admit(b"x" * 10) == b""


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_garbage_is_held_or_refused_and_never_passed(pieces: list[bytes]) -> None:
    requests = PackageRequests()
    with contextlib.suppress(RequestRefused):
        assert b"".join(requests.admit(piece) for piece in pieces) == b""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import sappers.cli.listen as module
from sappers.cli.deploy import deploy_app
from sappers.cli.listen import TEXT_MAX, as_json, readable
from sappers.cli.output import Output
from sappers.errors import ApiError, SappersError
from sappers.hub.credentials import create_hub_account
from sappers.model import subjects
from sappers.model.commands import Entry, NoOperation, Proposal, encode_proposal
from sappers.model.signed import Signed


def test_an_entry_of_the_log_is_shown_with_what_it_proposes() -> None:
    payload = encode_proposal(Proposal("r1", "node1", 1.0, (NoOperation(),)))
    signed = msgspec.msgpack.encode(Signed(msgspec.msgpack.encode(Entry(7, 2, payload)), b"", b""))
    said = json.loads(readable(subjects.ENTRIES, signed))
    assert (said["index"], said["term"], said["proposal"]["proposer"]) == (7, 2, "node1")


def test_text_is_one_line_and_bytes_are_counted() -> None:
    assert readable("sappers.app.web.x", b'{"a": 1}\n') == '{"a": 1}'
    assert readable("sappers.app.web.x", b"\xff\xfe") == "2 bytes"
    assert readable("sappers.app.web.x", b"x" * 1000).endswith("… (1000 characters)")


@given(st.sampled_from([subjects.ENTRIES, "sappers.app.web.x"]), st.binary(max_size=2000))
def test_whatever_is_sent_is_one_short_line(subject: str, payload: bytes) -> None:
    line = readable(subject, payload)
    assert "\n" not in line
    assert len(line) < TEXT_MAX + 40


class Member:
    """One that gives credentials, or one of before, which knows of no such call."""

    def __init__(self, status: int) -> None:
        self._status = status

    def call(self, method: str, path: str) -> bytes:
        assert (method, path) == ("GET", "/v1/hub-credentials")
        if self._status != 200:
            raise ApiError("no", status=self._status)
        return b"by a member's key"


@pytest.mark.parametrize(
    ("status", "found"), [(200, "by a member's key"), (404, "BEGIN NATS USER JWT")]
)
def test_credentials_for_another_client_are_for_their_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, found: str
) -> None:
    @contextlib.contextmanager
    def opened(*_: object) -> Iterator[Member]:
        yield Member(status)

    monkeypatch.setattr("sappers.cli.listen.open_cluster", opened)
    keys = tmp_path / "cluster"
    keys.mkdir()
    (keys / "hub-account.seed").write_text(create_hub_account("test").account_seed)
    file = tmp_path / "me.creds"
    arguments = ["listen", "--credentials", str(file), "--cluster", str(keys)]
    done = CliRunner().invoke(deploy_app(), arguments)
    assert done.exit_code == 0, done.output
    assert found in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_the_clusters_keys_nobody_listens(tmp_path: Path) -> None:
    done = CliRunner().invoke(deploy_app(), ["listen", "--cluster", f"{tmp_path}/"])
    assert isinstance(done.exception, SappersError)


def test_for_programs_a_message_is_a_line_and_whole() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    text = as_json(at, "sappers.app.shop.x", b"one\ntwo" * 100)
    assert "\n" not in text
    assert json.loads(text) == {
        "time": "2026-01-02T00:00:00+00:00",
        "subject": "sappers.app.shop.x",
        "payload": "one\ntwo" * 100,
    }
    assert json.loads(as_json(at, "x", b"\xff"))["base64"] == "/w=="


async def test_it_ends_when_nobody_reads_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.asynccontextmanager
    async def listening(identity, credentials, servers, subject, received):
        """As the hub's client does, it lets no message's trouble through."""
        with contextlib.suppress(Exception):
            await received("sappers.app.web.x", b"one")
        yield

    monkeypatch.setattr(module, "listening", listening)
    reader, writer = os.pipe()
    os.close(reader)
    gone = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", gone)
    with pytest.raises(BrokenPipeError):
        async with asyncio.timeout(60):
            await module._print(None, "", (), ">", None, Output.TEXT)
    with contextlib.suppress(BrokenPipeError):
        gone.close()

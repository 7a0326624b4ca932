from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.consensus.framing import FrameConnection, Frames, FrameTooLong, frame
from sappers.consensus.wire import (
    AppendEntries,
    Ping,
    SetLogLevel,
    decode_agent_message,
    decode_peer_message,
)


@given(sizes=st.lists(st.integers(0, 300), max_size=20), cut=st.integers(1, 50))
def test_frames_come_out_as_they_went_in(sizes: list[int], cut: int) -> None:
    bodies = [bytes([n % 251]) * n for n in sizes]
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    frames = Frames(1000)
    found = []
    for start in range(0, len(stream), cut):
        found += frames.feed(stream[start : start + cut])
    assert found == bodies


def test_a_frame_that_is_too_long_is_refused_by_its_length_alone() -> None:
    with pytest.raises(FrameTooLong):
        next(Frames(100).feed(b"\x7f\xff\xff\xff"))


def test_the_limit_may_change_between_two_frames() -> None:
    frames = Frames(4)
    found = []
    for body in frames.feed(b"\0\0\0\x04helo\0\0\0\x06longer"):
        found.append(body)
        frames.limit_bytes = 6
    assert found == [b"helo", b"longer"]


async def test_what_is_sent_together_arrives_together() -> None:
    heard: list[bytes] = []
    together: list[int] = []

    class Ear(FrameConnection):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            together.append(len(heard))

    mine, theirs = socket.socketpair()
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    mouth = FrameConnection(1000, heard.append, lambda: None)
    ear = Ear(1000, heard.append, gone.set)
    await loop.create_unix_connection(lambda: mouth, sock=mine)
    await loop.create_unix_connection(lambda: ear, sock=theirs)
    assert mouth.send(*(SetLogLevel(str(number)) for number in range(3)))
    mouth.close()
    await gone.wait()
    assert [decode_agent_message(body) for body in heard] == [SetLogLevel(one) for one in "012"]
    assert together == [3]
    assert not mouth.send(SetLogLevel("late"))


def test_library_dicts_and_structs_have_one_form() -> None:
    message = {
        "type": "append_entries",
        "term": 3,
        "commit_index": 2,
        "entries": [(b"\0x", 3, 3)],
        "prevLogIdx": 2,
        "prevLogTerm": 1,
    }
    (body,) = Frames(1000).feed(frame(message))
    assert decode_peer_message(body) == AppendEntries(3, 2, [(b"\0x", 3, 3)], 2, 1)


@given(garbage=st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    try:
        decode_peer_message(garbage)
    except msgspec.DecodeError:
        return
    assert Ping()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "apply_command", "command": b"cos\nsystem\n"},
        {"type": "append_entries", "term": 1, "transmission": "finish", "data": b"pickle"},
        {"type": "timeout_now", "term": "9"},
        {"type": "request_vote", "term": "9", "last_log_index": 1, "last_log_term": 1},
        {"type": "ping", "more": 1},
        {"type": "append_entries", "term": 1, "commit_index": 1, "entries": [["x", 1, 1]],
         "prevLogIdx": 1, "prevLogTerm": 1},
    ],
)  # fmt: skip
def test_what_voters_do_not_say_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_peer_message(msgspec.msgpack.encode(message))

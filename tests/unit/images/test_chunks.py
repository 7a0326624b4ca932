"""Chunks: whatever is sent as one, only its own content is taken, and never more than its size."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import ImageError
from sappers.images.chunks import ChunkFolder, digest_of, pack, unpack
from sappers.model.image import CHUNK_BYTES, FRAME_BYTES_MAX
from tests.image_stores import damage, files

TEXT = b"a guest boots from this; " * 1000


@pytest.fixture
def chunks(tmp_path: Path) -> ChunkFolder:
    return ChunkFolder(tmp_path / "store" / "chunks", tmp_path / "store")


@given(st.binary(min_size=1, max_size=3000))
def test_what_is_packed_comes_out(content: bytes) -> None:
    assert unpack(digest_of(content), pack(content)) == content


@given(st.binary(min_size=40, max_size=400), st.data())
def test_a_flipped_bit_never_gives_other_content(content: bytes, data: st.DataObject) -> None:
    frame = bytearray(pack(content))
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(ImageError):  # some bits of a frame say nothing
        assert unpack(digest_of(content), bytes(frame)) == content


@given(st.binary(max_size=200))
def test_garbage_is_refused(frame: bytes) -> None:
    with pytest.raises(ImageError):
        unpack(digest_of(TEXT), frame)


def test_the_largest_frames_fit() -> None:
    content = os.urandom(CHUNK_BYTES)
    assert len(pack(content)) <= FRAME_BYTES_MAX
    assert unpack(digest_of(content), pack(content)) == content


def refused(content: bytes, frame: bytes) -> None:
    with pytest.raises(ImageError, match="is damaged"):
        unpack(digest_of(content), frame)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.compress(bytes(1 << 28))
    assert len(bomb) < FRAME_BYTES_MAX
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(bytes(1 << 20), bomb)
    # A header that promises an exabyte, with nothing behind it.
    refused(TEXT, b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 60) + b"\x01\x00\x00")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_header_that_lies_about_its_length_is_refused() -> None:
    # Promises 10 bytes, holds 2^27 zeros in blocks of one repeated byte.
    blocks = b"".join(
        struct.pack("<I", (last | 1 << 1 | (1 << 17) << 3))[:3] + b"\0" for last in [0] * 1023 + [1]
    )
    refused(bytes(1 << 20), b"\x28\xb5\x2f\xfd\x20\x0a" + blocks)


def test_a_frame_must_say_how_large_it_is() -> None:
    refused(TEXT, zstandard.ZstdCompressor(write_content_size=False).compress(TEXT))
    refused(b"", zstandard.compress(b""))


def test_nothing_may_surround_a_frame() -> None:
    frame = pack(TEXT)
    refused(TEXT, frame + b"x")
    refused(TEXT, frame + frame)
    refused(TEXT, frame[:-1])
    refused(TEXT, b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + frame)  # a skippable frame
    refused(TEXT, frame + bytes(FRAME_BYTES_MAX))


def test_a_chunk_of_another_digest_is_refused_and_leaves_nothing(chunks: ChunkFolder) -> None:
    with pytest.raises(ImageError, match="is damaged"):
        chunks.write(digest_of(b"right"), pack(b"wrong"))
    assert files(chunks.path("0" * 64).parents[2]) == set()


@pytest.mark.parametrize("chunk", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_digests_are_paths(chunks: ChunkFolder, chunk: str) -> None:
    for use in (chunks.path, chunks.has, chunks.read, chunks.drop):
        with pytest.raises(ImageError, match="no digest"):
            use(chunk)
    with pytest.raises(ImageError, match="no digest"):
        chunks.write(chunk, pack(TEXT))


@pytest.mark.parametrize("torn", [b"", b"\0" * 100, pack(TEXT)[:-3], b"x" * (FRAME_BYTES_MAX + 1)])
def test_a_torn_chunk_is_dropped_by_its_reader(chunks: ChunkFolder, torn: bytes) -> None:
    chunk = chunks.put(TEXT)
    assert chunks.read(chunk) == pack(TEXT)
    damage(chunks.path(chunk), torn)
    assert chunks.read(chunk) is None
    if torn:
        assert not chunks.path(chunk).exists()
    assert not chunks.has(chunk)
    chunks.write(chunk, pack(TEXT))
    assert chunks.read(chunk) == pack(TEXT)


def test_what_was_torn_while_nobody_looked_is_built_again(chunks: ChunkFolder) -> None:
    chunk = chunks.put(TEXT)
    damage(chunks.path(chunk), at=9)
    again = ChunkFolder(chunks.path(chunk).parents[1], chunks.path(chunk).parents[2])
    assert again.put(TEXT) == chunk
    assert again.content(chunk) == TEXT


def test_a_link_is_no_chunk_and_is_not_followed(chunks: ChunkFolder, tmp_path: Path) -> None:
    chunk = digest_of(TEXT)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(pack(TEXT))
    chunks.put(b"something, so that the folders are there")
    chunks.path(chunk).parent.mkdir(exist_ok=True)
    chunks.path(chunk).symlink_to(elsewhere)
    assert not chunks.has(chunk)
    assert chunks.read(chunk) is None
    chunks.write(chunk, pack(TEXT))
    assert chunks.read(chunk) == pack(TEXT)
    assert not chunks.path(chunk).is_symlink()


def test_a_named_pipe_does_not_stop_a_reader(chunks: ChunkFolder) -> None:
    chunk = chunks.put(TEXT)
    chunks.path(chunk).unlink()
    os.mkfifo(chunks.path(chunk))
    assert chunks.read(chunk) is None
    assert chunks.put(TEXT) == chunk
    assert chunks.read(chunk) == pack(TEXT)


def test_a_linked_folder_is_not_written_to(chunks: ChunkFolder, tmp_path: Path) -> None:
    chunks.put(b"something")
    chunk = digest_of(TEXT)
    folder = chunks.path(chunk).parent
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImageError, match="is no folder"):
        chunks.put(TEXT)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_many_writers_at_once_agree(chunks: ChunkFolder) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    begin = threading.Barrier(8)

    def work(turn: int) -> None:
        begin.wait()
        for number in range(len(contents)):
            content = contents[(number + turn) % len(contents)]
            chunks.write(digest_of(content), pack(content))
            assert chunks.content(digest_of(content)) == content

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert {path.name for path in chunks.files()} == {digest_of(one) for one in contents}

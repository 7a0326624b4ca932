"""What must hold of the program that is sent to hosts."""

from __future__ import annotations

import ast
import io
import marshal
import random
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.executor import start as executor_start
from sappers.provisioner.executor.file_upload import ChunkEncoder, compression_pays
from sappers.provisioner.executor.program import OWN_BYTECODE, program
from sappers.provisioner.remote import wire

REMOTE = Path(wire.__file__).parent


@pytest.mark.parametrize("path", sorted(REMOTE.glob("*.py")), ids=lambda path: path.name)
def test_python_3_8_can_read_it_and_it_needs_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            rooms = ("sappers.provisioner.remote", "sappers.provisioner.modules")
            own = module.startswith(rooms)
            assert own or module.split(".")[0] in sys.stdlib_module_names


def test_every_module_travels() -> None:
    names = {path.stem for path in REMOTE.glob("*.py")} - {"__init__"}
    sent = {*executor_start.MODULES, *executor_start.TASK_MODULES}
    assert {f"{executor_start.PACKAGE}.{name}" for name in names} <= sent
    for bytecode in ("", OWN_BYTECODE):
        assert len(program(executor_start.MODULES, bytecode)) < 40_000


def test_a_host_with_another_python_gets_the_source_and_one_with_ours_what_it_can_run() -> None:
    names = ("sappers.provisioner.remote.wire",)
    ((name, source),) = marshal.loads(zlib.decompress(program(names, "another")))
    assert (name, source) == (names[0], Path(wire.__file__).read_text())
    ((_, code),) = marshal.loads(zlib.decompress(program(names, OWN_BYTECODE)))
    module: dict[str, object] = {}
    exec(code, module)
    assert module["BODY_BYTES_MAX"] == wire.BODY_BYTES_MAX


def reader(data: bytes):
    stream = io.BytesIO(data)

    def read(length: int) -> bytes | None:
        part = stream.read(length)
        return part if len(part) == length else None

    return read


@given(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text()), st.binary(), st.integers(0)
)
def test_frames_survive_the_wire_and_a_cut_is_the_end(
    head: dict[str, object], body: bytes, cut: int
) -> None:
    data = wire.encode(head, body)
    assert wire.decode(reader(data)) == (head, body)
    assert wire.decode(reader(data[: cut % len(data)])) is None


@given(st.binary(max_size=64))
def test_garbage_is_no_frame(data: bytes) -> None:
    try:
        frame = wire.decode(reader(data))
    except ValueError:
        return
    assert frame is None or isinstance(frame[0], dict)


def test_compression_pays_on_a_slow_wire_alone() -> None:
    slow = {"wire_bytes_per_second": 1e6, "zlib_bytes_per_second": 1e8}
    assert compression_pays(**slow, ratio=0.5)
    assert not compression_pays(**slow, ratio=1.0)
    assert not compression_pays(wire_bytes_per_second=2e8, zlib_bytes_per_second=1e8, ratio=0.1)


class Wire:
    """A clock that moves as bytes are sent, and while something is compressed."""

    def __init__(self, bytes_per_second: float) -> None:
        self.now = 0.0
        self._rate = bytes_per_second
        self._asked = False

    def clock(self) -> float:
        self.now += 0.001 if self._asked else 0  # asked twice for one chunk: it compressed
        self._asked = True
        return self.now

    def carry(self, encoder: ChunkEncoder, chunk: bytes, count: int) -> list[bool]:
        how = []
        for _ in range(count):
            self._asked = False
            compressed, data = encoder.encode(chunk)
            assert (zlib.decompress(data) if compressed else data) == chunk
            self.now += len(data) / self._rate
            how.append(compressed)
        return how


@pytest.mark.parametrize(
    ("bytes_per_second", "chunk", "compressed"),
    [
        (1e6, b"a" * 100_000, True),
        (1e6, random.Random(1).randbytes(100_000), False),
        (1e12, b"a" * 100_000, False),
    ],
)
def test_chunks_are_compressed_where_that_is_quicker(
    bytes_per_second: float, chunk: bytes, compressed: bool
) -> None:
    wire = Wire(bytes_per_second)

    how = wire.carry(ChunkEncoder(wire.clock), chunk, 100)
    assert how[-1] is compressed
    assert not any(how[:12])

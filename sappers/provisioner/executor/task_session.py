"""Tasks on one executor: sends the modules they need, then the tasks; hears what came of each.

Many tasks go in one request. What a host lacks of a file's content it asks for.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from sappers.errors import HostError
from sappers.model.known_types import learn
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.executor.file_upload import CHUNKS_UNDER_WAY_MAX, ChunkEncoder, chunks_of
from sappers.provisioner.executor.program import program, source_of
from sappers.provisioner.executor.start import TASK_MODULES, TASK_PARTS

INLINE_BYTES_MAX = 4096
RESULT_BYTES_MAX = 64 * 1024 * 1024
_MODULES = "sappers.provisioner.modules"
_IMPORTS = re.compile(
    rf"^from {re.escape(_MODULES)}(?:\.(\w+) import .*| import (.+))$", re.MULTILINE
)

Content = bytes | Path
Taken = Callable[[int, dict[str, Any]], None]


class TaskSession:
    """One executor of a run; a call from another thread waits for its turn."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._loaded = set(TASK_PARTS) if executor.runs_tasks else set()

    def run(
        self,
        groups: Sequence[Mapping[str, Any]],
        blobs: Mapping[str, Content],
        taken: Taken,
        said: Callable[[str], None] | None = None,
    ) -> None:
        """Run groups of tasks in order, until one fails that does not go on.

        Args:
            groups: Each has `tasks` (module, args, paths, check, diff, environment) and `goes_on`.
            blobs: Contents by SHA-256 that tasks refer to.
            taken: Called with the number of each task that was run, and its result.
            said: Called with each line that programs write, as it comes.

        Raises:
            HostUnreachable: The connection is gone.
            HostError: The executor says what makes no sense.
        """
        channel = self._executor.channel
        with channel.exclusive():
            if not self._loaded:
                self._make_able()
            names = self._missing({task["module"] for group in groups for task in group["tasks"]})
            modules = self._program(names)
            small = {
                digest: base64.b64encode(content).decode()
                for digest, content in blobs.items()
                if isinstance(content, bytes) and len(content) <= INLINE_BYTES_MAX
            }
            request = json.dumps(
                {"groups": groups, "blobs": small, "follow": said is not None}
            ).encode()
            body = modules + zlib.compress(request, 1)
            lines = _Lines()
            left = sum(len(group["tasks"]) for group in groups)
            number = channel.begin({"op": "tasks", "modules": len(modules)}, body)
            head, body = channel.receive(number)
            while "event" in head:
                if head["event"] == "said" and said is not None:
                    lines.take(body, said)
                elif head["event"] == "task":
                    if not left:
                        raise HostError(self._executor.host, "it tells of more tasks than it has")
                    left -= 1
                    taken(head.get("number", 0), self._result(body))
                elif head["event"] == "send":
                    early = self._stream(number, blobs.get(body.decode("ascii", "replace")))
                    if early is not None:
                        head, body = early
                        continue
                head, body = channel.receive(number)
        if "error" in head:
            raise HostError(self._executor.host, f"tasks cannot be run: {head['error']['message']}")
        self._loaded.update(names)

    def _make_able(self) -> None:
        """Have an executor run tasks that was not started for it."""
        modules = program(TASK_MODULES, self._executor.bytecode)
        head, _ = self._executor.channel.call({"op": "extend", "attach": True}, modules)
        if "error" in head:
            message = f"it cannot be made to run tasks: {head['error']['message']}"
            raise HostError(self._executor.host, message)
        self._loaded.update(TASK_PARTS)

    def _missing(self, wanted: set[str]) -> list[str]:
        """Of modules, and of those they import, the ones that were not sent before."""
        return [name for name in _with_imports(wanted) if name not in self._loaded]

    def _program(self, names: Sequence[str]) -> bytes:
        full = tuple(f"{_MODULES}.{name}" for name in names)
        return program(full, self._executor.bytecode) if full else b""

    def _result(self, body: bytes) -> dict[str, Any]:
        try:
            text = zlib.decompressobj().decompress(body, RESULT_BYTES_MAX)
            result: dict[str, Any] = json.loads(text)
            msgspec.convert(result, learn(_Told))
        except (zlib.error, ValueError, RecursionError):
            raise HostError(self._executor.host, "its executor says what makes no sense") from None
        return result

    def _stream(self, number: int, content: Content | None) -> Any:
        """Send a content as the host takes it; what the host says beside, or None."""
        channel = self._executor.channel
        if content is None:
            raise HostError(self._executor.host, "it asks for a file that no task has")
        encoder, under_way, early = ChunkEncoder(), 0, None
        try:
            for chunk in _chunks(content):
                compressed, data = encoder.encode(chunk)
                channel.send({"op": "chunk", "id": number, "zlib": compressed}, data)
                under_way += 1
                if under_way >= CHUNKS_UNDER_WAY_MAX:
                    head, body = channel.receive(number)
                    under_way -= 1
                    if head.get("event") != "written":  # it failed: the rest is pointless
                        early = head, body
                        break
        finally:
            # Whatever happened here, the host must not wait for more.
            channel.send({"op": "end", "id": number})
        return early


class _Told(msgspec.Struct):
    """What every result has to be, whoever made it: what is asked of it here, and shown."""

    diff: list[dict[str, Any]] = []
    ansible_facts: dict[str, Any] = {}


class _Lines:
    """Text that comes in pieces, line by line."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def take(self, data: bytes, said: Callable[[str], None]) -> None:
        """Tell the lines that are whole."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            said(line)


def _chunks(content: Content) -> Any:
    if isinstance(content, bytes):
        import io

        yield from chunks_of(io.BytesIO(content))
        return
    with content.open("rb") as file:
        yield from chunks_of(file)


@cache
def _imports_of(name: str) -> list[str]:
    found = _IMPORTS.findall(source_of(f"{_MODULES}.{name}"))
    return [word.strip() for one, several in found for word in (one or several).split(", ")]


def _with_imports(names: set[str]) -> list[str]:
    """Modules in an order in which each comes after those it imports."""
    ordered: list[str] = []

    def add(name: str) -> None:
        if name in ordered:
            return
        for imported in _imports_of(name):
            add(imported)
        ordered.append(name)

    for name in sorted(names):
        add(name)
    return ordered

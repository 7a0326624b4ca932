"""Child processes that speak JSON, one object a line: what they say, and when it was heard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

_LIMIT_BYTES = 1 << 24
ANSWER_SECONDS = 120.0


class Child:
    """A process with JSON on its standard input and output; killed when it is closed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, argv: Sequence[str], errors: Path) -> Self:
        """`errors`: the file that its stderr goes to, newest last."""
        with errors.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                limit=_LIMIT_BYTES,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    async def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Its next line, after it was told this one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            return json.loads(await self.line())  # type: ignore[no-any-return]

    async def line(self) -> bytes:
        """What it says next.

        Raises:
            EOFError: It has ended.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError(f"process {self.pid} has ended")
        return line

    async def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

"""The executor, seen from here: commands, files and facts on one host, over one SSH channel.

All file operations are idempotent, say whether they changed anything, and with `check=True` say
whether they would, changing nothing.
"""

from __future__ import annotations

import codecs
import errno
import io
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import msgspec
import paramiko

from sappers.durable import FULL
from sappers.errors import (
    CommandFailed,
    HostError,
    HostUnfit,
    LockHeld,
    PrivilegeError,
    SappersError,
)
from sappers.model.known_types import learn
from sappers.provisioner.executor.channel import ExecutorChannel
from sappers.provisioner.executor.facts import Facts
from sappers.provisioner.executor.file_upload import (
    CHUNKS_UNDER_WAY_MAX,
    ChunkEncoder,
    chunks_of,
    digest_of,
)
from sappers.provisioner.modules.step import NO_PROGRAM, TIMED_OUT
from sappers.provisioner.remote import wire

T = TypeVar("T")

OUTPUT_CHARACTERS_MAX = 16 * 1024 * 1024
CLOCK_SAMPLES = 5


class CommandResult(msgspec.Struct, frozen=True):
    """How a command ended.

    Attributes:
        output: What it wrote to stdout and stderr, in the order it came.
        stdout: What it wrote to stdout alone.
    """

    exit_code: int
    output: str
    stdout: str


class FileStat(msgspec.Struct, frozen=True):
    """A file, folder or link on the host; links are not followed.

    Attributes:
        mode: Permission bits.
        sha256: Hex digest of a regular file's content when asked for, else None.
        target: Where a link points, else None.
    """

    kind: Literal["file", "folder", "link", "other"]
    mode: int
    owner: str
    group: str
    size: int
    sha256: str | None = None
    target: str | None = None


class Executor:
    """Commands, files and facts on one host; one call at a time, from any thread.

    Every call may raise HostUnreachable (the connection is gone), HostUnfit (no room on the disk),
    PrivilegeError (the user may not), and HostError (any other refusal of the host's system).
    """

    def __init__(
        self,
        host: str,
        channel: paramiko.Channel,
        rest: bytes = b"",
        bytecode: str = "",
        *,
        runs_tasks: bool = False,
    ) -> None:
        """What `start_program` has started.

        Args:
            bytecode: Which the host's Python reads, as `StartedChannel` has it.
            runs_tasks: What runs tasks is part of it.
        """
        self.bytecode = bytecode
        self.runs_tasks = runs_tasks
        self._host = host
        self._channel = ExecutorChannel(host, channel, rest)

    @property
    def host(self) -> str:
        """Name of the host."""
        return self._host

    @property
    def channel(self) -> ExecutorChannel:
        """For those who speak more of its language: `TaskSession`."""
        return self._channel

    def gather_facts(
        self, *, disk_paths: Sequence[str] = ("/",), packages: Sequence[str] = ()
    ) -> Facts:
        """Facts; with free room of `disk_paths` and the installed versions of Debian `packages`."""
        request = {"op": "facts", "disk_paths": list(disk_paths), "packages": list(packages)}
        found = self._call(request, "facts cannot be gathered")
        offset, uncertainty = self._measure_clock()
        clock = {"clock_offset_seconds": offset, "clock_uncertainty_seconds": uncertainty}
        return self._typed({**self._typed(found, dict[str, Any]), **clock}, Facts)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_seconds: float = 60.0,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a program (no shell) and wait for it.

        Args:
            argv: Program, found in a fixed system PATH, and arguments. Nothing secret: use stdin.
            stdin: At most 32 MiB; write a file for more.
            timeout_seconds: After it, the program and its children are killed.
            environment: Added to a minimal environment (PATH, HOME, LANG=C.UTF-8).
            on_line: Called in this thread with each line of output, as it comes.

        Raises:
            CommandFailed: It did not end in time (exit code 124) or is no program (127).
        """
        if len(stdin) > wire.BODY_BYTES_MAX:
            raise ValueError(f"stdin of {len(stdin)} bytes; write a file instead")
        output = _Output(on_line)
        request = {
            "op": "run",
            "argv": list(argv),
            "timeout_seconds": timeout_seconds,
            "environment": dict(environment or {}),
        }
        head, _ = self._channel.call(request, stdin, output.take)
        text, stdout = output.finish()
        error = head.get("error")
        if error is None:
            return CommandResult(self._typed(head["result"], int), text, stdout)
        command = shlex.join(argv)
        if error["kind"] == "stopped":
            text = f"{text}\nnot done after {timeout_seconds:g} s, and stopped"
            raise CommandFailed(self._host, command, TIMED_OUT, text)
        if error["kind"] == "os":
            text = f"{argv[0]}: {error['message']}"
            raise CommandFailed(self._host, command, NO_PROGRAM, text)
        raise self._refusal(error, f"`{command}` cannot be run")

    def check(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_seconds: float = 60.0,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """As `run`, for a program that has to succeed.

        Raises:
            CommandFailed: It ended with a non-zero exit code.
        """
        result = self.run(
            argv,
            stdin=stdin,
            timeout_seconds=timeout_seconds,
            environment=environment,
            on_line=on_line,
        )
        if result.exit_code:
            raise CommandFailed(self._host, shlex.join(argv), result.exit_code, result.output)
        return result

    def stat(self, paths: Sequence[str], *, digests: bool = False) -> dict[str, FileStat | None]:
        """What is at each path, None where nothing is; with `digests` regular files are hashed."""
        request = {"op": "stat", "paths": list(paths), "digests": digests}
        found = self._call(request, f"cannot look at {', '.join(paths)}")
        stats = self._typed(found, dict[str, FileStat | None])
        return {path: stats.get(path) for path in paths}

    def read_file(self, path: str, *, max_bytes: int = 16 * 1024 * 1024) -> bytes | None:
        """A file's content, or None when there is none.

        Raises:
            HostError: It is larger than `max_bytes` (or 32 MiB), or no regular file.
        """
        limit = min(max_bytes, wire.BODY_BYTES_MAX)
        request = {"op": "read", "path": path, "max_bytes": limit}
        head, raw = self._channel.call(request)
        return raw if self._result(head, f"{path} cannot be read") else None

    def write_file(
        self,
        path: str,
        content: bytes | Path,
        *,
        mode: int = 0o644,
        owner: str = "root",
        group: str = "root",
        check: bool = False,
    ) -> bool:
        """Make the file have this content, mode and owner; whether that changed anything.

        Content travels only when the digest differs. It is written beside, synced and renamed: at
        every moment the old or the new file is whole, and no part of a file stays after a failure.

        Args:
            content: The bytes, or a file on this machine, which is streamed.

        Raises:
            SappersError: The file on this machine cannot be read.
        """
        doing = f"{path} cannot be written"
        try:
            digest, size = digest_of(content)
            request = {
                "op": "write",
                "path": path,
                "mode": mode,
                "owner": owner,
                "group": group,
                "size": size,
                "sha256": digest,
                "check": check,
            }
            with _open(content) as file, self._channel.exclusive():
                number = self._channel.begin(request)
                head, _ = self._channel.receive(number)
                if head.get("event") == "send":
                    head = self._stream(number, file)
        except OSError as error:
            if isinstance(error, SappersError):
                raise
            raise SappersError(f"{content!s} cannot be read: {error.strerror}") from error
        return bool(self._result(head, doing))

    def ensure_folder(
        self,
        path: str,
        *,
        mode: int = 0o755,
        owner: str = "root",
        group: str = "root",
        check: bool = False,
    ) -> bool:
        """Make the folder exist with this mode and owner; missing parents are 0755, root's."""
        request = {"op": "folder", "path": path, "mode": mode, "owner": owner, "group": group}
        return bool(self._call({**request, "check": check}, f"folder {path} cannot be made"))

    def ensure_link(self, path: str, target: str, *, check: bool = False) -> bool:
        """Make `path` a symbolic link to `target`, replacing a link or file in one step."""
        request = {"op": "link", "path": path, "target": target, "check": check}
        return bool(self._call(request, f"link {path} cannot be made"))

    def remove(self, path: str, *, check: bool = False) -> bool:
        """Make nothing be at the path; folders go with all they hold, links are not followed.

        Raises:
            HostError: It is a top-level folder, or something is mounted in it.
        """
        request = {"op": "remove", "path": path, "check": check}
        return bool(self._call(request, f"{path} cannot be removed"))

    def acquire_lock(self, path: str, holder: str) -> None:
        """Take a lock that lasts as long as this executor, and write into it who holds it.

        Raises:
            LockHeld: Another run has it; carries the other's text.
        """
        self._call({"op": "lock", "path": path, "holder": holder}, f"lock {path} cannot be taken")

    def close(self) -> None:
        """End the executor on the host; may be called twice."""
        self._channel.close()

    def _stream(self, number: int, file: BinaryIO) -> dict[str, Any]:
        """Send a file's content as the host takes it; the head of the answer."""
        encoder = ChunkEncoder()
        under_way = 0
        try:
            for chunk in chunks_of(file):
                compressed, data = encoder.encode(chunk)
                self._channel.send({"op": "chunk", "id": number, "zlib": compressed}, data)
                under_way += 1
                if under_way >= CHUNKS_UNDER_WAY_MAX:
                    head, _ = self._channel.receive(number)
                    under_way -= 1
                    if "event" not in head:  # it could not be written: the rest is pointless
                        return head
        finally:
            # Whatever happened here, the host must not wait for more.
            self._channel.send({"op": "end", "id": number})
        while True:
            head, _ = self._channel.receive(number)
            if "event" not in head:
                return head

    def _measure_clock(self) -> tuple[float, float]:
        """The host's clock minus ours, and how far that may be off; of the quickest exchange."""
        best = (0.0, float("inf"))
        for _ in range(CLOCK_SAMPLES):
            before, began = time.time(), time.monotonic()
            theirs = self._typed(self._call({"op": "ping"}, "no answer"), float)
            half = (time.monotonic() - began) / 2
            if half < best[1]:
                best = (theirs - (before + half), half)
        return best

    def _call(self, request: dict[str, Any], doing: str) -> Any:
        head, _ = self._channel.call(request)
        return self._result(head, doing)

    def _result(self, head: dict[str, Any], doing: str) -> Any:
        if "error" in head:
            raise self._refusal(head["error"], doing)
        return head["result"]

    def _typed(self, result: Any, kind: type[T]) -> T:
        """The result as what it has to be; a host may say anything."""
        try:
            return msgspec.convert(result, learn(kind))
        except msgspec.ValidationError as error:
            raise HostError(
                self._host, f"its executor says what makes no sense: {error}"
            ) from error

    def _refusal(self, error: dict[str, Any], doing: str) -> SappersError:
        """The error that a person gets for one that the host reports."""
        message = f"{doing}: {error['message']}"
        number = error.get("errno")
        if error["kind"] == "held":
            holder = error["message"] or "another run"
            return LockHeld(self._host, holder, hint="wait until it is done, and run again")
        if number in FULL:
            return HostUnfit(self._host, message, hint="make room on the disk, and run again")
        if number in (errno.EACCES, errno.EPERM):
            return PrivilegeError(self._host, message, hint="set ansible_become=true")
        return HostError(self._host, message)


def _open(content: bytes | Path) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


class _Output:
    """What a command writes, as text and, if wanted, line by line."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        self._parts: list[tuple[str, str]] = []
        self._length = 0
        self._open = {"stdout": "", "stderr": ""}

    def take(self, head: dict[str, Any], data: bytes) -> None:
        """One piece of output."""
        name = head["event"]
        text = self._decoders[name].decode(data)
        if self._length < OUTPUT_CHARACTERS_MAX:
            self._parts.append((name, text))
            self._length += len(text)
        if self._on_line:
            *lines, self._open[name] = (self._open[name] + text).split("\n")
            for line in lines:
                self._on_line(line)

    def finish(self) -> tuple[str, str]:
        """All output, and stdout alone."""
        for name, rest in self._open.items():
            if rest and self._on_line:
                self._on_line(rest)
            self._open[name] = ""
        whole = "".join(text for _, text in self._parts)
        return whole, "".join(text for name, text in self._parts if name == "stdout")

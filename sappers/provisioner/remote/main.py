"""The executor: answers requests on stdin one after the other, until the stream or 60 s of it end.

This thread reads and answers pings, so that a long command does not make the host look dead; a
second thread does the work. What only some requests need of the standard library is imported where
it is needed: an executor has to start quickly, on many hosts at once.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import queue
import select
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from sappers.provisioner.remote import commands, facts, files, wire

SILENCE_MAX_SECONDS = 60.0
END_SECONDS = 5.0


class Executor:
    """Requests in, answers out."""

    def __init__(self, source: int, sink: int, load: Callable[[Any], Any]) -> None:
        """`load` runs modules that are sent later, and returns the last."""
        self._load = load
        self._source = source
        self._sink = sink
        self._sending = threading.Lock()
        # Never blocks, so that pings are answered: the sender waits for `written` now and then.
        self._inbox: queue.Queue[wire.Frame | None] = queue.Queue()
        self.runner = commands.Runner()
        self._locks = files.Locks()
        self.operations: dict[str, Callable[[dict[str, Any], bytes], Any]] = {
            "facts": self._facts,
            "run": self._run,
            "stat": self._stat,
            "read": self._read,
            "write": self._write,
            "folder": self._folder,
            "link": self._link,
            "remove": self._remove,
            "lock": self._lock,
            "extend": self._extend,
        }

    def serve(self) -> None:
        """Work until the stream ends."""
        worker = threading.Thread(target=self._work, daemon=True)
        worker.start()
        try:
            self.send({"ready": True, "pid": os.getpid()})
            self._receive()
        except (OSError, ValueError):
            pass  # nobody listens, or what comes is no frame: the end, either way
        self.runner.close()
        self._inbox.put(None)
        worker.join(END_SECONDS)

    def _receive(self) -> None:
        while True:
            frame = wire.decode(self._read_exactly)
            if frame is None:
                return
            if frame[0].get("op") == "ping":
                self.send({"id": frame[0].get("id"), "result": time.time()})
            else:
                self._inbox.put(frame)

    def _read_exactly(self, length: int) -> bytes | None:
        parts = []
        while length:
            if not select.select([self._source], [], [], SILENCE_MAX_SECONDS)[0]:
                return None
            part = os.read(self._source, min(length, 1024 * 1024))
            if not part:
                return None
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send one frame, from any thread."""
        with self._sending:
            left = memoryview(wire.encode(head, body))
            while left:
                left = left[os.write(self._sink, left) :]

    def _work(self) -> None:
        while True:
            frame = self._inbox.get()
            if frame is None:
                return
            head, body = frame
            if head.get("op") in ("chunk", "end"):
                continue  # the rest of a file that could not be written
            try:
                self._answer(head, body)
            except wire.ConnectionEnded:
                return
            except OSError:  # nobody listens any more
                os._exit(0)

    def _answer(self, head: dict[str, Any], body: bytes) -> None:
        answer: dict[str, Any] = {"id": head.get("id")}
        raw = b""
        try:
            result = self.operations[head["op"]](head, body)
            if isinstance(result, bytes):
                raw, answer["result"] = result, True
            else:
                answer["result"] = result
        except wire.ConnectionEnded:
            raise
        except files.Held as error:
            answer["error"] = {"kind": "held", "message": str(error)}
        except files.Refused as error:
            answer["error"] = {"kind": "refused", "message": str(error)}
        except commands.Stopped:
            answer["error"] = {"kind": "stopped", "message": ""}
        except OSError as error:
            text = error.strerror or str(error)
            answer["error"] = {"kind": "os", "errno": error.errno or 0, "message": text}
        except Exception as error:  # the other side shall hear of it, whatever it is
            answer["error"] = {"kind": "bug", "message": repr(error)}
        self.send(answer, raw)

    def _facts(self, head: dict[str, Any], _: bytes) -> Any:
        return facts.gather(head["disk_paths"], head["packages"])

    def _run(self, head: dict[str, Any], body: bytes) -> int:
        def emit(name: str, data: bytes) -> None:
            self.send({"id": head["id"], "event": name}, data)

        return self.runner.run(
            head["argv"], body, head["timeout_seconds"], head["environment"], emit
        )

    def _stat(self, head: dict[str, Any], _: bytes) -> Any:
        return {path: files.stat_path(path, head["digests"]) for path in head["paths"]}

    def _read(self, head: dict[str, Any], _: bytes) -> Any:
        return files.read_file(head["path"], head["max_bytes"])

    def _write(self, head: dict[str, Any], _: bytes) -> bool:
        write = files.FileWrite(
            head["path"], head["mode"], head["owner"], head["group"], head["size"], head["sha256"]
        )
        if not write.content_differs():
            return write.adjust(head["check"])
        if not head["check"]:
            self.send({"id": head["id"], "event": "send"})
            write.write(self.chunks(head["id"]))
        return True

    def chunks(self, number: int) -> Iterator[bytes]:
        """What the other side streams for a request, until its end."""
        while True:
            frame = self._inbox.get()
            if frame is None:
                raise wire.ConnectionEnded
            head, body = frame
            if head["op"] == "end":
                return
            yield zlib.decompress(body) if head["zlib"] else body
            self.send({"id": number, "event": "written"})

    def _folder(self, head: dict[str, Any], _: bytes) -> bool:
        return files.ensure_folder(
            head["path"], head["mode"], head["owner"], head["group"], head["check"]
        )

    def _link(self, head: dict[str, Any], _: bytes) -> bool:
        return files.ensure_link(head["path"], head["target"], head["check"])

    def _remove(self, head: dict[str, Any], _: bytes) -> bool:
        return files.remove(head["path"], head["check"])

    def _lock(self, head: dict[str, Any], _: bytes) -> bool:
        self._locks.acquire(head["path"], head["holder"])
        return True

    def _extend(self, head: dict[str, Any], body: bytes) -> bool:
        """Take on more of the program: what only runs of playbooks need is sent when they do."""
        last = self.take_on(body)
        if head["attach"]:
            last.attach(self)
        return True

    def take_on(self, modules: bytes) -> Any:
        """Run modules of the program that were sent; the last of them."""
        return self._load(marshal.loads(zlib.decompress(modules)))  # noqa: S302 — from whom runs us


def main(load: Callable[[Any], Any], attach: Callable[[Executor], None] = lambda _: None) -> None:
    """Serve on stdin and stdout, kept from everything else that might use them.

    Args:
        attach: Gives the executor what it can do beside.
    """
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.umask(0o022)
    with contextlib.suppress(Exception):
        executor = Executor(source, sink, load)
        attach(executor)
        executor.serve()
    # A worker that hangs in a system call must not keep this process, and so its locks, alive.
    os._exit(0)

"""Does the steps that modules ask for, on this host; in check mode only questions are answered."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

from sappers.provisioner.modules import step
from sappers.provisioner.remote import accounts, archives, commands, digests, files, system, web
from sappers.provisioner.remote.contents import Contents
from sappers.provisioner.remote.diffs import Diffs
from sappers.provisioner.remote.permitted import refuse_in_vain
from sappers.provisioner.remote.pretence import Pretence

CONTENT_BYTES_MAX = 32 * 1024 * 1024
KEPT_BYTES_MAX = 1024 * 1024
OUTPUT_BYTES_MAX = 16 * 1024 * 1024
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_STAT_FIELDS = [
    "st_mode",
    "st_ino",
    "st_dev",
    "st_nlink",
    "st_uid",
    "st_gid",
    "st_size",
    "st_atime",
    "st_mtime",
    "st_ctime",
    "st_blocks",
    "st_blksize",
    "st_rdev",
]


def _like_what(effect: Any) -> str | None:
    """The path that says what is there before, or what will be there as well."""
    if type(effect) is step.CopyFile:
        return str(effect.source)
    if type(effect) is step.MakeLink and effect.hard:
        return str(effect.target)
    return getattr(effect, "path", None)


class Performer:
    """Answers the steps of the tasks of one run.

    Args:
        fetch: Brings a blob's content from the control machine, chunk by chunk.
    """

    def __init__(
        self, runner: commands.Runner, fetch: Callable[[step.Blob], Iterator[bytes]]
    ) -> None:
        self._runner = runner
        self._contents = Contents(fetch)
        self._fetch = self._contents.chunks
        self._of_run = self._pretence = Pretence()
        self._shown = Diffs(self._read, self._stat, self._fetch)
        self.check = False
        self.diffs: list[dict[str, str]] | None = None
        self.effects: list[Any] = []
        self.environment: dict[str, str] = {}
        self._seconds: float | None = None
        self._deadline: float | None = None
        self.said: Callable[[bytes], None] | None = None  # told what effects write, as they do
        self._kinds: dict[Any, Callable[[Any], Any]] = {
            step.Stat: self._stat,
            step.Read: self._read,
            step.Texts: self._texts,
            step.Names: self._names,
            step.Glob: self._glob,
            step.RealPath: self._real_path,
            step.Account: self._account,
            step.Ask: self._ask,
            step.Pause: self._pause,
            step.Expand: self._expand,
            step.System: lambda _: system.describe(self.environment),
            step.Access: self._access,
            step.Connect: self._connect,
            step.Try: self._try,
            step.WriteFile: self._write,
            step.MakeFolder: self._make_folder,
            step.SetAttributes: self._set_attributes,
            step.MakeLink: self._make_link,
            step.Touch: self._touch,
            step.CopyFile: self._copy,
            step.Remove: self._remove,
            step.Execute: self._execute,
            step.Request: lambda one: web.ask(one, self._contents),
            step.Load: lambda one: self._contents.load(one.blob),
            step.Digest: lambda one: self._contents.digest(one.blob, one.algorithm),
            step.Members: self._members,
            step.Unpack: self._unpack,
            step.ReadPart: lambda one: files.read_part(one.path, one.offset, one.length),
        }

    def begin(
        self, *, check: bool, alone: bool, diff: bool, environment: dict[str, str],
        seconds: float | None = None,
    ) -> None:  # fmt: skip
        """A task begins.

        Args:
            check: Its effects are only announced.
            alone: Not only because the whole run's are: later tasks must not take them for done.
            seconds: It may take so long.
        """
        self._contents.clear()
        self._seconds = seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.check = check
        self._pretence = self._of_run.copy() if alone else self._of_run
        self.diffs = [] if diff else None
        self.effects = []
        self.environment = environment

    def perform(self, one: Any) -> Any:
        """The answer to a step; in check mode an effect is only remembered.

        Raises:
            OSError, files.Refused: The system refuses.
            step.Failed: The time of the task is over.
        """
        self._seconds_left(0.0)
        if not isinstance(one, step.Effects):
            return self._kinds[type(one)](one)
        self.effects.append(one)
        if self.diffs is not None and (diff := self._shown.of(one)) is not None:
            self.diffs.append(diff)
        if not self.check:
            return self._kinds[type(one)](one)
        path = _like_what(one)
        refuse_in_vain(one, self._stat, self._followed, self._pretends)
        before = self._stat(step.Stat(path)) if path else None
        content = self._kept(one.content) if type(one) is step.WriteFile else None
        self._pretence.remember(one, before, content)
        return step.Completed(0, b"", b"") if type(one) is step.Execute else None

    def _seconds_left(self, wanted: float) -> float:
        """So long, but not over the task's time. Raises step.Failed when that is over."""
        if self._deadline is None:
            return wanted
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise step.Failed(f"Timed out after {self._seconds:g} second(s).", timedout=True)
        return min(wanted, left)

    def _kept(self, content: bytes | step.Blob) -> bytes | None:
        """What would be written, for those who read it later; what is large is not fetched."""
        if isinstance(content, bytes):
            return content
        return b"".join(self._fetch(content)) if content.size <= KEPT_BYTES_MAX else None

    # Questions

    def _stat(self, one: step.Stat) -> step.Found | None:
        path = self._followed(one.path) if one.follow else one.path
        if self._pretends(path):
            found = self._pretence.found(path)
            is_read = found and found.kind == "file" and one.digests
            if not found or not is_read or self._pretence.holds_other(path):
                return found
            return found._replace(digests=digests.of_file(path, *one.digests))
        try:
            there = os.stat(path) if one.follow else os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind = _KINDS.get(stat.S_IFMT(there.st_mode), "other")
        asked = digests.of_file(path, *one.digests) if kind == "file" and one.digests else {}
        return step.Found(
            kind,
            stat.S_IMODE(there.st_mode),
            there.st_uid,
            there.st_gid,
            there.st_size,
            os.readlink(path) if kind == "link" else "",
            asked,
            {name: getattr(there, name) for name in _STAT_FIELDS},
        )

    def _pretends(self, path: str) -> bool:
        """Whether an earlier task of check mode said that it would change this."""
        return self.check and self._pretence.knows(path)

    def _followed(self, path: str) -> str:
        """In check mode a path behind the links that are there, or would be, and without `..`."""
        plain = os.path.normpath(path)
        path = plain if self._pretends(plain) else path
        for _ in range(40):
            if self._pretends(path):
                found = self._pretence.found(path)
                target = found.target if found is not None and found.kind == "link" else ""
            else:
                target = os.readlink(path) if self.check and os.path.islink(path) else ""
            if not target:
                return path
            path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        return path

    def _read(self, one: step.Read) -> bytes | None:
        path = self._followed(one.path)
        if self.check and self._pretence.holds_other(path):
            return self._pretence.content(path)
        return files.read_file(path, CONTENT_BYTES_MAX, one.no_links)

    def _texts(self, one: step.Texts) -> dict[str, str]:
        found = dict.fromkeys(one.paths, "")
        for path in one.paths:
            with contextlib.suppress(OSError, files.Refused):
                pretends = self._pretends(path)
                content = self._read(step.Read(path)) if pretends else files.read_quickly(path)
                found[path] = (content or b"").decode("utf-8", "replace")
        return found

    def _names(self, one: step.Names) -> list[str] | None:
        there: list[str] | None
        try:
            there = sorted(os.listdir(one.path))
        except (FileNotFoundError, NotADirectoryError):
            there = None
        return self._pretence.names(one.path, there) if self.check else there

    def _glob(self, one: step.Glob) -> list[str]:
        found = {path for path in glob.glob(one.pattern) if not self._gone(path)}
        return sorted(found.union(self._pretence.matches(one.pattern) if self.check else ()))

    def _gone(self, path: str) -> bool:
        return self._pretends(path) and self._pretence.found(path) is None

    def _real_path(self, one: step.RealPath) -> str:
        return os.path.realpath(self._followed(one.path))

    def _account(self, one: step.Account) -> dict[str, Any] | None:
        topic = one.database + ":" + one.name
        if self.check and topic in self._pretence.topics:
            found = self._pretence.topics[topic]
            return dict(found) if found is not None else None
        return accounts.account(one.database, one.name)

    def _ask(self, one: step.Ask) -> step.Completed:
        if self.check and one.topic and one.topic in self._pretence.topics:
            return step.Completed(*self._pretence.topics[one.topic])
        environment = {**self.environment, **one.environment}
        return self._run(list(one.argv), b"", one.timeout_seconds, environment, "/", None)

    def _pause(self, one: step.Pause) -> float:
        time.sleep(self._seconds_left(one.seconds))
        return time.monotonic()

    def _expand(self, one: step.Expand) -> list[str]:
        return [os.path.expanduser(os.path.expandvars(text)) for text in one.texts]

    @staticmethod
    def _connect(one: step.Connect) -> bool:
        import socket

        try:
            socket.create_connection((one.host, one.port), one.seconds).close()
        except OSError:
            return False
        return True

    @staticmethod
    def _access(one: step.Access) -> str:
        ways = (("r", os.R_OK), ("w", os.W_OK), ("x", os.X_OK))
        return "".join(letter for letter, way in ways if os.access(one.path, way))

    def _try(self, one: step.Try) -> step.Completed:
        import tempfile

        descriptor, path = tempfile.mkstemp(prefix=".sappers-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                if isinstance(one.content, bytes):
                    file.write(one.content)
                else:
                    file.writelines(self._fetch(one.content))
            argv = [word.replace("%s", path) for word in one.command]
            return self._run(argv, b"", 60.0, self.environment, "/", None)
        finally:
            os.unlink(path)

    # Effects

    def _execute(self, one: step.Execute) -> step.Completed:
        environment = {**self.environment, **one.environment}
        folder = one.folder if one.folder is not None else commands.own_folder()
        return self._run(
            list(one.argv),
            one.stdin,
            one.timeout_seconds,
            environment,
            folder,
            one.umask,
            self.said,
        )

    def _run(
        self,
        argv: list[str],
        stdin: bytes,
        timeout_seconds: float,
        environment: dict[str, str],
        folder: str,
        umask: int | None,
        said: Callable[[bytes], None] | None = None,
    ) -> step.Completed:
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        taken = [0]

        def emit(name: str, data: bytes) -> None:
            taken[0] += len(data)
            if taken[0] <= OUTPUT_BYTES_MAX:
                output[name].append(data)
            if said is not None:
                said(data)

        began = time.time()
        earlier = os.umask(umask) if umask is not None else None
        try:
            seconds = self._seconds_left(timeout_seconds)
            code = self._runner.run(argv, stdin, seconds, environment, emit, folder)
        except commands.Stopped:
            self._seconds_left(0.0)
            code = step.TIMED_OUT
            output["stderr"].append(b"\nnot done after %d s, and stopped" % timeout_seconds)
        except OSError as error:
            text = f"{error.filename or argv[0]}: {error.strerror}"
            return step.Completed(step.NO_PROGRAM, b"", text.encode())
        finally:
            if earlier is not None:
                os.umask(earlier)
        out, err = b"".join(output["stdout"]), b"".join(output["stderr"])
        return step.Completed(code, out, err, began, time.time())

    def _write(self, one: step.WriteFile) -> None:
        if isinstance(one.content, bytes):
            size, digest = len(one.content), digests.hex_of("sha256", one.content)
            chunks: Iterator[bytes] = iter([one.content])
        else:
            size, digest, chunks = one.content.size, one.content.sha256, self._fetch(one.content)
        files.FileWrite(
            one.path, one.mode, str(one.uid), str(one.gid), size, digest, one.no_links
        ).write(chunks)

    @staticmethod
    def _make_folder(one: step.MakeFolder) -> None:
        with contextlib.suppress(FileExistsError):  # who else makes it wants it, too
            os.mkdir(one.path, 0o700)
        # By descriptor: whose folder it is in could have put a link there since.
        with files.opened_folder(one.path, no_links=True) as made:
            os.fchown(made, one.uid, one.gid)
            os.fchmod(made, one.mode)
        files.sync_folder(os.path.dirname(one.path))

    @staticmethod
    def _set_attributes(one: step.SetAttributes) -> None:
        files.set_attributes(one.path, one.mode, one.uid, one.gid, one.follow)

    @staticmethod
    def _make_link(one: step.MakeLink) -> None:
        if not one.hard:
            files.ensure_link(one.path, one.target, False)
            return
        files.put_link(os.link, one.target, one.path)

    @staticmethod
    def _touch(one: step.Touch) -> None:
        if not os.path.lexists(one.path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with contextlib.suppress(FileExistsError):  # who else makes it wants it, too
                os.close(os.open(one.path, flags, one.mode))
        now = time.time()
        accessed = now if one.accessed is None else one.accessed
        os.utime(one.path, (accessed, now if one.modified is None else one.modified))

    @staticmethod
    def _copy(one: step.CopyFile) -> None:
        files.copy_file(one.source, one.path)

    def _members(self, one: step.Members) -> Any:
        with self._contents.opened(one.source) as file:
            return archives.members(file, one.folder)

    def _unpack(self, one: step.Unpack) -> None:
        with self._contents.opened(one.source) as file:
            archives.unpack(file, one.path, one.members)

    @staticmethod
    def _remove(one: step.Remove) -> None:
        files.remove(one.path, False)

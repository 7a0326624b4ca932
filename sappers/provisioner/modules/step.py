"""The steps a module may ask for: questions, which change nothing, and effects.

A module's `plan` is a generator that yields steps and is sent the answers; its return value is the
task's result. It touches nothing itself, so what it wants done can be seen, tested and announced.
In check mode questions are answered and effects are only remembered: later questions get the
answers that they would get had the effects been done.
"""

from __future__ import annotations

from typing import Any, Dict, Generator, Optional, Sequence, Tuple, Union

from sappers.provisioner.modules.record import Record

# Exit codes of programs that did not end by themselves, as a shell and `timeout` have them.
NO_PROGRAM = 127
TIMED_OUT = 124


class Failed(Exception):
    """The task fails; keyword arguments become part of its result."""

    def __init__(self, message: str, **result: Any) -> None:
        super().__init__(message)
        self.message = message
        self.result = result


class Found(Record):
    """What is at a path.

    Attributes:
        kind: file, directory, link, or other.
        mode: Permission bits.
        target: Where a link points.
        digests: Hex digests of a regular file's content by algorithm, those asked for.
        raw: The fields of `os.stat_result` by name.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    target: str
    digests: Dict[str, str]
    raw: Dict[str, Any]


class Completed(Record):
    """How a program ended; `began` and `ended` in seconds since 1970."""

    code: int
    stdout: bytes
    stderr: bytes
    began: float = 0.0
    ended: float = 0.0

    @property
    def out(self) -> str:
        """What it wrote to stdout, as text."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def err(self) -> str:
        """What it wrote to stderr, as text."""
        return self.stderr.decode("utf-8", "replace")


class Blob(Record):
    """Content that may still be on the control machine; it travels when a step writes it."""

    sha256: str
    sha1: str
    size: int


class Stat(Record):
    """Question: what is at a path; a `Found` or None."""

    path: str
    follow: bool = False
    digests: Tuple[str, ...] = ()


class Read(Record):
    """Question: a regular file's content; bytes, or None where there is none.

    Attributes:
        no_links: Neither the file nor its folder may be a link.
    """

    path: str
    no_links: bool = False


class Texts(Record):
    """Question: the texts of files, by path; empty where there is none or none that may be read."""

    paths: Tuple[str, ...]


class Names(Record):
    """Question: the names in a folder, sorted; None where there is no folder."""

    path: str


class Glob(Record):
    """Question: the paths that match a shell pattern, sorted."""

    pattern: str


class RealPath(Record):
    """Question: a path with all its links followed."""

    path: str


class System(Record):
    """Question: what only system calls tell, as `remote.system.describe` says."""


class Connect(Record):
    """Question: whether a port takes a connection."""

    host: str
    port: int
    seconds: float


class Access(Record):
    """Question: what the user may do with what is at a path; letters of `rwx`."""

    path: str


class Account(Record):
    """Question: an entry of passwd, group or shadow, by name or number; a dictionary or None.

    An empty name is whoever the executor runs as.
    """

    database: str
    name: str


class Ask(Record):
    """Question: what a program says that changes nothing; `Completed`, code 127 if there is none.

    Attributes:
        topic: What it is about; in check mode an effect's `implies` may answer instead.
    """

    argv: Sequence[str]
    topic: str = ""
    environment: Dict[str, str] = {}  # noqa: RUF012 — never changed
    timeout_seconds: float = 60.0


class Expand(Record):
    """Question: texts with `~` and environment variables expanded."""

    texts: Tuple[str, ...]


class WriteFile(Record):
    """Effect: a file has this content, mode and owner; written beside and renamed over links, too.

    Attributes:
        no_links: Its folder may not be a link.
    """

    path: str
    content: Union[bytes, Blob]
    mode: int
    uid: int
    gid: int
    no_links: bool = False


class MakeFolder(Record):
    """Effect: a folder is made; its parent exists."""

    path: str
    mode: int
    uid: int
    gid: int


class SetAttributes(Record):
    """Effect: mode and owner of what exists; None: stays."""

    path: str
    mode: Optional[int]
    uid: Optional[int]
    gid: Optional[int]
    follow: bool = True


class MakeLink(Record):
    """Effect: a link, symbolic or hard, takes the place of what is no folder."""

    path: str
    target: str
    hard: bool = False


class Touch(Record):
    """Effect: times of a file in seconds, None for now; it is made empty where there is none."""

    path: str
    accessed: Optional[float]
    modified: Optional[float]
    mode: int = 0o644


class CopyFile(Record):
    """Effect: a copy of a file with its mode, owner and times, as backups are."""

    source: str
    path: str


class Remove(Record):
    """Effect: nothing is at a path; folders go with all they hold, links are not followed."""

    path: str


class Execute(Record):
    """Effect: a program is run; `Completed`. In check mode it is taken to succeed silently.

    Attributes:
        folder: Where it runs; None: the user's home.
        implies: What `Ask` and `Account` would say after it, by topic.
        amounts_to: Effects (folders, files written or removed) that leave the same at their paths.
    """

    argv: Sequence[str]
    stdin: bytes = b""
    folder: Optional[str] = None
    environment: Dict[str, str] = {}  # noqa: RUF012 — never changed
    timeout_seconds: float = 86400.0
    umask: Optional[int] = None
    implies: Tuple[Tuple[str, Any], ...] = ()
    amounts_to: Tuple[Any, ...] = ()


class Try(Record):
    """Question: what a program says of a content, put into a file that is gone after it.

    Attributes:
        command: Words, of which `%s` becomes the file's path; `Completed`.
    """

    content: Union[bytes, Blob]
    command: Tuple[str, ...]


class Pause(Record):
    """Question: wait so long; the clock's seconds after it."""

    seconds: float


class Request(Record):
    """Question: what a server answers; `Response`.

    Attributes:
        headers: Pairs, as they are sent.
        follow: Which redirects are followed: all, safe (of GET and HEAD) or none.
        verify: Whether the server's certificate has to be right.
        ca_path, client_cert, client_key: Files in PEM.
        proxies: Whether `http_proxy` and the like count.
        login: User and password for Basic; sent at once, or only when asked for.
        folder: Where large content is put until it is written; None: the system's folder.
    """

    url: str
    method: str = "GET"
    headers: Tuple[Tuple[str, str], ...] = ()
    body: Optional[bytes] = None
    timeout_seconds: float = 30.0
    follow: str = "safe"
    verify: bool = True
    ca_path: Optional[str] = None
    client_cert: Optional[str] = None
    client_key: Optional[str] = None
    proxies: bool = True
    login: Optional[Tuple[str, str]] = None
    login_at_once: bool = False
    folder: Optional[str] = None


class Response(Record):
    """What a server said; status -1: there was no answer, `reason` says why.

    Attributes:
        url: The last one, after redirects.
        headers: In order; names as they came.
        content: Can be written, and read while the task runs; it is in no file of its own.
    """

    status: int
    reason: str
    url: str = ""
    headers: Tuple[Tuple[str, str], ...] = ()
    content: Optional[Blob] = None
    md5: str = ""


class Load(Record):
    """Question: the bytes of a content that came with the task, or with a `Response`."""

    blob: Blob


class Digest(Record):
    """Question: another digest of a content, hex."""

    blob: Blob
    algorithm: str


class Member(Record):
    """What an archive holds at a name.

    Attributes:
        name: Below the archive's root, without `..`; folders without a slash at the end.
        kind: file, directory, link, or hard (a second name of the member `target`).
        uid, gid: Numbers on this host, of the names in the archive where they are known; -1 for who
            unpacks.
    """

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    modified: int
    target: str


class Members(Record):
    """Question: what an archive holds; pairs of a `Member` and what is at its place (`Found`).

    Attributes:
        source: A path on the host, or a content.
        folder: Links below it are not followed.
    """

    source: Union[str, Blob]
    folder: str


class Unpack(Record):
    """Effect: members of an archive are in a folder, with mode, owner, time; never outside it."""

    source: Union[str, Blob]
    path: str
    members: Tuple[Member, ...]


class ReadPart(Record):
    """Question: so many bytes of a file from an offset on, fewer at its end."""

    path: str
    offset: int
    length: int


Effects = (
    WriteFile, MakeFolder, SetAttributes, MakeLink, Touch, CopyFile, Remove, Execute, Unpack,
)  # fmt: skip
Plan = Generator[Any, Any, Dict[str, Any]]
Steps = Generator[Any, Any, Any]  # a part of a plan, with whatever it returns


class Task(Record):
    """What a module is asked to do.

    Attributes:
        args: All its arguments by name, checked and typed; those not given have their defaults.
        check: Effects will not be done. For modules whose result says so, as Ansible's do.
    """

    args: Dict[str, Any]
    check: bool = False

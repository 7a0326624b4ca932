"""What nats-server reads and writes: `STATE_DIR/hub/server`, all of the state that its unit sees.

Invariant: in `data` nats-server's user does as it likes; everything else is the agent's, for it to
read. The agent, which may be root, follows no link in `data`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

import msgspec

from sappers.durable import sync_folder, write_durably
from sappers.errors import FIT_OUT_AGAIN, HubError
from sappers.ports import UnitSpec
from sappers.security.tls import Identity

LOG_FILE = "nats-server.log"
STORE = "jetstream"  # as nats-server calls it
ALONE = "alone"  # the store of a server that is the only one

_MEMORY_MAX_MIB = 512


class ServerFolder:
    """The files of one member's nats-server.

    Args:
        hub: `STATE_DIR/hub`, the agent's own.
        identity: This member's; the server shows its certificate.
        user_id: Whom the server runs as, or None for whoever runs the agent. It takes a unit that
            shows the server nothing else of STATE_DIR, for that is closed to other users.
    """

    def __init__(self, hub: Path, identity: Identity, user_id: int | None = None) -> None:
        self.hub = hub
        self.path = hub / "server"
        self.data = self.path / "data"
        self._identity = identity
        self._user_id = user_id

    @property
    def log_file(self) -> Path:
        """What the server logs."""
        return self.data / LOG_FILE

    @property
    def store(self) -> Path:
        """Durable messages of a server that is one of several."""
        return self.data / STORE

    @property
    def alone(self) -> Path:
        """The same of a server that is the only one."""
        return self.data / ALONE

    @property
    def identity(self) -> Identity:
        """This member's, in files that the server can read."""
        if self._user_id is None:
            return self._identity
        ca, cert, key = (self.path / name for name in ("ca.pem", "cert.pem", "key.pem"))
        return msgspec.structs.replace(self._identity, ca=ca, cert=cert, key=key)

    def is_of_before(self) -> bool:
        """Whether a server of an earlier version, which wrote to `STATE_DIR/hub`, may run here."""
        return (self.hub / LOG_FILE).exists()

    def write(self, name: str, settings: bytes) -> Path:
        """Leave settings, and the certificate as it is now, for the server to read.

        Raises:
            HubError: A file cannot be read or written.
        """
        shown = self.identity
        try:
            self._make_folder(self.path)
            if shown != self._identity:
                for ours, theirs in (
                    (self._identity.ca, shown.ca),
                    (self._identity.cert, shown.cert),
                    (self._identity.key, shown.key),
                ):
                    self._write(theirs, read(ours))
            self._write(self.path / name, settings)
        except OSError as error:
            raise HubError(f"{self.path}: {error.strerror}") from error
        return self.path / name

    def hand_over(self) -> None:
        """Have the server's user own `data`, with all that servers before it have kept.

        The server does not run meanwhile.

        Raises:
            HubError: The folder cannot be written to.
        """
        try:
            self._make_folder(self.path)
            self.data.mkdir(mode=0o700, exist_ok=True)
            self._take_over()
            self._give()
        except OSError as error:
            raise HubError(f"{self.data}: {error.strerror}") from error

    def put_store_aside(self) -> None:
        """Others have all that is in it; whoever comes back begins with an empty one."""
        self.hand_over()
        if self.store.exists():
            self._put_aside()

    def keep_alone(self) -> None:
        """Whoever is left alone of several has what they had together: nobody else can say more.

        The server takes up what is in its streams as they are made again. Those of several it
        does not know, and it would refuse them by what their files say of them.
        What it kept before as an only one, and others have not got yet, stays as it is instead.
        The server does not run meanwhile.

        Raises:
            HubError: The folder cannot be written to.
        """
        try:
            if not self.store.exists():
                return
            if (self.alone / STORE).exists():
                self._put_aside()
                return
            for description in self.store.glob("*/streams/*/meta.*"):
                description.unlink()
            self.alone.mkdir(mode=0o700, exist_ok=True)
            self.store.rename(self.alone / STORE)
            sync_folder(self.alone)
            sync_folder(self.data)
        except OSError as error:
            raise HubError(f"{self.data}: {error.strerror}") from error

    def unit(self, name: str, program: Path, settings: Path, description: str) -> UnitSpec:
        """A server with these settings, kept apart from the agent and from what is not its own."""
        return UnitSpec(
            name=name,
            command=(str(program), "-c", str(settings)),
            working_directory=str(self.path),
            memory_max_mib=_MEMORY_MAX_MIB,
            description=description,
            user_id=self._user_id,
            writes=str(self.data),
            alone_in="" if self._user_id is None else str(self.hub.parent),
        )

    def _make_folder(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        if self._user_id is not None:
            os.chown(path, -1, self._user_id)
            path.chmod(0o750)

    def _write(self, path: Path, content: bytes) -> None:
        mode = 0o600 if self._user_id is None else 0o640
        write_durably(path, content, mode=mode, group_id=self._user_id)

    def _put_aside(self) -> None:
        aside = self.data / f"{STORE}-left"
        shutil.rmtree(aside, ignore_errors=True)
        self.store.rename(aside)

    def _take_over(self) -> None:
        """What a server of an earlier version kept; its log goes last."""
        for name in (STORE, ALONE):
            old, new = self.hub / name, self.data / name
            if old.exists():
                shutil.rmtree(new, ignore_errors=True)  # of before an older version came back
                old.rename(new)
                sync_folder(self.data)
        shutil.rmtree(self.hub / f"{STORE}-left", ignore_errors=True)
        for old in (*self.hub.glob("*.conf"), *self.hub.glob("*.log*")):
            old.unlink()

    def _give(self) -> None:
        owner = self._user_id
        if owner is None:
            return
        for _, folders, files, at in os.fwalk(self.data):
            for name in (*folders, *files):
                with contextlib.suppress(FileNotFoundError):  # a lone server's, served once more
                    os.chown(name, owner, owner, dir_fd=at, follow_symlinks=False)
        os.chown(self.data, owner, owner)


def open_log(path: Path) -> BinaryIO:
    """A log of the server, which may put whatever it likes in its place.

    Raises:
        OSError: There is none; a link is not followed, and nothing but a file is opened.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(descriptor, "rb")


def read(path: Path) -> bytes:
    """What a file of the agent's own says.

    Raises:
        HubError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise HubError(f"{path}: {error.strerror}", hint=FIT_OUT_AGAIN) from error

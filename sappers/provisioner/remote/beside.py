"""Files that are made beside their places, under names that nobody else has, until they are whole.

Two runs that know one machine by two names may write one file at once: each puts a whole one there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from sappers.provisioner.remote import digests

NAME_BYTES_MAX = 200  # of a name; the whole has to be one, too


@contextlib.contextmanager
def put_in_place(name: str, folder: int) -> Iterator[int]:
    """A descriptor of a new file, which is put in its place at the end; after an error, away."""
    new = Beside(name, folder)
    try:
        yield new.descriptor
        new.put(name)
    except BaseException:
        new.remove()
        raise
    finally:
        new.close()


def name_beside(name: str, mark: str = "") -> str:
    """What is made of a file is called so until it is whole.

    Without a mark one fixed name for each, so that what a killed run left is found by the next.
    """
    raw = os.fsencode(name)
    if len(raw) > NAME_BYTES_MAX:
        raw = raw[: NAME_BYTES_MAX - 33] + b"." + digests.hex_of("md5", raw).encode()
    return os.fsdecode(b"." + raw + b".sappers-new" + mark.encode())


def mark() -> str:
    """What nobody else adds to a name."""
    return "-" + os.urandom(6).hex()


class Beside:
    """A new file beside its place: `descriptor` to fill, and its `name` until it is put there.

    Whoever makes one holds a lock on it, and with it the right to its name. What a killed run left
    has no lock any more and is taken away. One that somebody else makes right now, who knows the
    same machine by another name, is left alone: then this one gets a name that nobody else has.
    """

    def __init__(self, name: str, folder: int) -> None:
        self._folder = folder
        self.name = name_beside(name)
        self.descriptor = -1
        if not _is_made_by_another(self.name, folder):
            with contextlib.suppress(FileExistsError):
                self._make()
        if self.descriptor < 0:
            self.name = name_beside(name, mark())
            self._make()

    def _make(self) -> None:
        """Make it, for nobody else to read. Raises FileExistsError when another was quicker."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.name, flags, 0o600, dir_fd=self._folder)
        if try_lock(descriptor) is False or not os.fstat(descriptor).st_nlink:
            os.close(descriptor)  # somebody has just taken it for one that was left
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.name)
        self.descriptor = descriptor

    def put(self, name: str) -> None:
        """Rename it over what is there."""
        os.rename(self.name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def remove(self) -> None:
        """Take it away: it is not whole."""
        with contextlib.suppress(OSError):
            os.unlink(self.name, dir_fd=self._folder)

    def close(self) -> None:
        """Give the lock up."""
        os.close(self.descriptor)


def _is_made_by_another(name: str, folder: int) -> bool:
    """Whether somebody makes a file of this name right now; one that was left is taken away."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.EACCES:
            return True  # another user's
        return not _taken_away(name, folder)  # a link, or what cannot be opened: none of ours
    try:
        if try_lock(descriptor) is False:
            return True
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        same = os.path.samestat(there, os.fstat(descriptor))  # else it was put in place just now
        return not (same and _taken_away(name, folder))
    except FileNotFoundError:
        return False
    finally:
        os.close(descriptor)


def _taken_away(name: str, folder: int) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return False  # a folder, or another user's: whoever made it, the name is not to be had
    return True


def try_lock(descriptor: int) -> bool | None:
    """Whether a lock was got; None where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def create(name: str, folder: int) -> int:
    """A descriptor of a new file for nobody else, in place of what was there; links too."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=folder)

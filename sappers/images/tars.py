"""Tar archives of others, read so that none takes the memory or the time of whoever reads it."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from sappers.errors import ImageError

DAMAGED = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError),
    RecursionError,
)
"""What reading an archive raises that is damaged, or made to break whoever reads it."""

MEMBERS_MAX = 1_000_000
"""Of a root's archives, all together."""

_FILES_MAX = 10_000  # in an archive that is kept open; an image's own has a few for each layer
_HEADER_BYTES_MAX = 1 << 20
_HEADERS_MAX = 8  # before one file: tar programs write four at most
_GLOBAL_FIELDS_MAX = 100
_EXTENDED_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


def stream_members(stream: BinaryIO) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an uncompressed tar, each to be read before the next one.

    Raises:
        ImageError: A header is larger than any true one.
        DAMAGED: It is damaged.
    """
    with _Archive.open(fileobj=stream, mode="r|", encoding="utf-8") as archive:
        while (member := archive.next()) is not None:
            yield archive, member
            archive.members.clear()


def open_tar(path: Path) -> tarfile.TarFile:
    """A tar to read any file of, compressed or not.

    Raises:
        ImageError: A header is larger than any true one.
        tarfile.ReadError: It is no tar.
    """
    return _Archive.open(path, encoding="utf-8")


def named_members(archive: tarfile.TarFile, name: str) -> dict[str, tarfile.TarInfo]:
    """The members of an open tar by name, `./` taken off.

    Raises:
        ImageError: There are more than an image has files; or as `stream_members`.
        DAMAGED: It is damaged.
    """
    found: dict[str, tarfile.TarInfo] = {}
    for number, member in enumerate(archive):
        if number >= _FILES_MAX:
            raise ImageError(f"{name} is no container image: it has more than {_FILES_MAX:,} files")
        found[member.name.removeprefix("./")] = member
    return found


class _Header(tarfile.TarInfo):
    """A header of an archive; tarfile reads those that only add to the next one whole."""

    def _proc_member(self, archive: _Archive) -> tarfile.TarInfo:
        """As tarfile calls it, within itself for each header that only adds to the next one.

        Of all of tarfile's methods this is the one that it means to be overridden; which others
        it reads a header with depends on Python's patch release.

        Raises:
            ImageError: There are more headers, or larger ones, than any file needs, or it has
                holes.
        """
        if self.type in _EXTENDED_HEADERS and self.size > _HEADER_BYTES_MAX:
            raise ImageError(f"an archive has a header of {self.size} bytes, which no file needs")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _with_holes()
        archive.within += 1
        try:
            if archive.within > _HEADERS_MAX or len(archive.pax_headers) > _GLOBAL_FIELDS_MAX:
                raise ImageError("an archive has more headers than any file needs")
            member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
            return member
        finally:
            archive.within -= 1

    def _refuse_holes(self, *_: object) -> NoReturn:
        raise _with_holes()

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_holes


class _Archive(tarfile.TarFile):
    members: list[tarfile.TarInfo]  # tarfile's own, which it never empties
    tarinfo = _Header
    within = 0  # how many headers are being read in one another


def _with_holes() -> ImageError:
    # Where they are is a list without end; no tool that makes container images writes one.
    return ImageError(
        "an archive has a file that is stored with holes (sparse), which is not read",
        hint="make the archive without --sparse",
    )

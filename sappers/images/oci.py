"""Container images as other tools leave them: OCI layouts, `docker save`'s tar, `skopeo`'s `dir:`.

Nothing of one is believed: each blob must have the digest it is named by, each layer's content the
one that the image's configuration lists, and names stay inside (`images.tree`).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import msgspec
import zstandard

from sappers.errors import ImageError
from sappers.images.tars import DAMAGED, named_members, open_tar
from sappers.images.tree import Tree
from sappers.model.known_types import UNREADABLE

_DOCUMENT_BYTES_MAX = 4 << 20
_PLATFORM = ("linux", "amd64")
_PORT_MAX = 65535
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class ContainerProcess(msgspec.Struct, frozen=True, rename="pascal"):
    """What a container image says about the process to run."""

    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    user: str | None = None
    working_dir: str | None = None
    exposed_ports: dict[str, Any] | None = None

    @property
    def tcp_ports(self) -> tuple[int, ...]:
        """The ports it exposes, smallest first."""
        found = (re.fullmatch(r"(\d{1,5})(/tcp)?", port) for port in self.exposed_ports or ())
        numbers = (int(port[1]) for port in found if port)
        return tuple(sorted(number for number in numbers if 0 < number <= _PORT_MAX))


class _RootFiles(msgspec.Struct, frozen=True):
    diff_ids: list[str]


class _Configuration(msgspec.Struct, frozen=True):
    rootfs: _RootFiles
    architecture: str = ""
    os: str = ""
    config: ContainerProcess | None = None


class _Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    media_type: str = ""
    platform: _Platform | None = None


class _Index(msgspec.Struct, frozen=True):
    manifests: list[_Descriptor]


class _Manifest(msgspec.Struct, frozen=True):
    config: _Descriptor
    layers: list[_Descriptor]


class _Saved(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    layers: list[str]


class _Layer(msgspec.Struct, frozen=True):
    """One layer: where it lies, the digest of that file if known, and of its content."""

    file: str
    digest: str | None
    content_digest: str


class _Files(Protocol):
    """The files of an image, in a folder or a tar."""

    def open(self, name: str) -> BinaryIO | None:
        """A file to read, or None when it is not there."""


class _FolderFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> BinaryIO | None:
        try:
            path = (self._folder / name).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # no such file, nor can there be one
            return None
        if not path.is_relative_to(self._folder.resolve()) or not path.is_file():
            return None
        return path.open("rb")


class _TarFiles:
    def __init__(self, archive: tarfile.TarFile, name: str) -> None:
        self._archive = archive
        self._members = named_members(archive, name)

    def open(self, name: str) -> BinaryIO | None:
        member = self._members.get(name)
        if member is None:
            return None
        try:
            found = self._archive.extractfile(member)  # follows links inside the archive
        except (KeyError, RecursionError):  # links to nothing, or to themselves
            return None
        return cast("BinaryIO | None", found)


class ContainerImage:
    """One image: what to run, and its layers.

    Attributes:
        process: What its configuration says about the process.
        inputs: Digests that determine its content.
    """

    def __init__(self, name: str, files: _Files) -> None:
        self.name = name
        self._files = files
        self._blobs = "blobs/sha256/"
        configuration_text, self._layers = self._find()
        configuration = self._decode(configuration_text, _Configuration, "its configuration")
        if (configuration.os or "linux", configuration.architecture or "amd64") != _PLATFORM:
            raise ImageError(
                f"{name} is for {configuration.os}/{configuration.architecture}, not linux/amd64"
            )
        diff_ids = configuration.rootfs.diff_ids
        if len(diff_ids) != len(self._layers) or not all(map(_DIGEST.fullmatch, diff_ids)):
            raise ImageError(f"{name}: its configuration does not list its layers")
        self._layers = [
            _Layer(layer.file, layer.digest, diff_id)
            for layer, diff_id in zip(self._layers, diff_ids, strict=True)
        ]
        self.process = configuration.config or ContainerProcess()
        self.inputs = (hashlib.sha256(configuration_text).hexdigest(), *diff_ids)

    def unpack(self, tree: Tree) -> Iterator[str]:
        """Lay all layers over `tree`; says which comes next.

        Raises:
            ImageError: One is missing, damaged, not what its digest says, or leads outside.
        """
        for number, layer in enumerate(self._layers, start=1):
            yield f"unpacking layer {number} of {len(self._layers)}"
            file = self._files.open(layer.file)
            if file is None:
                raise ImageError(f"{self.name}: layer {layer.file} is missing")
            with file:
                self._apply(layer, file, tree)

    def _apply(self, layer: _Layer, file: BinaryIO, tree: Tree) -> None:
        packed = _Hashing(file)
        with _reading(f"{self.name}: layer {layer.file}"):
            content = _Hashing(_decompressed(packed))
            tree.add_tar(cast("BinaryIO", content))
            content.drain()
            packed.drain()
        if layer.digest not in (None, packed.digest) or layer.content_digest != content.digest:
            raise ImageError(f"{self.name}: layer {layer.file} is not what its digest says")

    def _find(self) -> tuple[bytes, list[_Layer]]:
        if (text := self._read("index.json")) is not None:
            return self._from_index(self._decode(text, _Index, "index.json"))
        if (text := self._read("manifest.json")) is not None:
            if text.lstrip().startswith(b"{"):  # `skopeo copy … dir:`: all of it lies in one folder
                self._blobs = ""
                return self._from_manifest(self._decode(text, _Manifest, "manifest.json"))
            return self._from_docker(self._decode(text, list[_Saved], "manifest.json"))
        raise ImageError(
            f"{self.name} is no container image: neither index.json nor manifest.json is in it",
            hint="`skopeo copy … oci:FOLDER` and `docker save -o FILE …` write what is understood",
        )

    def _from_index(self, index: _Index) -> tuple[bytes, list[_Layer]]:
        descriptor = self._choose(index)
        text = self._blob(descriptor.digest)
        if descriptor.media_type in _INDEX_TYPES or b'"manifests"' in text[:4096]:
            with contextlib.suppress(msgspec.DecodeError, RecursionError):
                return self._from_index(msgspec.json.decode(text, type=_Index))
        return self._from_manifest(self._decode(text, _Manifest, "its manifest"))

    def _from_manifest(self, manifest: _Manifest) -> tuple[bytes, list[_Layer]]:
        layers = [_Layer(self._place(one.digest), one.digest, "") for one in manifest.layers]
        return self._blob(manifest.config.digest), layers

    def _choose(self, index: _Index) -> _Descriptor:
        fitting = [
            each
            for each in index.manifests
            if each.platform is None or (each.platform.os, each.platform.architecture) == _PLATFORM
        ]
        if len({each.digest for each in fitting}) == 1:
            return fitting[0]
        if fitting:
            raise ImageError(
                f"{self.name} holds {len(fitting)} images for linux/amd64",
                hint="put one image into it",
            )
        platforms = {
            f"{each.platform.os}/{each.platform.architecture}"
            for each in index.manifests
            if each.platform
        }
        found = ", ".join(sorted(platforms)) or "none"
        raise ImageError(f"{self.name} has no image for linux/amd64; found {found}")

    def _from_docker(self, saved: list[_Saved]) -> tuple[bytes, list[_Layer]]:
        if len(saved) != 1:
            raise ImageError(f"{self.name} holds {len(saved)} images", hint="put one image into it")
        text = self._read(saved[0].config)
        if text is None:
            raise ImageError(f"{self.name}: {saved[0].config} is missing")
        named = re.search(r"([0-9a-f]{64})(\.json)?$", saved[0].config)
        if named and hashlib.sha256(text).hexdigest() != named[1]:
            raise ImageError(f"{self.name}: {saved[0].config} is not what its digest says")
        return text, [_Layer(file, None, "") for file in saved[0].layers]

    def _place(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise ImageError(f"{digest!r} is no SHA-256 digest")
        return self._blobs + digest.removeprefix("sha256:")

    def _blob(self, digest: str) -> bytes:
        text = self._read(self._place(digest))
        if text is None:
            raise ImageError(f"{self.name}: blob {digest} is missing")
        if f"sha256:{hashlib.sha256(text).hexdigest()}" != digest:
            raise ImageError(f"{self.name}: blob {digest} is not what its digest says")
        return text

    def _read(self, name: str) -> bytes | None:
        file = self._files.open(name)
        if file is None:
            return None
        with file, _reading(f"{self.name}: {name}"):
            text = file.read(_DOCUMENT_BYTES_MAX + 1)
        if len(text) > _DOCUMENT_BYTES_MAX:
            raise ImageError(f"{self.name}: {name} is too large to be what it should be")
        return text

    def _decode(self, text: bytes, kind: Any, what: str) -> Any:
        try:
            return msgspec.json.decode(text, type=kind)
        except UNREADABLE as error:
            raise ImageError(f"{self.name}: {what} cannot be read: {error}") from error


@contextlib.contextmanager
def open_container(path: Path) -> Iterator[ContainerImage]:
    """The image in a folder or a tar, which may be compressed with gzip.

    Raises:
        ImageError: It is none, is for another machine, or is damaged.
    """
    if path.is_dir():
        yield ContainerImage(path.name, _FolderFiles(path))
        return
    try:
        archive = open_tar(path)
    except tarfile.ReadError as error:  # lists what each kind of compression says
        raise ImageError(f"{path.name} is neither a folder nor a tar, or is damaged") from error
    with archive:
        with _reading(path.name):
            files = _TarFiles(archive, path.name)
        yield ContainerImage(path.name, files)


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """A block that reads what others wrote; damage in it is an `ImageError`."""
    try:
        yield
    except (zstandard.ZstdError, OSError, *DAMAGED) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of this machine's disk
        raise ImageError(f"{what} is damaged: {error}") from error


def _decompressed(file: _Hashing) -> BinaryIO:
    """What is in a layer, by its first bytes."""
    start = file.peek(4)
    stream = cast("BinaryIO", file)
    if start.startswith(_GZIP):
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream))
    if start.startswith(_ZSTD):
        unpacker = zstandard.ZstdDecompressor()
        return cast("BinaryIO", unpacker.stream_reader(stream, read_across_frames=True))
    return stream


class _Hashing(io.RawIOBase):
    """Reads another stream and knows the digest of all that was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be read."""
        self._ahead = self._ahead or self._stream.read(size)
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        if self._ahead:
            cut = len(self._ahead) if size < 0 else size
            block, self._ahead = self._ahead[:cut], self._ahead[cut:]
            if size < 0:
                block += self._stream.read()
        else:
            block = self._stream.read(size)
        self._hash.update(block)
        return block

    def readable(self) -> bool:
        """Yes."""
        return True

    def drain(self) -> None:
        """Read what is left."""
        while self.read(1 << 20):
            pass

    @property
    def digest(self) -> str:
        """`sha256:…` of what was read."""
        return f"sha256:{self._hash.hexdigest()}"

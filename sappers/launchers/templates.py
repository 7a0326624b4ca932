"""Templates: machines saved as they wait to be told who they are. Guests are cloned from them.

    STATE_DIR/templates/<key>/    memory, device, template.json; never changed, only removed

Invariant: no guest can change what another one starts from. QEMU opens its memory for writing, even
where it maps it privately, so a clone is given a copy in memory that the kernel has sealed; files
are only where that copy comes from. What is read from them must have the digest it was saved with.
Removing a template is safe at any time: the guests that were cloned keep the sealed copy alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from sappers.durable import LACKING
from sappers.errors import TemplateError
from sappers.model.known_types import UNREADABLE

FORMAT = 1  # raise it when templates of before must not be used
_MEMORY, _DEVICE, _RECORD = "memory", "device", "template.json"
_PART_BYTES, _BLOCK_BYTES = 1 << 20, 1 << 16
_NOTHING = bytes(_BLOCK_BYTES)
_F_ADD_SEALS, _SEALS = 1033, 0xF  # against further seals, shrinking, growing, writing
KEPT_SECONDS = 600.0  # in memory, after the last guest that came from it, as a spare of it is


class Template(msgspec.Struct, frozen=True):
    """What is known of a template, beside its bytes.

    Attributes:
        key: Says all that must be alike for it to be used.
        image: The image's digest.
        memory_digest: Of the memory's blocks that are not empty, with their offsets.
        device_digest: SHA-256 of the rest of the machine's state.
    """

    key: str
    image: str
    memory_mib: int
    memory_digest: str
    device_digest: str


class Held:
    """A template in memory, sealed.

    Attributes:
        memory: Descriptor of the guest's memory; open as long as this object is.
        device: The rest of the machine's state.
        used_at: Monotonic seconds.
    """

    def __init__(self, template: Template, memory: int, device: bytes) -> None:
        self.template = template
        self.memory = memory
        self.device = device
        self.used_at = 0.0
        self._places: dict[bytes, tuple[int, ...]] = {}

    def places(self, content: bytes) -> tuple[int, ...]:
        """Where in the memory this stands; looked for once, which takes a while."""
        if content not in self._places:
            self._places[content] = tuple(_places(self.memory, content))
        return self._places[content]

    @contextlib.contextmanager
    def device_file(self) -> Iterator[int]:
        """A descriptor to read the machine's state from."""
        file = os.memfd_create("sappers-device", os.MFD_CLOEXEC)
        try:
            os.write(file, self.device)
            os.lseek(file, 0, os.SEEK_SET)
            yield file
        finally:
            os.close(file)

    def __del__(self) -> None:
        os.close(self.memory)


class TemplateFolder:
    """The templates of this host. For threads: all but `has` may take a while."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._held: dict[str, Held] = {}

    def has(self, key: str) -> bool:
        """Whether there is one; whether it is any good shows when it is used."""
        return key in self._held or (self._root / key / _RECORD).exists()

    def is_held(self, held: Held) -> bool:
        """Whether it is what guests start from now."""
        return self._held.get(held.template.key) is held

    def hold(self, key: str, now: float) -> Held:
        """The template, verified, in memory.

        Raises:
            TemplateError: It is damaged, and removed, or nothing can be opened or held now.
        """
        with self._lock:
            if key not in self._held:
                try:
                    self._held[key] = self._read(key)
                except (OSError, msgspec.DecodeError, ValueError) as error:
                    if isinstance(error, OSError) and error.errno in LACKING:
                        raise TemplateError(f"no template can be held: {error.strerror}") from error
                    self.discard(key)
                    raise TemplateError(f"the template was damaged: {error}") from error
            self._held[key].used_at = now
            return self._held[key]

    def add(self, key: str, image: str, memory: int, device: bytes, now: float) -> None:
        """Keep a machine's state as a template; `memory` is sealed and held.

        Raises:
            OSError: The disk is full; nothing is left.
        """
        fcntl.fcntl(memory, _F_ADD_SEALS, _SEALS)
        size = os.fstat(memory).st_size
        beside = self._root / f".new-{key}"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(mode=0o700, parents=True)
        try:
            with (beside / _MEMORY).open("wb", buffering=0) as file:
                file.truncate(size)
                memory_digest = copy_blocks(memory, file.fileno())
            (beside / _DEVICE).write_bytes(device)
            device_digest = hashlib.sha256(device).hexdigest()
            template = Template(key, image, size >> 20, memory_digest, device_digest)
            (beside / _RECORD).write_bytes(msgspec.json.encode(template))
            with self._lock:
                self.discard(key)
                beside.rename(self._root / key)
                self._held[key] = Held(template, os.dup(memory), device)
                self._held[key].used_at = now
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def discard(self, key: str) -> None:
        """Use it no more; what was cloned from it is untouched."""
        with self._lock:
            self._held.pop(key, None)
            shutil.rmtree(self._root / key, ignore_errors=True)

    def release(self, in_use: Collection[str], now: float) -> None:
        """Give back the memory of templates that no guest runs from and none did lately."""
        with self._lock:
            for key, held in list(self._held.items()):
                if key in in_use:
                    held.used_at = now
                elif now - held.used_at > KEPT_SECONDS:
                    del self._held[key]

    def sweep(self, is_wanted: Callable[[Template], bool]) -> tuple[str, ...]:
        """Remove what is not wanted, or no template at all; the keys of what was removed."""
        removed = []
        for folder in sorted(self._root.glob("[!.]*")):
            template = self._record(folder)
            if template is None or template.key != folder.name or not is_wanted(template):
                self.discard(folder.name)
                removed.append(folder.name)
        return tuple(removed)

    def clear_unfinished(self) -> None:
        """Remove what was being added when an agent died; while nothing is being added."""
        for folder in self._root.glob(".new-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _record(self, folder: Path) -> Template | None:
        try:
            return msgspec.json.decode((folder / _RECORD).read_bytes(), type=Template)
        except (OSError, *UNREADABLE):
            return None

    def _read(self, key: str) -> Held:
        folder = self._root / key
        template = msgspec.json.decode((folder / _RECORD).read_bytes(), type=Template)
        device = (folder / _DEVICE).read_bytes()
        if template.key != key or hashlib.sha256(device).hexdigest() != template.device_digest:
            raise ValueError("the machine's state does not match its digest")
        memory = new_memory(template.memory_mib)
        try:
            with (folder / _MEMORY).open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != template.memory_mib << 20:
                    raise ValueError("the memory has another size")
                if copy_blocks(file.fileno(), memory) != template.memory_digest:
                    raise ValueError("the memory does not match its digest")
            fcntl.fcntl(memory, _F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(memory)
            raise
        return Held(template, memory, device)


def new_memory(memory_mib: int) -> int:
    """A descriptor of empty memory that another user's QEMU can open through `/proc`."""
    memory = os.memfd_create("sappers-template", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(memory, 0o666)
    os.ftruncate(memory, memory_mib << 20)
    return memory


def _places(file: int, content: bytes) -> Iterator[int]:
    """Where a file has this, holes left out: reading them by way of a mapping would fill them."""
    size, position = os.fstat(file).st_size, 0
    while position < size:
        try:
            start = os.lseek(file, position, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            return
        position = os.lseek(file, start, os.SEEK_HOLE)
        for part in range(start, position, _PART_BYTES):
            wanted = min(_PART_BYTES + len(content) - 1, position - part)
            found, data = -1, os.pread(file, wanted, part)
            while (found := data.find(content, found + 1)) >= 0:
                yield part + found


def copy_blocks(source: int, target: int) -> str:
    """Copy what is not empty to the same place; a digest of it, wherever the holes are."""
    found, size, position = hashlib.sha256(), os.fstat(source).st_size, 0
    found.update(b"%d" % size)
    while position < size:
        try:
            data_at = os.lseek(source, position, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            break
        end = os.lseek(source, data_at, os.SEEK_HOLE)
        start = max(position, data_at // _BLOCK_BYTES * _BLOCK_BYTES)
        position = min(size, -(-end // _BLOCK_BYTES) * _BLOCK_BYTES)
        for part in range(start, position, _PART_BYTES):
            data = os.pread(source, min(_PART_BYTES, position - part), part)
            for offset in range(0, len(data), _BLOCK_BYTES):
                block = data[offset : offset + _BLOCK_BYTES]
                if block != _NOTHING[: len(block)]:
                    found.update(b":%d:" % (part + offset) + block)
                    os.pwrite(target, block, part + offset)
    return found.hexdigest()

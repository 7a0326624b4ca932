"""A guest's root as a disk: one erofs for each layer, each in a partition of its own.

mkfs.erofs takes owners and device files from the file system it reads. Builders need not be root,
so it runs under fakeroot, whose table of lies is written here instead of recorded.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sappers.errors import ImageError
from sappers.images.archive import Entry
from sappers.images.layers import ALIGNMENT_BYTES

LAYERS_MAX = 120  # of the 128 partitions that a partition table holds
_SECTOR_BYTES = 512
_NAMESPACE = uuid.UUID("6f0f2f6e-8c5c-4f0e-9d6b-5e3f0d9d1c55")
_LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


def write_root_disk(
    layers: Sequence[Sequence[Entry]], disk: Path, work: Path, report: Callable[[str], None]
) -> None:
    """Write a disk whose partitions are the layers, in order.

    Args:
        layers: At most `LAYERS_MAX`; folders before what is in them.
        disk: The file to write.
        work: An existing folder for scratch.
        report: Told how far it is.

    Raises:
        ImageError: A tool fails or is not here.
    """
    targets = [work / f"{number}.erofs" for number in range(1, len(layers) + 1)]
    stages = [target.with_suffix("") for target in targets]
    partitions: list[tuple[int, int]] = []
    with disk.open("wb") as file, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        file.seek(ALIGNMENT_BYTES)
        packing = pool.map(_make_erofs, layers, targets, stages)
        for number, packed in enumerate(packing, start=1):
            report(f"packed layer {number} of {len(layers)}")
            start = file.tell()
            with packed.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
            packed.unlink()
            partitions.append((start, file.tell() - start))
            file.seek(-file.tell() % ALIGNMENT_BYTES, os.SEEK_CUR)
        file.truncate(file.tell() + ALIGNMENT_BYTES)  # the table's copy is at the end
    _write_table(disk, partitions)


def _make_erofs(layer: Sequence[Entry], target: Path, stage: Path) -> Path:
    stage.mkdir()
    table = _stage(layer, stage)
    lies = target.with_suffix(".owners")
    lies.write_text(table)
    try:
        _run(
            *("fakeroot", "-i", str(lies), "--", "mkfs.erofs", "--quiet"),
            *("-zlz4hc,9", "-C65536", "-x-1", "-T0", "-U", str(uuid.uuid5(_NAMESPACE, "layer"))),
            *(str(target), str(stage)),
        )
    finally:
        lies.unlink()
        shutil.rmtree(stage)
    return target


def _stage(layer: Sequence[Entry], stage: Path) -> str:
    """Put the files below `stage`; what fakeroot is to say of them."""
    names = Counter(entry.link for entry in layer)
    linked: dict[int, Path] = {}
    used: set[Path] = set()
    lines = [_lie(stage, Entry("", stat.S_IFDIR | 0o755), 2)]
    for entry in layer:
        path = stage / entry.path
        if entry.link and entry.link in linked:
            path.hardlink_to(linked[entry.link])
            continue
        _place(entry, path, used)
        if entry.link:
            linked[entry.link] = path
        lines.append(_lie(path, entry, names[entry.link] if entry.link else 1))
    return "".join(lines)


def _place(entry: Entry, path: Path, used: set[Path]) -> None:
    if stat.S_ISDIR(entry.mode):
        path.mkdir()
    elif stat.S_ISLNK(entry.mode):
        assert isinstance(entry.content, bytes)
        path.symlink_to(os.fsdecode(entry.content))
    elif isinstance(entry.content, bytes):
        path.write_bytes(entry.content if stat.S_ISREG(entry.mode) else b"")
    elif entry.content in used or not _same_file(entry.content, path):
        shutil.copyfile(entry.content, path)
    else:
        used.add(entry.content)


def _same_file(source: Path, path: Path) -> bool:
    """Whether `path` could be made another name of `source`."""
    try:
        path.hardlink_to(source)
    except OSError:
        return False
    return True


def _lie(path: Path, entry: Entry, links: int) -> str:
    real = path.lstat()
    owner = f"uid={entry.user_id},gid={entry.group_id}"
    device = os.makedev(*entry.device)
    return (
        f"dev={real.st_dev:x},ino={real.st_ino},mode={entry.mode:o},{owner},"
        f"nlink={links},rdev={device}\n"
    )


def _write_table(disk: Path, partitions: Sequence[tuple[int, int]]) -> None:
    lines = ["label: gpt", f"label-id: {uuid.uuid5(_NAMESPACE, 'disk')}", "unit: sectors"]
    for number, (start, size) in enumerate(partitions, start=1):
        sectors = -(-size // _SECTOR_BYTES)
        name = uuid.uuid5(_NAMESPACE, str(number))
        lines.append(
            f"start={start // _SECTOR_BYTES}, size={sectors}, type={_LINUX_DATA}, uuid={name}"
        )
    script = "\n".join(lines) + "\n"
    _run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(disk), text=script)


def _run(*command: str, text: str = "") -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command,
            input=text,
            env={"PATH": path, "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ImageError(f"{command[0]} is not here", hint="run `make setup`") from error
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip()[-500:]
        raise ImageError(f"{command[0]} fails: {tail}")

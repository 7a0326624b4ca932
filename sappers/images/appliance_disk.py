"""A root as a disk that boots on any PC, made without mounting anything.

Two partitions: a FAT one with kernel, initramfs and both boot loaders (syslinux for BIOS,
systemd-boot for UEFI), and the ext4 root. Files go in by mtools and `mke2fs -d`; see ADR 12.

Invariant: the same root, overlay and key make the same disk, byte for byte.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import msgspec

from sappers.errors import ImageError
from sappers.images.appliance_root import EPOCH_SECONDS
from sappers.images.definition_errors import named_at
from sappers.images.programs import plain_environment

_SECTOR = 512
_MIB = 1 << 20
_BOOT_MIB = 160  # two kernels with their initramfs: one is written beside the other
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_LINUX_ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"  # x86-64; systemd-repart lets it grow
_BOOT_CODE = ("/usr/lib/syslinux/mbr/gptmbr.bin", "/usr/lib/EXTLINUX/gptmbr.bin")
_BOOT_CODE_BYTES_MAX = 440
_EFI_LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_COMMAND_LINE = "root=UUID={root} ro console=tty0 console=ttyS0 quiet"
_SYSLINUX = "DEFAULT sappers\nLABEL sappers\n  LINUX /vmlinuz\n  INITRD /initrd\n  APPEND {line}\n"
_LOADER = "default sappers.conf\ntimeout 0\neditor no\n"
_ENTRY = "title Sappers\nlinux /vmlinuz\ninitrd /initrd\noptions {line}\n"
_FSTAB = """\
UUID={root} / ext4 errors=remount-ro,x-systemd.growfs 0 1
PARTUUID={boot} /efi vfat umask=0077,nofail 0 2
"""
_ROOT_INODE, _FIRST_INODE = 2, 11  # of ext4; those between are its own
# $1 tar, $2 overlay or nothing, $3 fstab, $4 tree, $5 time, $6 disk, $7 offset, $8 blocks, $9 UUID.
# The tree is made and read by one process tree: as somebody else than root, under one fakeroot.
_FILL = """\
set -eu
umask 022
mkdir "$4"
tar --extract --numeric-owner --preserve-permissions --file "$1" --directory "$4"
if [ "$2" ]; then
    tar --create --owner=0 --group=0 --mode=u=rwX,go=rX --file "$4.tar" --directory "$2" .
    tar --extract --preserve-permissions --no-overwrite-dir --file "$4.tar" --directory "$4"
fi
install -m 0644 "$3" "$4/etc/fstab"
install -d -m 0755 "$4/efi"
find "$4" -newermt "@$5" -exec touch --no-dereference --date="@$5" {} +
cp --dereference "$4/vmlinuz" "$4/../vmlinuz"
cp --dereference "$4/initrd.img" "$4/../initrd"
mke2fs -q -F -t ext4 -d "$4" -L root -U "$9" -J size=16 -m 1 \
    -E "offset=$7,hash_seed=$9,lazy_itable_init=1,lazy_journal_init=1,nodiscard" "$6" "$8"
"""


class _Layout(msgspec.Struct, frozen=True):
    """Where things are on a disk, and what they are called; the same for the same inputs."""

    disk: str
    root: str
    boot_part: str
    root_part: str
    size_mib: int

    @property
    def boot_start(self) -> int:
        return _MIB

    @property
    def root_start(self) -> int:
        return _MIB * (1 + _BOOT_MIB)

    @property
    def root_mib(self) -> int:
        return self.size_mib - _BOOT_MIB - 2  # the copy of the table at the end has a MiB


def build_disk(root: Path, overlay: Path | None, disk_mib: int, key: str, work: Path) -> Path:
    """The disk, a sparse file in `work`.

    Args:
        root: The root's tar, with a kernel.
        overlay: Folder of files that go over it, owned by root; None for none.
        disk_mib: Size of the disk.
        key: What the file systems' ids are derived from.
        work: A folder to make.

    Raises:
        ImagePartError: The root does not fit.
        ImageError: A tool fails.
    """
    layout = _plan_layout(key, disk_mib)
    work.mkdir()
    disk, tree = work / "disk.img", work / "tree"  # a `.raw` Packer would copy with all its holes
    with disk.open("wb") as file:
        file.truncate(disk_mib * _MIB)
    _partition(disk, layout)
    fstab = work / "fstab"
    fstab.write_text(_FSTAB.format(root=layout.root, boot=layout.boot_part))
    with named_at("appliance.disk_mib"):
        _run(
            *(() if os.geteuid() == 0 else ("fakeroot", "--")),
            "sh", "-c", _FILL, "sh", str(root), str(overlay or ""), str(fstab), str(tree),
            str(EPOCH_SECONDS), str(disk), str(layout.root_start), f"{layout.root_mib}M",
            layout.root, hint="disk_mib may be too small for the packages",
        )  # fmt: skip
    _forget_times(f"{disk}?offset={layout.root_start}")
    boot = _boot_partition(layout, tree, work)
    _copy_into(boot, disk, layout.boot_start)
    _run("rm", "-rf", str(tree))
    return disk


def _plan_layout(key: str, disk_mib: int) -> _Layout:
    disk = uuid.uuid5(uuid.NAMESPACE_OID, key)

    def name(part: str) -> str:
        return str(uuid.uuid5(disk, part))

    return _Layout(str(disk), name("root"), name("boot-part"), name("root-part"), disk_mib)


def _partition(disk: Path, layout: _Layout) -> None:
    boot_code = next((Path(path) for path in _BOOT_CODE if Path(path).exists()), None)
    if boot_code is None:
        raise ImageError("gptmbr.bin of syslinux is not here", hint="run `make setup`")
    script = (
        f"label: gpt\nlabel-id: {layout.disk}\n"
        f"start={layout.boot_start // _SECTOR}, size={_BOOT_MIB * _MIB // _SECTOR}, type={_ESP}, "
        f'uuid={layout.boot_part}, name="boot", attrs="LegacyBIOSBootable"\n'
        f"start={layout.root_start // _SECTOR}, size={layout.root_mib * _MIB // _SECTOR}, "
        f'type={_LINUX_ROOT}, uuid={layout.root_part}, name="root"\n'
    )
    _run("sfdisk", "--quiet", str(disk), given=script)
    with disk.open("r+b") as file:
        file.write(boot_code.read_bytes()[:_BOOT_CODE_BYTES_MAX])


def _boot_partition(layout: _Layout, tree: Path, work: Path) -> Path:
    """The FAT partition, as a file."""
    boot = work / "boot.fat"
    with boot.open("wb") as file:
        file.truncate(_BOOT_MIB * _MIB)
    _run(
        "mkfs.vfat", "-F", "32", "-n", "BOOT", "--invariant",
        "-h", str(layout.boot_start // _SECTOR), str(boot),
    )  # fmt: skip
    line = _COMMAND_LINE.format(root=layout.root)
    texts = {
        "syslinux.cfg": _SYSLINUX.format(line=line),
        "loader/loader.conf": _LOADER,
        "loader/entries/sappers.conf": _ENTRY.format(line=line),
    }
    for name, text in texts.items():
        (work / "boot" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "boot" / name).write_text(text)
    (work / "boot/EFI/BOOT").mkdir(parents=True)
    shutil.copyfile(tree / _EFI_LOADER, work / "boot/EFI/BOOT/BOOTX64.EFI")
    for name in ("vmlinuz", "initrd"):
        (work / name).rename(work / "boot" / name)
    entries = sorted(str(path) for path in (work / "boot").iterdir())
    _run("mcopy", "-s", "-Q", "-i", str(boot), *entries, "::")
    _run("syslinux", "--install", str(boot))
    return boot


def _forget_times(root: str) -> None:
    """Take from a file system when its files were unpacked and read, which mke2fs copies."""
    header = _run("dumpe2fs", "-h", root)
    inodes, free = (
        int(found[1])
        for name in ("Inode count", "Free inodes")
        if (found := re.search(rf"^{name}:\s+(\d+)$", header, re.MULTILINE))
    )
    numbers = (_ROOT_INODE, *range(_FIRST_INODE, inodes - free + 1))
    lines = (
        f"set_inode_field <{number}> {field} @{EPOCH_SECONDS}\n"
        for number in numbers
        for field in ("atime", "ctime")
    )
    _run("debugfs", "-w", "-f", "/dev/stdin", root, given="".join(lines))


def _copy_into(part: Path, disk: Path, offset: int) -> None:
    """Put a file into another, holes left out."""
    with part.open("rb") as source, disk.open("r+b") as target:
        place = offset
        while block := source.read(_MIB):
            if block.strip(b"\0"):
                target.seek(place)
                target.write(block)
            place += len(block)


def _run(*command: str, given: str | None = None, hint: str | None = None) -> str:
    environment = plain_environment(
        SOURCE_DATE_EPOCH=str(EPOCH_SECONDS),
        E2FSPROGS_FAKE_TIME=str(EPOCH_SECONDS),
        LC_ALL="C.UTF-8",
        TZ="UTC",
        PATH=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
    )
    try:
        done = subprocess.run(
            command, env=environment, input=given, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ImageError(f"{error.filename} is not here", hint="run `make setup`") from error
    if done.returncode != 0:
        tail = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise ImageError(f"{command[0]} failed: {tail}", hint=hint)
    return done.stdout

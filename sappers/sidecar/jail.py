"""What an application of its own may see and do: another root, and few of root's powers.

Containers expect to be root. Root without the capabilities left out here can change the files and
users of its own folder, but not trace PID 1, which holds the guest's credentials, nor load modules,
mount, make device files or leave its root folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from pathlib import Path

_PR_CAPBSET_DROP = 24
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND = 32, 4096
# chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
# audit_write, setfcap: what containers have elsewhere, without mknod and sys_chroot.
_KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 29, 31})
_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


def furnish(root: str) -> None:
    """Mount /proc, /sys and a small /dev in a root folder that has these folders.

    Raises:
        OSError: The kernel refuses.
    """
    quiet = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount("proc", f"{root}/proc", quiet)
    # Files there name programs that the kernel runs with all of root's powers: root may not write.
    for name in ("sys", "sysrq-trigger"):
        with contextlib.suppress(FileNotFoundError):
            _mount(f"{root}/proc/{name}", f"{root}/proc/{name}", _MS_BIND)
            _mount("", f"{root}/proc/{name}", _MS_BIND | _MS_REMOUNT | _MS_RDONLY | quiet)
    _mount("sysfs", f"{root}/sys", quiet | _MS_RDONLY)
    _mount("tmpfs", f"{root}/dev", _MS_NOSUID, "mode=755,size=64k")
    before = os.umask(0)
    for name, numbers in _DEVICES.items():
        os.mknod(f"{root}/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(*numbers))
    os.umask(before)
    for name, target in _DEVICE_LINKS.items():
        Path(f"{root}/dev/{name}").symlink_to(target)
    for name, kind, options in (
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=620"),
        ("shm", "tmpfs", "mode=1777"),
    ):
        Path(f"{root}/dev/{name}").mkdir()
        _mount(kind, f"{root}/dev/{name}", _MS_NOSUID | _MS_NOEXEC, options)


def open_low_ports() -> None:
    """Let every user serve at ports below 1024: the machine has one application."""
    with contextlib.suppress(OSError):
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")


def drop_powers(user_id: int, group_id: int, groups: tuple[int, ...]) -> None:
    """Become this user for good; root keeps what a container needs.

    Raises:
        OSError: The kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if number in _KEPT_CAPABILITIES:
            continue
        if libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            if (error := ctypes.get_errno()) == errno.EINVAL:
                break  # the kernel knows no more
            raise OSError(error, os.strerror(error))
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, user_id, group_id)  # /dev/stdout can be opened again
    os.setgroups(groups)
    os.setgid(group_id)
    os.setuid(user_id)


def _mount(kind: str, folder: str, flags: int, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(kind.encode(), folder.encode(), kind.encode(), flags, options.encode())
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), folder)

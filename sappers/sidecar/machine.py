"""The guest's kernel, asked directly: mounts, modules, addresses, clock, randomness, power.

Nothing but Python is in a guest; what `mount`, `insmod` and `ip` would do is done by system call.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path

_SYS_FINIT_MODULE = 313  # x86-64
_RB_POWER_OFF = 0x4321FEDC
_RNDADDENTROPY, _RNDRESEEDCRNG = 0x40085203, 0x5207
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCADDRT = 0x8914, 0x8916, 0x891C, 0x890B
_SIOCSIFHWADDR, _ARPHRD_ETHER = 0x8924, 1
_M_ARENA_MAX = -8
_IFF_UP, _RTF_UP, _RTF_GATEWAY = 1, 1, 2
_MS_NOSUID_NODEV = 2 | 4
_HOST_NAME_BYTES = 64
_PING = b"\x08\0\xf7\xff\0\0\0\0"  # an ICMP echo request, which QEMU answers itself

_libc = ctypes.CDLL(None, use_errno=True)


def use_one_arena() -> None:
    """Have threads share the memory that the first one allocates from, here and in forks.

    There is one processor; an arena for each thread is work for every thread that begins.
    """
    _libc.mallopt(_M_ARENA_MAX, 1)


def mount_system_folders() -> None:
    """Mount what every program expects: /proc, /sys, /dev, /tmp."""
    for kind, folder, flags in (
        ("proc", "/proc", _MS_NOSUID_NODEV),
        ("sysfs", "/sys", _MS_NOSUID_NODEV),
        ("devtmpfs", "/dev", 0),
        ("tmpfs", "/tmp", _MS_NOSUID_NODEV),  # noqa: S108 - it is the guest's own
    ):
        if _libc.mount(kind.encode(), folder.encode(), kind.encode(), flags, b"") != 0:
            number = ctypes.get_errno()
            if number != errno.EBUSY:  # the kernel may have mounted /dev already
                raise OSError(number, os.strerror(number), folder)


def tidy_memory_late() -> None:
    """Have the kernel clear memory up when little is left, not whenever a page is hard to find."""
    _write("/proc/sys/vm/watermark_boost_factor", 0, b"0")


def load_modules(paths: Iterable[str]) -> None:
    """Load kernel modules in the given order; one that is loaded already is fine."""
    for path in paths:
        with Path(path).open("rb") as module:
            if _libc.syscall(_SYS_FINIT_MODULE, module.fileno(), b"", 0) != 0:
                number = ctypes.get_errno()
                if number != errno.EEXIST:
                    raise OSError(number, os.strerror(number), path)


def bring_up_loopback() -> None:
    """Give programs the network within the machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _interface_up(control, "lo")


def ready_network(address: str, netmask: str, interface: str = "eth0") -> None:
    """Give an interface its address, the same in every guest, and leave it down.

    It will speak IPv4 alone, which saves the kernel half of the work, and sends first what is
    there first: QEMU alone is at the other end, and nothing queues.
    """
    _write("/proc/sys/net/core/default_qdisc", 0, b"pfifo_fast")
    _write(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6", 0, b"1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, netmask)):
            fcntl.ioctl(control, request, struct.pack("16s16s8x", interface.encode(), _inet(value)))


def join_network(gateway: str, mac: str = "", interface: str = "eth0") -> None:
    """Bring an interface up that has its address, and go everywhere over the gateway.

    It gets its MAC address, when one is given, while it is still down: not one packet leaves with
    that of another guest. Then the gateway is greeted. QEMU has asked for this guest's MAC address
    when the first connection came to it, and asks but once; the kernel answers that before the
    interface can send, to nobody. That it is greeted tells QEMU, which lets in who waits.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if mac:
            hardware = struct.pack("H6s8x", _ARPHRD_ETHER, bytes.fromhex(mac.replace(":", "")))
            named = struct.pack("16s16s8x", interface.encode(), hardware)
            fcntl.ioctl(control, _SIOCSIFHWADDR, named)
        _interface_up(control, interface)
        route = struct.pack(
            "Q16s16s16sHhQQhPQQH6x",  # struct rtentry
            *(0, _inet("0.0.0.0"), _inet(gateway), _inet("0.0.0.0")),  # noqa: S104
            *(_RTF_UP | _RTF_GATEWAY, *(0,) * 8),
        )
        fcntl.ioctl(control, _SIOCADDRT, route)
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as greeting,
    ):
        greeting.sendto(_PING, (gateway, 0))


def _interface_up(control: socket.socket, interface: str) -> None:
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", interface.encode(), _IFF_UP))


def _inet(address: str) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def set_clock(unix_time: float) -> None:
    """Set the wall clock; a guest's own may stand at the moment it was saved."""
    time.clock_settime(time.CLOCK_REALTIME, unix_time)


def reseed(seed: bytes) -> None:
    """Stir `seed` into the kernel's randomness and use it at once: no two guests share numbers."""
    device = os.open("/dev/urandom", os.O_WRONLY)
    try:
        pool = struct.pack(f"ii{len(seed)}s", len(seed) * 8, len(seed), seed)
        fcntl.ioctl(device, _RNDADDENTROPY, pool)
        fcntl.ioctl(device, _RNDRESEEDCRNG)
    finally:
        os.close(device)


def take_name(name: str, roots: Iterable[str] = ("/",)) -> None:
    """Be called `name`, in the list of names too: a program that asks for its own must not wait
    for the network. An image's machine id, the same in every guest of it, is replaced.
    """
    socket.sethostname(name[:_HOST_NAME_BYTES])
    for root in set(roots):
        folder = f"{root.rstrip('/')}/etc"
        _write(f"{folder}/hosts", os.O_APPEND, f"127.0.1.1 {name}\n".encode())
        _write(f"{folder}/machine-id", os.O_TRUNC, f"{os.urandom(16).hex()}\n".encode())


def _write(path: str, flags: int, content: bytes) -> None:
    """Write a file if it is there and can be written."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | flags)
        try:
            os.write(file, content)
        finally:
            os.close(file)


def power_off() -> None:
    """Write back and switch the machine off."""
    os.sync()
    _libc.reboot(_RB_POWER_OFF)

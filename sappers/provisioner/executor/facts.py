"""What is true of a host now: the facts that decide whether it is fit, and what to do there."""

from __future__ import annotations

import msgspec


class Listener(msgspec.Struct, frozen=True):
    """A socket that listens (TCP) or is bound (UDP).

    Attributes:
        protocol: `tcp` or `udp`; IPv6 sockets too.
        process: Name of the process, or empty when it cannot be seen.
    """

    protocol: str
    address: str
    port: int
    process: str = ""


class Facts(msgspec.Struct, frozen=True):
    """What is true of a host now.

    Attributes:
        architecture: As `uname -m`, such as `x86_64`.
        python_version: Of the interpreter that the executor runs on; may be below 3.11.
        python_path: Absolute path of that interpreter.
        free_disk_mib: By path asked for; of the nearest parent that exists.
        clock_offset_seconds: The host's clock minus ours.
        clock_uncertainty_seconds: The offset is right within this.
        systemd: It is the init system, and running.
        packages: Installed version by name for each package asked for; absent ones are left out.
        addresses: IP addresses of the host's interfaces, loopback and link-local left out.
    """

    architecture: str
    python_version: tuple[int, int, int]
    python_path: str
    free_disk_mib: dict[str, int]
    clock_offset_seconds: float
    clock_uncertainty_seconds: float
    listeners: tuple[Listener, ...]
    is_root: bool
    systemd: bool
    packages: dict[str, str]
    addresses: tuple[str, ...]
    machine_id: str

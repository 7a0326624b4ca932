"""What must be alike for a guest to start from a template; pure, but for QEMU's version."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path

import msgspec

from sappers.errors import TemplateError
from sappers.launchers.command import QEMU, TEMPLATE_MAC, GuestSpec, template_command
from sappers.launchers.templates import FORMAT

_CPU_LINES = re.compile(
    r"^(?:vendor_id|cpu family|model|stepping|microcode|flags)\s*:.*$", re.MULTILINE
)


class Host(msgspec.Struct, frozen=True):
    """What of this host goes into a template.

    Attributes:
        qemu: What `qemu --version` says.
        processor: What a guest may see of the processor under KVM; empty where it sees none of it.
    """

    qemu: str
    processor: str = ""


def template_key(image: str, spec: GuestSpec, host: Host) -> str:
    """64 hex digits; the same for guests that differ only in who they are.

    The clock rate is left out: it is a reading of the same clock, a little different each time.
    """
    alike = msgspec.structs.replace(
        spec,
        allocation_id="template",
        address="",
        guest_port=None,
        host_port=None,
        mac=TEMPLATE_MAC,
        tsc_khz=None,
        user_id=None,
        groups=(),
    )
    parts = (FORMAT, image, host, template_command(alike))
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def this_host(spec: GuestSpec) -> Host:
    """This host as it is now: QEMU may be another one than a minute ago.

    Raises:
        TemplateError: QEMU does not say which one it is; it may the next time.
    """
    if spec.accelerator.kind != "kvm":
        return Host(_version(_identity(QEMU)))
    kernel = os.uname().release
    return Host(
        _version(_identity(QEMU)), f"{kernel} {processor(Path('/proc/cpuinfo').read_text())}"
    )


def processor(cpuinfo: str) -> str:
    """The first processor of `/proc/cpuinfo`, without what changes from moment to moment."""
    first = cpuinfo.partition("\n\n")[0]
    return "\n".join(_CPU_LINES.findall(first))


def _identity(path: str) -> tuple[str, int, int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return path, 0, 0, 0
    return path, found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4)
def _version(identity: tuple[str, int, int, int]) -> str:
    try:
        done = subprocess.run(
            [identity[0], "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise TemplateError(f"QEMU does not say its version: {error}") from error
    return done.stdout.partition("\n")[0]

"""What the kernel lets one user have, where all hosts of all labs are one user to it.

A host's systemd, D-Bus and logind watch files by ten inotify instances; Linux allows 128 by
default, and the thirteenth host does not boot. The limit is only ever raised, and stays.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sappers.lab.plan import HOSTS_MAX

_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
_INSTANCES_PER_HOST = 16
_INSTANCES_OF_OTHERS = 128


def raise_limits(limit: Path = _INSTANCES) -> None:
    """Have room for the largest lab; where this machine does not let us, small ones still boot."""
    wanted = _INSTANCES_OF_OTHERS + _INSTANCES_PER_HOST * HOSTS_MAX
    with suppress(OSError, ValueError):
        if int(limit.read_text()) < wanted:
            limit.write_text(f"{wanted}\n")

"""Who keeps apt from working, read from its own words."""

from __future__ import annotations

import pytest

from sappers.provisioner.apt import find_lock_holder


@pytest.mark.parametrize(
    ("output", "pid"),
    [
        (
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 "
            "(unattended-upgr)\nN: Be aware that removing the lock file is not a solution",
            812,
        ),
        ("dpkg: error: dpkg frontend lock was locked by another process with pid 55\n", 55),
        ("E: Unable to locate package qemu-system-x86\n", None),
    ],
)
def test_lock_holder(output, pid):
    assert find_lock_holder(output) == pid

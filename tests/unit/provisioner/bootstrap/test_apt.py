"""Who keeps apt from working, read from its own words."""

from __future__ import annotations

import pytest

from sappers.provisioner.bootstrap.apt_hints import find_lock_holder, hint_for


@pytest.mark.parametrize(
    ("output", "holder"),
    [
        (
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 "
            "(unattended-upgr)\nN: Be aware that removing the lock file is not a solution",
            (812, "unattended-upgr"),
        ),
        ("dpkg: error: dpkg frontend lock was locked by another process with pid 55\n", (55, "")),
        ("E: Unable to locate package qemu-system-x86\n", None),
    ],
)
def test_lock_holder(output, holder):
    assert find_lock_holder(output) == holder
    assert (hint_for(output) is None) == (holder is None)


def test_who_holds_the_lock_is_told_by_name():
    hint = hint_for("E: Could not get lock /x. It is held by process 812 (unattended-upgr)")
    assert hint is not None
    assert "process 812, unattended-upgr" in hint

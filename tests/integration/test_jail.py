"""What root may not do in a container's root: needs root itself, and namespaces of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ENTER = """
import os, subprocess, sys
from sappers.sidecar import jail
root = sys.argv[1]
subprocess.run(["mount", "--bind", "-o", "ro", "/usr", f"{root}/usr"], check=True)
jail.furnish(root)
os.chroot(root)
os.chdir("/")
jail.drop_powers(0, 0, ())
os.execv("/usr/bin/sh", ["sh", "-c", sys.argv[2]])
"""


def _inside(tmp_path: Path, script: str) -> subprocess.CompletedProcess[str]:
    for name in ("usr", "proc", "sys", "dev"):
        (tmp_path / name).mkdir()
    for name in ("bin", "lib", "lib64"):
        (tmp_path / name).symlink_to(f"usr/{name}")
    alone = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc")
    return subprocess.run(
        [*alone, sys.executable, "-c", _ENTER, str(tmp_path), script],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a jail")
def test_root_of_a_container_names_no_program_for_the_kernel_to_run(tmp_path: Path) -> None:
    # The name of a host is its namespace's own: trying to change it harms nobody.
    script = (
        "cat /proc/sys/kernel/hostname && echo x >/dev/null && ! umount /proc/sys"
        " && ! mount -o remount,bind,rw /proc/sys"
        " && ! (echo out >/proc/sys/kernel/hostname) && ! (: >/proc/sysrq-trigger) && echo held"
    )
    done = _inside(tmp_path, script)
    assert done.stdout.splitlines()[-1:] == ["held"], done
    assert "Read-only" in done.stderr

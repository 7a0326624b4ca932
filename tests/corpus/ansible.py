"""Ansible for comparisons, from PyPI, in an environment of its own in the cache.

It is no dependency of this project: the locks in `requirements/` pin it with hashes. The wheel
`ansible` (ansible.posix, community.general and a hundred others) is fetched for a few modules that
once were Ansible's own; the rest of it is not unpacked.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path(__file__).parents[2] / "requirements"
_CORE = LOCKS / "ansible.lock"
_COLLECTIONS = LOCKS / "ansible-collections.lock"
_WANTED = (
    "ansible_collections/ansible/posix/",
    "ansible_collections/community/general/meta/",
    "ansible_collections/community/general/MANIFEST.json",
    "ansible_collections/community/general/plugins/modules/ini_file.py",
    "ansible_collections/community/general/plugins/module_utils/",
    "ansible_collections/community/general/plugins/modules/locale_gen.py",
    "ansible_collections/community/general/plugins/modules/modprobe.py",
    "ansible_collections/community/general/plugins/modules/timezone.py",
)


@dataclass(frozen=True)
class Ansible:
    """Where it is: the program, and the folder of collections."""

    playbook: Path
    collections: Path


def ensure_ansible(cache: Path, say: Callable[[str], None] = print) -> Ansible:
    """Ansible as the locks have it; installed first where it is missing.

    Raises:
        CalledProcessError: It cannot be installed.
    """
    locks = [sys.version, *_WANTED, *(path.read_text() for path in (_CORE, _COLLECTIONS))]
    key = hashlib.sha256("\n".join(locks).encode()).hexdigest()[:12]
    top = cache / "ansible"
    folder = top / key
    found = Ansible(folder / "bin/ansible-playbook", folder / "collections")
    top.mkdir(parents=True, exist_ok=True)
    with (top / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            say(f"installing Ansible into {folder} (once)")
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder, found.collections)
            (folder / "complete").touch()
    return found


def _install(folder: Path, collections: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]
    locked = ["--require-hashes", "--requirement"]
    subprocess.run([*pip, "install", "--no-compile", *locked, _CORE], check=True)
    wheels = folder / "wheels"
    subprocess.run(
        [*pip, "download", "--no-deps", "--dest", wheels, *locked, _COLLECTIONS], check=True
    )
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        wanted = [name for name in archive.namelist() if name.startswith(_WANTED)]
        archive.extractall(collections, wanted)
    shutil.rmtree(wheels)

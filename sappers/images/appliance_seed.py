"""A seed's disk: a small FAT volume, which any machine can read and people can look into."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sappers.errors import ImageError
from sappers.images.programs import plain_environment

SEED_LABEL = "SAPPERS"


def write_seed_disk(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the disk's image (0600), 1.4 MB.

    Args:
        path: A file that does not exist yet.
        files: Content by path.

    Raises:
        ImageError: There is such a file, the place cannot be written to, or mtools is missing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".seed-") as work:
            content, disk = Path(work) / "content", Path(work) / "disk"
            for name, text in files.items():
                (content / name).parent.mkdir(parents=True, exist_ok=True)
                (content / name).write_bytes(text)
            os.close(os.open(disk, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            _run("mformat", "-C", "-i", str(disk), "-f", "1440", "-v", SEED_LABEL, "::")
            entries = sorted(str(entry) for entry in content.iterdir())
            _run("mcopy", "-s", "-Q", "-i", str(disk), *entries, "::")
            disk.chmod(0o600)
            os.link(disk, path)  # fails where there is one, unlike a rename
    except FileExistsError as error:
        raise ImageError(
            f"{path}: it exists, and may be the only copy of another seed",
            hint="remove it, or name another file",
        ) from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, env=plain_environment(), capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ImageError(f"{command[0]} is not here", hint="run `make setup`") from error
    if done.returncode != 0:
        raise ImageError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")

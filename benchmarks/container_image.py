"""A container image as `docker save` leaves one, made here: many files that do not compress."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

FILES = 240
FILE_BYTES = 256 * 1024
CHANGED = "srv/changed"
_SEED = 1


def write_container(path: Path, changed: bytes) -> None:
    """An archive of one layer; two of them differ by one small file in the midst of the others."""
    layer = _layer(changed)
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/srv/000"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["bench:1"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, "config.json", json.dumps(config).encode())
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _layer(changed: bytes) -> bytes:
    chance = random.Random(_SEED)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for number in range(FILES):
            _add(archive, f"srv/{number:03}", chance.randbytes(FILE_BYTES))
            if number == FILES // 2:
                _add(archive, CHANGED, changed)
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    archive.addfile(entry, io.BytesIO(content))

"""Writers of the image store that are killed: nothing half done is ever an image."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from sappers.images.store import FolderImageStore
from sappers.model.image import CHUNK_BYTES
from sappers.security.signing import load_or_create_signing_key
from tests.image_stores import files, make_store

# Builds images for ever, each with the same long part and one of its own; assembles and names them.
_BUILDER = f"""
import itertools, os, random, sys
from pathlib import Path
from sappers.images.store import FolderImageStore
from sappers.model.image import Manifest, MicrovmBoot
from sappers.security.signing import load_or_create_signing_key
folder, name = Path(sys.argv[1]), sys.argv[2]
key = load_or_create_signing_key(folder / "key")
store = FolderImageStore(folder / "images", lambda: (key.public,))
shared = random.Random(0).randbytes(4 * {CHUNK_BYTES})
for turn in itertools.count():
    with store.holding():
        boot = MicrovmBoot(store.put([shared]), store.put([os.urandom({CHUNK_BYTES} + 9)]))
        digest = store.put_manifest(Manifest(name, "x86_64", boot), key)
        store.assemble(digest)
    print(turn, flush=True)
"""


def start_builders(folder: Path) -> list[subprocess.Popen[str]]:
    """Two of them, each with its first image built."""
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", _BUILDER, str(folder), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for builder in builders:
        assert builder.stdout is not None and builder.stderr is not None
        assert builder.stdout.readline(), builder.stderr.read()
    return builders


def store_in(folder: Path) -> FolderImageStore:
    key = load_or_create_signing_key(folder / "key")
    return make_store(folder / "images", lambda: (key.public,))


def test_builds_that_are_killed_leave_whole_images_or_none(tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(6):
        builders = start_builders(tmp_path)
        time.sleep(chance.random() / 10)  # somewhere in a build
        for builder in builders:
            builder.kill()
            builder.communicate()
        store = store_in(tmp_path)
        assert set(store.named()) == {"one", "two"}
        for digest in store.named().values():
            store.verify(digest)
            store.assemble(digest)
        store.prune([])
        left = files(tmp_path / "images")
        assert not any(name.startswith(".") for name in left)
        for digest in store.named().values():
            store.verify(digest)
            store.assemble(digest)


def test_pruning_beside_builds_takes_nothing_that_they_need(tmp_path: Path) -> None:
    builders = start_builders(tmp_path)
    store = store_in(tmp_path)
    pruned, begin = 0, time.monotonic()
    try:
        # For a while, and until something was pruned: how soon depends on the machine.
        while time.monotonic() - begin < (3 if pruned else 90):
            if any(one.poll() is not None for one in builders):
                break
            pruned += len(store.prune([]))
            time.sleep(0.05)
    finally:
        errors = [_ended(one) for one in builders]
    assert errors == ["", ""]
    assert pruned
    for digest in store.named().values():
        store.verify(digest)


def _ended(builder: subprocess.Popen[str]) -> str:
    """What it complained of, once it is killed."""
    builder.kill()
    return builder.communicate()[1]

"""Guest images that the control machine has built, by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sappers.provisioner.plan import STATE_FOLDER
from sappers.provisioner.run import HostRun

_FOLDER = f"{STATE_FOLDER}/images"


class ImageSource(Protocol):
    """The control machine's images."""

    def files(self, names: Sequence[str] | None) -> Mapping[str, Path]:
        """What those images (None: all) consist of, by path below an image store's folder.

        A file's name is its content's digest, so a whole file of that name is the right one.

        Raises:
            ImageError: There is no image of such a name.
        """


class Images:
    """Sends the files that a host lacks."""

    title = "images"

    def __init__(self, files: Mapping[str, Path]) -> None:
        """`files` is what an `ImageSource` gave."""
        self._files = files

    def run(self, host: HostRun) -> str | None:
        """Skipped when there is nothing to send to anyone."""
        if not self._files:
            return "no images are built"
        paths = {f"{_FOLDER}/{name}": local for name, local in self._files.items()}
        found = host.executor.stat(list(paths))
        lacking = {path: local for path, local in paths.items() if found[path] is None}
        if not lacking:
            return None
        for folder in sorted({path.rpartition("/")[0] for path in lacking} | {_FOLDER}, key=len):
            host.ensure_folder(folder, mode=0o700)
        for path, local in lacking.items():
            if not host.check:
                host.note(f"sending {local.stat().st_size / 1e6:.1f} MB")
            host.write_file(path, local)
        return None

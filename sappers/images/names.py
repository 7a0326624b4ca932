"""What the control machine calls its images: `names/<name>` holds a digest."""

from __future__ import annotations

from pathlib import Path

from sappers.errors import ImageError
from sappers.images.chunks import check_digest, is_digest
from sappers.images.files import read_limited, refusing, write_at, writing
from sappers.images.manifests import check_name, is_name

_BYTES_MAX = 128


class NameFolder:
    """Names in a folder of the store `root`."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root

    def all(self) -> dict[str, str]:
        """Digests by name; what is no name or holds no digest is left out."""
        with refusing(self._root):
            paths = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
            read = {path.name: read_limited(path, _BYTES_MAX) for path in paths}
        texts = {
            name: found[0].decode("ascii", "replace").strip()
            for name, found in read.items()
            if found
        }
        return {name: text for name, text in texts.items() if is_name(name) and is_digest(text)}

    def give(self, name: str, digest: str) -> None:
        """Call an image so; another one of that name loses it.

        Raises:
            ImageError: Images are not called so; the disk is full.
        """
        content = f"{check_digest(digest)}\n".encode()
        with writing(self._folder / check_name(name), self._root, durable=True) as file:
            write_at(file.fileno(), content, 0)

    def remove(self, name: str) -> None:
        """Take a name away.

        Raises:
            ImageError: No image is called so.
        """
        path = self._folder / check_name(name)
        with refusing(self._root):
            try:
                path.unlink()
            except FileNotFoundError:
                raise ImageError(
                    f"no image is called {name}", hint="see sappers-deploy image ls"
                ) from None

"""The sidecar as guests have it: its modules, compiled, in the guest's `site-packages`."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from sappers.images.python_root import SITE, GuestPython

_BESIDE = ("__init__.py", "model/__init__.py", "model/subjects.py")


def sidecar_sources() -> list[tuple[str, Path]]:
    """(place in the guest, file) of the sidecar's sources, sorted."""
    own = Path(str(resources.files("sappers")))
    names = (*_BESIDE, *(f"sidecar/{path.name}" for path in (own / "sidecar").glob("*.py")))
    return sorted((f"{SITE}/sappers/{name}", own / name) for name in names)


def lay_sidecar(root: Path, folder: Path, *imported: str) -> None:
    """Put the sidecar into a folder that becomes part of a guest's root.

    Args:
        root: The guest's Python root.
        imported: Modules that the guest will begin with: what they import is there.

    Raises:
        ImageError: It is not.
    """
    for place, source in sidecar_sources():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    python = GuestPython(root)
    python.compile(folder / SITE, f"/{SITE}")
    folders = [str(folder / SITE), str(root / SITE)]
    python.run("-BIS", "-c", f"import sys; sys.path += {folders!r}\nimport {', '.join(imported)}")

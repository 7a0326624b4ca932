"""`sappers-deploy` as a program: what has to be set before the rest is imported."""

from __future__ import annotations

import gc

_OBJECTS_BETWEEN_COLLECTIONS = 200_000


def main() -> None:
    """Run `sappers-deploy`."""
    # What is imported stays. Looking through all of it again and again is a tenth of the start.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    from sappers.cli import deploy

    deploy.main()

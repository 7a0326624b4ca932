"""Whether this machine can build Nanos unikernels."""

from __future__ import annotations

import os
import shutil


def nanos_problem() -> str:
    """Why not, as a note beside the figures; empty when it can."""
    missing = []
    if not os.environ.get("NANOS_DIR"):
        missing.append("NANOS_DIR names no Nanos kernel")
    if shutil.which("ops") is None:
        missing.append("there is no `ops`")
    return f"No nanos: {' and '.join(missing)}." if missing else ""

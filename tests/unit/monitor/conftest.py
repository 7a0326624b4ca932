"""The monitor's modules lie beside its image's definition, and find each other as in a guest."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "unikernels" / "monitor"))

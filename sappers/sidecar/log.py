"""What the sidecar prints: JSON, one object a line, on the serial console."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def say(event: str, **values: Any) -> None:
    """Print one line; never anything secret."""
    line = {"up": round(time.monotonic(), 2), "sidecar": event, **values}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()

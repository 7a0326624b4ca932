"""What all tests share."""

from __future__ import annotations

import os
import signal
from typing import Any

import hypothesis

# What CI says must be about the change, and not about the examples that it happened to draw. How
# busy the machine is decides no test, there or elsewhere.
_any_speed: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("local", **_any_speed)
hypothesis.settings.register_profile("ci", derandomize=True, **_any_speed)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

# A shell starts what it runs in the background with interrupts ignored, and every command that a
# test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

"""What all tests share."""

from __future__ import annotations

import os
import signal

import hypothesis

# What CI says must be about the change, and not about the examples that it happened to draw.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

# A shell starts what it runs in the background with interrupts ignored, and every command that a
# test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

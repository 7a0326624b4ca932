"""How an application in Python is run: in a process of its own, or in the sidecar's."""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable
from typing import Any

from sappers.sidecar.settings import Launch

Run = Callable[[], Any]
# In a clone the application has little left to do before it answers. What the sidecar does then
# would fill the translation cache of QEMU; once full it is emptied, and all is translated again.
PATIENT_SECONDS = 0.3


def prepared(application: str, launch: Launch) -> Run:
    """What runs a module that does, before a checkpoint, what every guest does first."""
    sys.argv = [application, *launch.arguments]
    run: Run = getattr(importlib.import_module(application), launch.prepare)()
    return run


def run_python(application: str, launch: Launch, run: Run | None = None) -> None:
    """Run a module or script in this thread until it ends; `run` where it was prepared already."""
    sys.argv = [application, *launch.arguments]
    if launch.prepare:
        (run or prepared(application, launch))()
    elif launch.kind == "script":
        runpy.run_path(application, run_name="__main__")
    else:
        runpy.run_module(application, run_name="__main__", alter_sys=True)

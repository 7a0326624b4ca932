"""Imports Fabric, and what is below it, without what they have no use for in a command.

Invoke imports `unittest.mock`, and with it asyncio, for one class that is for tests of its users,
and YAML for files of settings, of which none is read here (`login`): more than a tenth of what
`playbook run` takes to start. Whoever wants to start quickly imports SSH by this.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType

_UNUSED = ("unittest", "unittest.mock", "invoke.vendor.yaml")
_one_at_a_time = threading.Lock()


def import_ssh() -> None:
    """Import Fabric, paramiko and Invoke; the first to import them decides for the process."""
    with _one_at_a_time:
        spared = [name for name in _UNUSED if name not in sys.modules]
        for name in spared:
            stand_in = ModuleType(name)
            stand_in.__dict__["Mock"] = object
            sys.modules[name] = stand_in
        try:
            import fabric  # noqa: F401
        finally:
            for name in spared:
                del sys.modules[name]

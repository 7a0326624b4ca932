"""What the system would refuse of an effect, told before it is done: check mode says so, too."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from sappers.provisioner.modules import step


def refuse_in_vain(
    effect: Any,
    stat: Callable[[step.Stat], step.Found | None],
    followed: Callable[[str], str],
    pretends: Callable[[str], bool],
) -> None:
    """Refuse what a run would fail with.

    Args:
        pretends: Whether an earlier task would change what is at a path; nobody can tell then.

    Raises:
        OSError: The user may not, or there is no such folder.
    """
    path = getattr(effect, "path", None)
    if path is None or type(effect) is step.Unpack:
        return
    changes_it = type(effect) in (step.SetAttributes, step.Touch)
    there = stat(step.Stat(path)) if changes_it else None
    folder = followed(os.path.dirname(path.rstrip("/")) or "/")
    if pretends(path if there is not None else folder):
        return
    if there is not None:
        if os.geteuid() not in (0, there.uid):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
    elif not os.access(folder, os.W_OK | os.X_OK):
        code = errno.EACCES if os.path.isdir(folder) else errno.ENOENT
        raise OSError(code, os.strerror(code), path)

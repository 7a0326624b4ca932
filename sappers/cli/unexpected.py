"""What becomes of an error that nobody foresaw: details into a file, one sentence to a person."""

from __future__ import annotations

import os
import tempfile
import traceback

from sappers.config import control_home
from sappers.errors import SappersError


class UnexpectedError(SappersError):
    """A mistake of ours."""


def keep_traceback(error: BaseException) -> UnexpectedError:
    """Write the traceback beside the other files of this machine (0600); what to tell people."""
    text = "".join(traceback.format_exception(error))
    where = _write(text)
    return UnexpectedError(
        f"{type(error).__name__}: {error}; this was not foreseen",
        hint=f"please report it with {where}" if where else f"please report it:\n{text}",
    )


def _write(text: str) -> str | None:
    folder = control_home(os.environ).cache / "errors"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(dir=folder, prefix="error-", suffix=".txt")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError:
        return None
    return path

"""Programs that a build runs for long, or that start others: none outlives the build.

However the build ends, by an error, by Ctrl-C or by `kill -9`, what it runs ends with it: between
the two is the guard (`guard.py`), which sees a pipe of ours close.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ParamSpec

from sappers.images.guard import TOO_LATE

__all__ = ["TOO_LATE", "guarded", "plain_environment", "run_guarded"]

_GUARD = Path(__file__).with_name("guard.py")
_GRACE_SECONDS = 60.0
_HOUR_SECONDS = 3600.0
_How = ParamSpec("_How")
# Where programs and the network are. Of all else some has a program make another image of the same
# inputs (TAR_OPTIONS, MKE2FS_CONFIG, …), and some is secret.
_KEPT = re.compile(r"PATH|HOME|APT_CONFIG|(?i:\w+_proxy)")


def plain_environment(*, keep: str = "", **settings: str) -> dict[str, str]:
    """What a tool of a build runs with: of the caller's environment what decides nothing.

    Args:
        keep: Pattern of further names that are the tool's own.
        settings: Beside it.
    """
    own = re.compile(keep)
    return {
        name: value
        for name, value in os.environ.items()
        if _KEPT.fullmatch(name) or own.fullmatch(name)
    } | settings


@contextmanager
def guarded(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    scratch: Path | None = None,
    limit_seconds: float = _HOUR_SECONDS,
    grace_seconds: float = _GRACE_SECONDS,
) -> Iterator[subprocess.Popen[str]]:
    """A program, and on its `stdout` all that it says, errors too; at the block's end it is over.

    Args:
        command: It gets no input.
        scratch: A folder that is removed should this process die before the block ends.
        limit_seconds: After these it is ended, with exit code `TOO_LATE`.
        grace_seconds: From its being asked to end until it is made to, with all that it started.

    Raises:
        FileNotFoundError: It is not in the environment's PATH; `filename` is the program.
    """
    path = (os.environ if environment is None else environment).get("PATH", os.defpath)
    if shutil.which(command[0], path=path) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    guard = [sys.executable, "-I", "-S", str(_GUARD), str(grace_seconds), str(limit_seconds)]
    with subprocess.Popen(
        [*guard, str(scratch or ""), *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # what a terminal sends is for us
    ) as running:
        try:
            yield running
        finally:
            running.communicate()  # closes the pipe, which is the guard's cue


def _to_its_end(
    start: Callable[_How, AbstractContextManager[subprocess.Popen[str]]],
) -> Callable[_How, tuple[int, str]]:
    def run(*command: _How.args, **how: _How.kwargs) -> tuple[int, str]:
        with start(*command, **how) as running:
            assert running.stdout is not None
            said = running.stdout.read()
            return running.wait(), said

    return run


run_guarded = _to_its_end(guarded)
"""Runs a program as `guarded` does; its exit code and all that it said."""

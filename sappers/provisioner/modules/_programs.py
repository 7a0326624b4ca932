"""What modules that run programs of the host have in common."""

from __future__ import annotations

from typing import Any

from sappers.provisioner.modules import step

# Asked about in check mode: whether packages would have come, whose names are what it says.
COMING_PACKAGES = "coming packages"


def execute(command: Any, implies: Any = (), stdin: bytes = b"", amounts_to: Any = ()) -> step.Plan:
    """Run a program that has to succeed.

    Raises:
        Failed: It does not.
    """
    done = yield step.Execute(
        tuple(command), stdin, "/", implies=tuple(implies), amounts_to=tuple(amounts_to)
    )
    if done.code:
        message = done.err.strip() or done.out.strip() or "exit code %d" % done.code
        raise step.Failed(message, rc=done.code, cmd=list(command))
    return {"stdout": done.out, "stderr": done.err}

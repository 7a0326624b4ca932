"""Where a guest reaches the services that its workload is linked to."""

from __future__ import annotations

import os
import re


def link(name: str) -> str:
    """Where what `run --link NAME` linked this workload to answers, `ip:port`.

    Bytes that go there come out at a healthy guest of that service, over mutual TLS between the
    members. Nobody may listen there yet, or for a while: try again, as with any service.

    Raises:
        LookupError: There is no such link, or no mesh here.
    """
    try:
        return os.environ[link_variable(name)]
    except KeyError:
        raise LookupError(f"this workload has no link to {name}; is it run with --link?") from None


def link_variable(name: str) -> str:
    """The environment variable that says it: `SAPPERS_LINK_MY_DB` for `my-db`."""
    return f"SAPPERS_LINK_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"

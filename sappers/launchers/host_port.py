"""Whether a port of this host can be published; QEMU itself would not say what is wrong."""

from __future__ import annotations

import errno
import socket

from sappers.errors import PortTaken

_CONNECT_SECONDS = 1.0


def check_free(address: str, port: int) -> None:
    """Return if nobody listens there.

    Raises:
        PortTaken: It is in use, or no port of this host.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            # A low one: the guest's unit may bind it, the agent may not. Does somebody answer?
            if not _answers(address, port):
                return
            reason = "is in use already"
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            reason = "is in use already" if in_use else f"cannot be used: {error.strerror}"
        else:
            return
    raise PortTaken(
        f"port {port} of {address} {reason}", hint="publish the workload at another port"
    )


def _answers(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_CONNECT_SECONDS)
        return probe.connect_ex((address, port)) == 0

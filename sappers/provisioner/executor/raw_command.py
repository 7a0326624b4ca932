"""Runs a command line on a host that may have no Python: in its shell, with nothing else.

With sudo the password is all that stdin brings, and the command's own stdin is empty: where sudo
asks for none, the command cannot read it.
"""

from __future__ import annotations

import select
import shlex
import subprocess
import time

import msgspec
import paramiko

from sappers.errors import HostUnreachable
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.modules.step import Completed

OUTPUT_BYTES_MAX = 16 * 1024 * 1024
START_SECONDS = 30.0
POLL_SECONDS = 0.5
READ_BYTES = 64 * 1024
# A daemon that the command leaves behind may keep its output open.
AFTER_END_SECONDS = 1.0


class RawCommand(msgspec.Struct, frozen=True):
    """A command line, and whom it is run as.

    Attributes:
        user: Whom to become; None: who logs in.
        method: How: sudo, su or doas (without a password, which it reads from a terminal only).
    """

    line: str
    executable: str | None = None
    user: str | None = None
    password: Secret | None = None
    method: str = "sudo"

    @property
    def shell_line(self) -> str:
        """What the login shell has to run."""
        if self.user is None:
            return shlex.join([self.executable, "-c", self.line]) if self.executable else self.line
        asks = ["-S", "-k", "-p", ""] if self.password else ["-n"]
        shell = self.executable or "/bin/sh"
        inner = f"exec </dev/null\n{self.line}"
        if self.method == "su":
            return shlex.join(["su", "-s", shell, "-c", inner, "--", self.user])
        if self.method == "doas":
            return shlex.join(["doas", "-n", "-u", self.user, "--", shell, "-c", inner])
        return shlex.join(["sudo", *asks, "-H", "-u", self.user, "--", shell, "-c", inner])

    @property
    def stdin(self) -> bytes:
        """What sudo or su reads."""
        if self.user is None or self.password is None or self.method == "doas":
            return b""
        return self.password.reveal().encode() + b"\n"


def run_here(command: RawCommand) -> Completed:
    """Run it on this machine."""
    began = time.time()
    done = subprocess.run(
        ["/bin/sh", "-c", command.shell_line], input=command.stdin, capture_output=True, check=False
    )
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Completed(code, done.stdout, done.stderr, began, time.time())


def run_over(transport: paramiko.Transport, host: str, command: RawCommand) -> Completed:
    """Run it over an SSH connection.

    Raises:
        HostUnreachable: The connection is gone.
    """
    began = time.time()
    try:
        channel = transport.open_session(timeout=START_SECONDS)
        channel.exec_command(command.shell_line)
        channel.sendall(command.stdin)
        channel.shutdown_write()
        out, err = _output(channel)
        code = channel.recv_exit_status()
        channel.close()
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise HostUnreachable(host, f"the command cannot be run: {error}") from error
    if code < 0:
        raise HostUnreachable(host, "the connection ended while a command ran")
    return Completed(code, out, err, began, time.time())


def _output(channel: paramiko.Channel) -> tuple[bytes, bytes]:
    """What the command writes, until it has ended; no more of it than is allowed."""
    out, err = bytearray(), bytearray()
    ended_at: float | None = None
    while True:
        select.select([channel], [], [], POLL_SECONDS)
        ready = False
        if channel.recv_ready():
            ready = True
            out += channel.recv(READ_BYTES)
        if channel.recv_stderr_ready():
            ready = True
            err += channel.recv_stderr(READ_BYTES)
        del out[OUTPUT_BYTES_MAX:], err[OUTPUT_BYTES_MAX:]
        if ready:
            continue
        if channel.closed or not channel.get_transport().is_active():
            return bytes(out), bytes(err)
        if channel.exit_status_ready():
            ended_at = ended_at or time.monotonic()
            if channel.eof_received or time.monotonic() - ended_at > AFTER_END_SECONDS:
                return bytes(out), bytes(err)
        time.sleep(0.01)  # of output and exit code either may come first

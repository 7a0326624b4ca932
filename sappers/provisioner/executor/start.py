"""Starts the executor on a host without leaving a file there, as root where that is wanted.

The shell looks for a Python, sudo and the like may ask for a password on stdin, and a small loader
reads the program itself from stdin. Whoever speaks is told apart by a random word: what a login
script prints is skipped.
"""

from __future__ import annotations

import re
import secrets
import shlex
import time
from typing import TYPE_CHECKING, Protocol

import msgspec
import paramiko

from sappers.errors import HostUnfit, HostUnreachable, PrivilegeError
from sappers.provisioner.executor.program import program
from sappers.provisioner.inventory.become import OWN_QUESTION, OWN_WORDS, becoming

if TYPE_CHECKING:
    from sappers.provisioner.inventory.host_values import Secret

PYTHON_MIN = (3, 8)
PYTHON_WANTED = (3, 11)
START_SECONDS = 30.0
READ_BYTES = 64 * 1024
OUTPUT_BYTES_MAX = 64 * 1024
_MAY_NOT_BE_RUN = 126  # a shell's exit code
PACKAGE = "sappers.provisioner.remote"
# In this order: each imports those before it alone, and the last has what is called.
_PARTS = ("digests", "wire", "commands", "beside", "files", "facts", "main")
MODULES = tuple(f"{PACKAGE}.{name}" for name in _PARTS)
# What runs tasks of playbooks beside them; and of it what their modules may import.
TASK_PARTS = ("record", "step", "spec")
_RUNNING_TASKS = (
    "accounts", "pretence", "system", "contents", "diffs", "web", "archives", "permitted",
    "perform", "jobs", "tasks",
)  # fmt: skip
TASK_MODULES = (
    *(f"sappers.provisioner.modules.{name}" for name in TASK_PARTS),
    *(f"{PACKAGE}.{name}" for name in _RUNNING_TASKS),
)

_ENTRY = "import sys; exec(sys.argv[2])"
# A Python that is too old for the agent looks for a newer one to take its place.
_LOADER = """
import marshal, os, sys, types, zlib
import _frozen_importlib_external as importing
def read(length):
    data = b""
    while len(data) < length:
        part = os.read(0, length - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data
if sys.version_info < (3, 11):
    again = ["-I", "-S", "-c", "import sys; exec(sys.argv[2])"] + sys.argv[1:3]
    for name in sys.argv[3:]:
        try:
            if name.startswith("python3."):
                os.execvp(name, [name] + again)
        except OSError:
            pass
def load(modules):
    for name, part in modules:
        parts = name.split(".")
        for count in range(1, len(parts)):
            package = ".".join(parts[:count])
            if package not in sys.modules:
                sys.modules[package] = types.ModuleType(package)
                sys.modules[package].__path__ = []
        module = types.ModuleType(name)
        sys.modules[name] = module
        setattr(sys.modules[package], parts[-1], module)
        code = compile(part, "<" + name + ">", "exec") if isinstance(part, str) else part
        exec(code, module.__dict__)
    return module
told = (sys.argv[1],) + sys.version_info[:2] + (importing.MAGIC_NUMBER.hex(),)
os.write(1, ("\\n%s python %d.%d %s\\n" % told).encode())
load(marshal.loads(zlib.decompress(read(int(read(8)))))).main(load)
"""

_SHELL = """
word=$1 user=$2 entry=$3 loader=$4
shift 4
found=
for name in "$@"; do
  found=$(command -v "$name" 2>/dev/null) && break
done
if [ -z "$found" ]; then
  printf '\\n%s nopython\\n' "$word"
  exit 0
fi
if [ -z "$user" ] || [ "$(id -un)" = "$user" ]; then
  exec "$found" -I -S -c "$entry" "$word" "$loader" "$@"
fi
"""


class Account(Protocol):
    """Whom the executor is run as; a `Host` is one."""

    @property
    def name(self) -> str:
        """The host's, as errors call it."""

    @property
    def become(self) -> bool:
        """Whether it becomes another user than who logs in."""

    @property
    def become_method(self) -> str:
        """How: one of `become.METHODS`."""

    @property
    def become_user(self) -> str:
        """Whom it becomes."""

    @property
    def become_password(self) -> Secret | None:
        """What it may be asked for."""

    @property
    def python_interpreter(self) -> str | None:
        """A path on the host, or None to look for one."""


class StartedChannel(msgspec.Struct, frozen=True):
    """The channel of an executor that runs.

    Attributes:
        rest: What of its first words was read already.
        bytecode: Which it is sent: the number that begins compiled files, in hex; empty: none.
    """

    channel: paramiko.Channel
    rest: bytes
    bytecode: str


def start_program(
    transport: paramiko.Transport,
    host: Account,
    *,
    compiles: bool = True,
    modules: tuple[str, ...] = MODULES,
) -> StartedChannel:
    """Run the executor on the host.

    Args:
        compiles: This machine compiles what the host can take compiled.
        modules: What it is made of.

    Raises:
        HostUnreachable: The connection is gone, or the host does not answer in time.
        HostUnfit: It has no Python that is new enough.
        PrivilegeError: sudo, su or doas is missing or refuses.
    """
    word = f"sappers-{secrets.token_hex(8)}"
    try:
        channel = transport.open_session(timeout=START_SECONDS)
        channel.set_combine_stderr(combine=True)
        channel.exec_command(_command(host, word))
        rest, bytecode = _Dialogue(channel, host, word).until_started()
        bytecode = bytecode if compiles else ""
        sent = program(modules, bytecode)
        channel.sendall(f"{len(sent):08d}".encode() + sent)
    except (paramiko.SSHException, OSError, EOFError) as error:
        if isinstance(error, HostUnreachable | PrivilegeError):
            raise
        raise HostUnreachable(
            host.name, f"the executor cannot be started: {error or 'the connection ended'}"
        ) from error
    return StartedChannel(channel, rest, bytecode)


def _command(host: Account, word: str) -> str:
    newer = [f"python3.{minor}" for minor in range(PYTHON_WANTED[1] + 4, PYTHON_WANTED[1] - 1, -1)]
    pythons = [host.python_interpreter] if host.python_interpreter else ["python3", *newer]
    user = host.become_user if host.become else ""
    arguments = [word, user, _ENTRY, _LOADER, *pythons]
    shell = _SHELL + becoming(host.become_method, has_password=host.become_password is not None)
    return shlex.join(["/bin/sh", "-c", shell, "sh", *arguments])


class _Dialogue:
    """What the host says until the loader speaks."""

    def __init__(self, channel: paramiko.Channel, host: Account, word: str) -> None:
        self._channel = channel
        self._host = host
        self._word = f"\n{word} ".encode()
        self._password: Secret | None = host.become_password
        self._seen = b""
        self._in_own_words = False

    def until_started(self) -> tuple[bytes, str]:
        """Answer who asks for a password.

        Returns:
            What follows the loader's greeting, and the bytecode that it reads.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            _, found, after = self._seen.partition(self._word)
            line, ended, rest = after.partition(b"\n")
            if not (found and ended):
                if self._in_own_words and self._seen.rstrip().endswith(OWN_QUESTION):
                    self._seen = b""
                    self._answer()
                self._read(deadline)
            elif line == OWN_WORDS:
                self._seen, self._in_own_words = rest, True
            elif line == b"password":
                self._seen = rest
                self._answer()
            elif line == b"nopython":
                raise self._no_python("not found")
            else:
                greeting = re.fullmatch(rb"python (\d{1,3})\.(\d{1,3}) ([0-9a-f]{8})", line)
                if greeting is None:
                    raise HostUnreachable(self._host.name, f"no Python answered{self._said()}")
                version = int(greeting[1]), int(greeting[2])
                if version < PYTHON_MIN:
                    raise self._no_python(f"it is Python {'.'.join(map(str, version))}")
                return rest, greeting[3].decode()

    def _read(self, deadline: float) -> None:
        self._channel.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            data = self._channel.recv(READ_BYTES)
        except TimeoutError as error:
            raise HostUnreachable(
                self._host.name,
                f"no Python answered within {START_SECONDS:.0f} s{self._said()}",
                hint="does a login script of this user wait for something?",
            ) from error
        if not data:
            raise self._ended()
        self._seen = (self._seen + data)[-OUTPUT_BYTES_MAX:]

    def _answer(self) -> None:
        host = self._host
        if self._password is None:
            asked_before = host.become_password is not None
            raise PrivilegeError(
                host.name,
                f"{host.become_method} refuses the password"
                if asked_before
                else f"{host.become_method} wants a password",
                hint=f"{'correct' if asked_before else 'set'} ansible_become_password, or let the "
                f"user run {host.become_method} without a password",
            )
        self._channel.sendall(self._password.reveal().encode() + b"\n")
        self._password = None

    def _ended(self) -> Exception:
        code = self._channel.recv_exit_status() if self._channel.exit_status_ready() else None
        if b"nknown option: -I" in self._seen:
            return self._no_python("it is no Python 3")
        if code == _MAY_NOT_BE_RUN and b"exec" in self._seen:
            return self._no_python(f"the user may not run it{self._said()}")
        method = self._host.become_method
        if self._host.become and method.encode() in self._seen:
            wrong = (
                "" if self._host.become_password is None else "correct ansible_become_password, or "
            )
            missing = "set ansible_become_password, or " if b"required" in self._seen else ""
            return PrivilegeError(
                self._host.name,
                f"{method} refuses{self._said()}",
                hint=f"{wrong or missing}let the user run {method} as {self._host.become_user}, or"
                " log in as root",
            )
        return HostUnreachable(
            self._host.name,
            f"the login shell ended (exit code {code}){self._said()}",
            hint="may this user run commands over SSH?",
        )

    def _said(self) -> str:
        text = self._seen.decode("utf-8", "replace").strip()[-500:]
        return f": {text}" if text else ""

    def _no_python(self, reason: str) -> HostUnfit:
        looked_for = self._host.python_interpreter or "python3"
        return HostUnfit(
            self._host.name,
            f"{looked_for}: {reason}; Python {'.'.join(map(str, PYTHON_MIN))} or newer is needed",
            hint="install python3 (by `raw`, which needs none; members of a cluster need "
            f"{'.'.join(map(str, PYTHON_WANTED))}), or set ansible_python_interpreter",
        )

"""The sidecar of a unikernel: one process, in which the application runs as well.

Nanos has no fork, so there is no process to keep apart from: the application is a coroutine of the
sidecar's own loop, or a program in the main thread with the sidecar's loop in another. It can read
all that the sidecar has, the guest's hub credentials included.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from sappers.sidecar.local_socket import open_listener
from sappers.sidecar.log import say
from sappers.sidecar.python_program import PATIENT_SECONDS, Run, prepared, run_python
from sappers.sidecar.randomness import reseed_process
from sappers.sidecar.settings import (
    Configuration,
    ImageSettings,
    environment_of,
    fixed_environment,
    load_image_settings,
)
from sappers.sidecar.unikernel_control import TcpControlPort

if TYPE_CHECKING:
    from sappers.sidecar.guest import Guest

_BYTES_BEFORE_NEW_SEED = 1 << 17  # twice as many as it takes
_IMPORTED_LATE = ("asyncio", "ssl", "encodings.idna", "sappers.sidecar.unikernel_guest")


class Program:
    """An application that is a program of its own, in this process.

    Attributes:
        prepared: Whether it got ready to be saved, in the guest that this one was cloned from.
        exit_text: How it ended; empty as long as it runs.
    """

    def __init__(self, settings: ImageSettings) -> None:
        self._settings = settings
        self._run: Run | None = None
        self.prepared = False
        self.exit_text = ""

    def prepare(self) -> None:
        """Do what every guest does first, where it says how."""
        self.prepared = True
        os.environ.update(fixed_environment(self._settings))
        if self._settings.launch.prepare:
            self._run = prepared(self._settings.application, self._settings.launch)

    def run(self) -> None:
        """Run it in this thread until it ends."""
        code: Any = 0
        try:
            run_python(self._settings.application, self._settings.launch, self._run)
        except SystemExit as request:
            code = request.code
            if code is not None and not isinstance(code, int):
                sys.stderr.write(f"{code}\n")
                code = 1
        except BaseException:
            traceback.print_exc()
            code = 1
        self.exit_text = f"the application ended with exit code {code or 0}"
        say("application-ended", reason=self.exit_text)

    def end(self, grace_seconds: float) -> None:
        """Ask it to end, if it listens to SIGTERM, and give it that long."""
        listens = callable(signal.getsignal(signal.SIGTERM))
        main = threading.main_thread().ident
        if self.exit_text or not listens or main is None:
            return
        deadline = time.monotonic() + grace_seconds
        with contextlib.suppress(OSError):
            signal.pthread_kill(main, signal.SIGTERM)
        while not self.exit_text and time.monotonic() < deadline:
            time.sleep(0.02)


def main() -> NoReturn:
    """Be configured, serve, end; the machine switches itself off with its only process."""
    mend_sockets()
    settings = load_image_settings()
    port = TcpControlPort()
    say("waiting-for-configuration")
    program = None if settings.in_process else Program(settings)
    configuration = port.wait_for_configuration(partial(_prepare, settings, program), _switch_off)
    _take(configuration)
    os.environ.update(environment_of(settings, configuration))
    say("configured", allocation=configuration.allocation_id)
    listener = open_listener()  # before the program runs, which may look for it at once
    if program is None:
        _serve(settings, configuration, port, None, listener)
    sidecar = threading.Thread(
        target=_serve,
        args=(settings, configuration, port, program, listener),
        name="sidecar",
        daemon=True,
    )
    sidecar.start()
    with contextlib.suppress(OSError):
        os.chdir(settings.launch.folder)
    program.run()
    sidecar.join()
    os._exit(1)


def mend_sockets() -> None:
    """Have unconnected sockets say that they are.

    Nanos names `0.0.0.0`, port 0, as the peer of one, and asyncio then believes its UDP sockets
    connected and sends to nobody.
    """
    told = socket.socket.getpeername

    def getpeername(self: socket.socket) -> Any:
        peer = told(self)
        if isinstance(peer, tuple) and peer[1] == 0:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return peer

    socket.socket.getpeername = getpeername  # type: ignore[method-assign, assignment]


def _prepare(settings: ImageSettings, program: Program | None) -> None:
    """Do now what every guest of this image would do later."""
    for module in _IMPORTED_LATE:
        importlib.import_module(module)
    own = (settings.application,) if settings.in_process else settings.preload
    for module in own:
        with contextlib.suppress(Exception):  # the guest itself will say what is wrong
            importlib.import_module(module)
    if program is not None:
        with contextlib.suppress(Exception):
            program.prepare()
    reseed_process()  # the first time takes a tenth of a second
    gc.collect()
    gc.freeze()  # later collections leave these pages alone, so that clones go on sharing them
    say("prepared")


def _take(configuration: Configuration) -> None:
    """Take the clock and the randomness that the member gives.

    Nanos seeds itself anew from the processor once it has given out so many bytes, and takes no
    seed of ours. Until then guests that started from one checkpoint draw the same numbers.
    """
    with contextlib.suppress(OSError):
        time.clock_settime(time.CLOCK_REALTIME, configuration.now)
    os.urandom(_BYTES_BEFORE_NEW_SEED)
    reseed_process()
    if tls := sys.modules.get("_ssl"):
        tls.RAND_add(configuration.seed, float(len(configuration.seed)))


def _serve(
    settings: ImageSettings,
    configuration: Configuration,
    port: TcpControlPort,
    program: Program | None,
    listener: socket.socket | None,
) -> NoReturn:
    """Run the sidecar until the member asks for the end, then end the machine."""
    try:
        import asyncio  # late on purpose

        if program is not None and program.prepared:
            time.sleep(PATIENT_SECONDS)

        async def serve() -> float:
            return await _guest(settings, configuration, port, program, listener).serve()

        grace_seconds = asyncio.run(serve())
        say("shutting-down")
        if program is not None:
            program.end(grace_seconds)
    except BaseException:
        traceback.print_exc()
        _end(1)
    _switch_off()


def _guest(
    settings: ImageSettings,
    configuration: Configuration,
    port: TcpControlPort,
    program: Program | None,
    listener: socket.socket | None,
) -> Guest:
    from sappers.sidecar.unikernel_guest import UnikernelGuest  # late on purpose: imports nats

    return UnikernelGuest(settings, configuration, port, program, listener)


def _switch_off() -> NoReturn:
    _end(0)


def _end(code: int) -> NoReturn:
    """End the only process, at once, whatever its threads do."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)

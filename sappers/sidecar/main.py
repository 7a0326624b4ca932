"""PID 1 of a guest. It never returns: should it fail, the kernel panics and the member sees it.

The order is for speed: the application is forked first and imports while the hub's client, half a
second of imports, is still to come.

It is for checkpoints too: until the configuration comes there is no way out, no socket and no
number that another guest must not have. A member that makes a checkpoint sends `prepare` instead of
a configuration; everything is then imported, and the machine is saved as it waits. A guest that
starts from there first gets a clock, randomness and a name of its own, and its network last.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import time
from functools import partial

from sappers.sidecar import machine
from sappers.sidecar.application import ApplicationProcess
from sappers.sidecar.control import ControlPort, find_port
from sappers.sidecar.local_socket import open_listener
from sappers.sidecar.log import say
from sappers.sidecar.python_program import PATIENT_SECONDS
from sappers.sidecar.randomness import reseed_process
from sappers.sidecar.settings import (
    Configuration,
    ImageSettings,
    environment_of,
    fixed_environment,
    load_image_settings,
)

_MODEST, _MODEST_SECONDS = 19, 0.5
_IMPORTED_LATE = ("asyncio", "ssl", "encodings.idna", "sappers.sidecar.guest")
# QEMU's user-mode network always looks like this from inside.
_ADDRESS, _NETMASK, _GATEWAY = "10.0.2.15", "255.255.255.0", "10.0.2.2"


def main() -> None:
    """Boot the guest, serve, switch off."""
    machine.use_one_arena()
    machine.mount_system_folders()
    machine.tidy_memory_late()
    settings = load_image_settings()
    machine.load_modules(settings.modules)
    machine.bring_up_loopback()
    machine.ready_network(_ADDRESS, _NETMASK)
    process = None
    if not settings.in_process:
        process = ApplicationProcess(settings.application, settings.preload, settings.launch)
    listener = open_listener(settings.launch.root)
    port = ControlPort(find_port())
    say("waiting-for-configuration")
    configuration = port.wait_for_configuration(
        partial(_prepare, settings, process), machine.power_off
    )
    machine.reseed(configuration.seed)
    machine.set_clock(configuration.now)
    machine.take_name(configuration.allocation_id, ("/", settings.launch.root))
    machine.join_network(_GATEWAY, configuration.mac)
    environment = environment_of(settings, configuration)
    if process is not None:
        process.start(environment)
        if process.prepared:
            time.sleep(PATIENT_SECONDS)
        os.setpriority(os.PRIO_PROCESS, 0, _MODEST)  # it goes first: there is one processor
    reseed_process()  # the application's process does the same
    if settings.in_process:
        os.environ.update(environment)  # else it is another's, and may hold SSLKEYLOGFILE
    say("configured", allocation=configuration.allocation_id)
    _serve(settings, configuration, port, process, listener)
    machine.power_off()


def _prepare(settings: ImageSettings, process: ApplicationProcess | None) -> None:
    """Do now what every guest of this image would do later; then hold still."""
    for module in _IMPORTED_LATE:
        importlib.import_module(module)
    if process is None:
        with contextlib.suppress(Exception):  # the guest itself will say what is wrong
            importlib.import_module(settings.application)
    else:
        process.prepare(fixed_environment(settings))
    reseed_process()  # the first time takes a tenth of a second
    gc.collect()
    gc.freeze()  # later collections leave these pages alone, so that clones go on sharing them
    say("prepared")


def _serve(
    settings: ImageSettings,
    configuration: Configuration,
    port: ControlPort,
    process: ApplicationProcess | None,
    listener: socket.socket | None,
) -> None:
    import asyncio  # late on purpose

    from sappers.sidecar.guest import Guest  # late on purpose: imports nats

    async def serve() -> float:
        restore = partial(os.setpriority, os.PRIO_PROCESS, 0, 0)
        asyncio.get_running_loop().call_later(_MODEST_SECONDS, restore)
        return await Guest(settings, configuration, port, process, listener).serve()

    grace_seconds = asyncio.run(serve())
    say("shutting-down")
    if process is not None:
        _end(process, grace_seconds)


def _end(process: ApplicationProcess, grace_seconds: float) -> None:
    deadline = time.monotonic() + grace_seconds
    process.send_signal(signal.SIGTERM)
    while process.alive and time.monotonic() < deadline:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == process.pid:
            process.ended(status)
        elif not ended:
            time.sleep(0.02)
    process.send_signal(signal.SIGKILL)

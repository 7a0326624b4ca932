"""Transient systemd units: a process of its own unit, which no restart of the agent touches."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from sappers.errors import SupervisorError
from sappers.ports import OUTPUT_LOG, UnitSpec, UnitStatus
from sappers.supervision.as_user import as_user

_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "MainPID"),
    *("ExecMainCode", "ExecMainStatus", "ExecMainStartTimestampMonotonic"),
)
_KILLED_CODES = ("2", "3")  # CLD_KILLED, CLD_DUMPED
_ALIVE_STATES = ("activating", "reloading", "deactivating")
_FIRST_OWN_CODE = 200  # systemd's own exit codes: the program could not be run
_POLL_SECONDS = 0.1
_KILL_WAIT_SECONDS = 5.0


# Where /etc/resolv.conf leads to on hosts that do not write it by hand.
_RESOLV_CONF_FOLDERS = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")

# What a guest or the hub needs no more than its folder, its sockets and its processor for: whoever
# takes one over is alone in it. They begin as root; all but the gateway's master go on as others.
# A guest's start waits for each path here. So what the lack of capabilities and the filter of
# system calls forbid is not said once more: to set a host name or a clock, to load a module, to
# read the kernel's log and memory, or where in it things are.
_SANDBOX = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_NET_BIND_SERVICE",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    # As wholes: two paths instead of a dozen.
    "ReadOnlyPaths": "/proc /sys",
    # The sockets of systemd and D-Bus obey root, as which each unit begins. And
    # systemd 252 lets a service with a /proc of its own write to /run, whatever ProtectSystem says.
    "TemporaryFileSystem": "/run:ro",
    "BindReadOnlyPaths": " ".join(f"-{folder}" for folder in _RESOLV_CONF_FOLDERS),
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service seccomp",  # QEMU has a filter of its own
    "SystemCallErrorNumber": "EPERM",
    "LimitCORE": "0",
    # The agent trims logs long before; this holds while there is no agent.
    "LimitFSIZE": "256M",
    "DevicePolicy": "closed",  # null, zero, random and the like, and what a unit is given
}


class SystemdSupervisor:
    """Runs processes as transient services; implements `ports.Supervisor`."""

    async def start(self, spec: UnitSpec) -> None:
        """Start it; an ended unit of the same name is cleared first.

        Raises:
            SupervisorError: It runs already or cannot be started.
        """
        known = await self.status(spec.name)
        if known is not None:
            if known.running:
                raise SupervisorError(f"{spec.name} runs already")
            await self._forget(spec.name)
        code, output = await _run(*run_command(spec))
        if code != 0 and not await self._ran(spec.name):
            await self._forget(spec.name)
            raise SupervisorError(
                f"systemd cannot start {spec.name}: {output.strip()[-500:]}",
                hint=f"see `journalctl -u {spec.name}`",
            )

    async def stop(self, name: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL; forget it. Nothing to do when it is not known."""
        if await self.status(name) is None:
            return
        for number, wait_seconds in (
            (signal.SIGTERM, grace_seconds),
            (signal.SIGKILL, _KILL_WAIT_SECONDS),
        ):
            await _kill(name, number)
            if await self._ended(name, wait_seconds):
                break
        await self._forget(name)

    async def send_signal(self, name: str, number: signal.Signals) -> None:
        """Send it a signal, by systemd: agents may not, where it is another user's.

        Raises:
            SupervisorError: It does not run.
        """
        code, output = await _kill(name, number)
        if code != 0:
            raise SupervisorError(f"systemd cannot signal {name}: {output.strip()[-500:]}")

    async def status(self, name: str) -> UnitStatus | None:
        """How it is, or None when it is not known."""
        found = await self._show(_unit(name))
        return found[0] if found else None

    async def list(self, prefix: str) -> tuple[UnitStatus, ...]:
        """All known units whose name begins so."""
        return await self._show(f"{prefix}*.service")

    async def _ran(self, name: str) -> bool:
        """Whether a unit whose start failed did run its program, which then ended at once."""
        unit = await self.status(name)
        return (
            unit is not None
            and unit.exit_code is not None
            and (0 < unit.exit_code < _FIRST_OWN_CODE)
        )

    async def _show(self, pattern: str) -> tuple[UnitStatus, ...]:
        properties = f"--property={','.join(_PROPERTIES)}"
        code, output = await _run("systemctl", "show", properties, pattern)
        if code != 0:
            raise SupervisorError(f"systemctl fails: {output.strip()[-500:]}")
        units = (read_properties(block) for block in output.split("\n\n") if block.strip())
        return tuple(unit for unit in units if unit is not None)

    async def _ended(self, name: str, wait_seconds: float) -> bool:
        deadline = time.monotonic() + wait_seconds
        while True:
            unit = await self.status(name)
            if unit is None or not unit.running:
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)

    async def _forget(self, name: str) -> None:
        # Both may find nothing to do, and say so with an exit code.
        await _run("systemctl", "stop", _unit(name))
        await _run("systemctl", "reset-failed", _unit(name))


def run_command(spec: UnitSpec) -> tuple[str, ...]:
    """The systemd-run command for a unit.

    `RemainAfterExit` keeps the exit code of a process that ended well; it would be forgotten.
    """
    log = f"append:{Path(spec.working_directory) / OUTPUT_LOG}"
    properties = {
        "Type": "exec",
        "RemainAfterExit": "yes",
        "Restart": "no",
        "KillMode": "control-group",
        "UMask": "0077",
        "WorkingDirectory": spec.working_directory,
        "ReadWritePaths": spec.writes or spec.working_directory,
        "StandardOutput": log,
        "StandardError": log,
        **_SANDBOX,
    }
    if spec.capabilities:
        bounds = (properties["CapabilityBoundingSet"], *spec.capabilities)
        properties["CapabilityBoundingSet"] = " ".join(bounds)
    if spec.alone_in:
        properties["TemporaryFileSystem"] += f" {spec.alone_in}:ro"
        properties["BindReadOnlyPaths"] += f" {spec.working_directory}"
        if spec.writes:
            properties["BindPaths"] = spec.writes
    if spec.device:
        properties["DeviceAllow"] = f"{spec.device} rw"
    for name, command in (("ExecStartPre", spec.prepare), ("ExecStopPost", spec.clean_up)):
        if command:
            properties[name] = "+" + " ".join(_quoted(word) for word in command)
    if spec.standard_input:
        properties |= {"StandardInput": f"file:{spec.standard_input}"}
    if spec.memory_max_mib is not None:
        properties |= {"MemoryMax": f"{spec.memory_max_mib}M", "MemorySwapMax": "0"}
    return (
        *("systemd-run", "--quiet", "--no-ask-password", f"--unit={_unit(spec.name)}"),
        f"--description={spec.description or spec.name}",
        *(f"--property={key}={value}" for key, value in properties.items()),
        "--",
        *as_user(spec.user_id),
        *(word.replace("$", "$$") for word in spec.command),  # systemd expands variables
    )


def _quoted(word: str) -> str:
    """A word of a command, as systemd reads it in a property."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def read_properties(text: str) -> UnitStatus | None:
    """One unit from `systemctl show`; None when systemd does not know it."""
    values: Mapping[str, str] = dict(
        line.split("=", 1) for line in text.splitlines() if "=" in line
    )
    if values.get("LoadState") != "loaded":
        return None
    active, sub = values.get("ActiveState", ""), values.get("SubState", "")
    running = sub == "running" or active in _ALIVE_STATES
    started = int(values.get("ExecMainStartTimestampMonotonic") or 0)
    pid = int(values.get("MainPID") or 0)
    return UnitStatus(
        name=values["Id"].removesuffix(".service"),
        running=running,
        exit_code=None if running else _exit_code(values),
        started_at=started / 1e6 if started else None,
        pid=pid or None,
    )


def _exit_code(values: Mapping[str, str]) -> int:
    """As a shell would say it: 128 and the signal's number for a process that was killed."""
    status = int(values.get("ExecMainStatus") or 0)
    return 128 + status if values.get("ExecMainCode") in _KILLED_CODES else status


def _unit(name: str) -> str:
    return f"{name}.service"


async def _kill(name: str, number: signal.Signals) -> tuple[int, str]:
    return await _run("systemctl", "kill", f"--signal={number.name}", _unit(name))


async def _run(*command: str) -> tuple[int, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise SupervisorError(f"cannot run {command[0]}: {error.strerror}") from error
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace")

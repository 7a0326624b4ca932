"""What a guest is told: by its image when it was built, and by its member when it starts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sappers.sidecar.links import link_variable

SETTINGS_PATH = "/etc/sappers/guest.json"


@dataclass(frozen=True)
class HealthCheck:
    """What must hold for the guest to call itself healthy.

    Attributes:
        kind: `http`: the path answers a status below 400; `tcp`: the port accepts; `exec`: the
            command ends with exit code 0; `process`: the application lives, and it says itself how
            it is if it runs in the sidecar's process.
        command: Run as the application is, in its root and folder.
    """

    kind: Literal["http", "tcp", "exec", "process"] = "process"
    port: int = 0
    path: str = "/"
    timeout_seconds: float = 2.0
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launch:
    """How the application's process is run.

    Attributes:
        kind: `module`, by name; `script`, a Python file; `program`, whatever the kernel executes.
        root: The folder that becomes its root.
        folder: Where it starts, below its root.
        groups: Supplementary groups.
        prepare: Function of the module that is called before the guest knows who it is, so that a
            checkpoint holds what it did; what it returns is called to run the application.
    """

    kind: Literal["module", "script", "program"] = "module"
    arguments: tuple[str, ...] = ()
    root: str = "/"
    folder: str = "/app"
    user_id: int = 1000
    group_id: int = 1000
    groups: tuple[int, ...] = ()
    prepare: str = ""


@dataclass(frozen=True)
class ImageSettings:
    """What the image fixes.

    Attributes:
        modules: Kernel modules to load, in order.
        application: Module name, or the path of a script or program.
        in_process: Run it inside the sidecar (`async def run(guest)`), not as a process of its own.
        preload: Modules that the application's process imports before it is told who it is, so that
            a checkpoint holds them. They must open nothing and draw no secrets.
    """

    application: str
    in_process: bool = False
    preload: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    check: HealthCheck = HealthCheck()
    launch: Launch = Launch()


@dataclass(frozen=True)
class HubAccess:
    """How to reach the hub.

    Attributes:
        servers: `ip:port` of each.
        ca_pem: The cluster's CA; without one the connection is not encrypted (tests only).
        tls_name: What a server's certificate must name, unless `names` has one of its own.
        credentials: A NATS credentials file's text.
    """

    servers: tuple[str, ...] = ()
    ca_pem: str = ""
    tls_name: str = ""
    credentials: str = field(default="", repr=False)
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """What only the member knows; comes over the control port, is kept in memory alone.

    Attributes:
        workload: Whose copy this guest is.
        now: Unix time in seconds.
        seed: For the kernel's randomness.
        mac: The interface's address, `02:…`; its own when empty.
        links: Where services answer that the workload is linked to, `ip:port`, by the link's name.
        term: Of the leader who chose the hub's servers; what an older one chose is refused.
    """

    allocation_id: str
    hub: HubAccess
    health_interval_seconds: float = 1.0
    now: float = 0.0
    seed: bytes = field(default=b"", repr=False)
    mac: str = ""
    workload: str = ""
    links: dict[str, str] = field(default_factory=dict)
    term: int = 0


def load_image_settings(path: str = SETTINGS_PATH) -> ImageSettings:
    """What the builder wrote into the image."""
    raw = json.loads(Path(path).read_bytes())
    launch = raw.get("launch", {})
    lists = {key: tuple(launch.get(key, ())) for key in ("arguments", "groups")}
    return ImageSettings(
        **raw
        | {key: tuple(raw.get(key, ())) for key in ("modules", "preload")}
        | {"check": _check(raw.get("check", {})), "launch": Launch(**launch | lists)}
    )


def _check(raw: dict[str, Any]) -> HealthCheck:
    return HealthCheck(**raw | {"command": tuple(raw.get("command", ()))})


def read_configuration(raw: dict[str, Any]) -> Configuration:
    """A `configure` message's content.

    Raises:
        KeyError, TypeError, ValueError: It is not one.
    """
    hub = raw["hub"]
    return Configuration(
        allocation_id=str(raw["allocation_id"]),
        hub=HubAccess(
            tuple(hub["servers"]),
            hub["ca_pem"],
            hub["tls_name"],
            hub.get("credentials", ""),
            {str(server): str(name) for server, name in hub.get("names", {}).items()},
        ),
        health_interval_seconds=float(raw.get("health_interval_seconds", 1.0)),
        now=float(raw["now"]),
        seed=bytes.fromhex(raw["seed"]),
        mac=str(raw.get("mac", "")),
        workload=str(raw.get("workload", "")),
        links={str(link): str(place) for link, place in raw.get("links", {}).items()},
        term=int(raw.get("term", 0)),
    )


def environment_of(settings: ImageSettings, configuration: Configuration) -> dict[str, str]:
    """What the application, and the command that checks it, find in their environment."""
    return {
        **fixed_environment(settings),
        "SAPPERS_ALLOCATION_ID": configuration.allocation_id,
        "SAPPERS_WORKLOAD": configuration.workload,
        **{link_variable(link): place for link, place in configuration.links.items()},
    }


def fixed_environment(settings: ImageSettings) -> dict[str, str]:
    """What of it is the same in every guest of the image."""
    return {
        "PATH": "/usr/bin",
        "HOME": "/app",
        "LANG": "C.UTF-8",
        "SAPPERS_PORT": str(settings.check.port),
        **settings.environment,
    }

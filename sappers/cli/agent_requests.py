"""What `sappers` may ask a running agent for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from sappers.ports import LogLevel


class Launch(msgspec.Struct, frozen=True):
    """A workload to launch.

    Attributes:
        kind: What its image must be.
        image: A file, or None for the cluster's image of the name.
        service: Its name in Consul; the workload's when empty.
        port: What it listens on; the image's when None.
    """

    name: str
    kind: Literal["nanos", "microvm"]
    image: Path | None
    service: str
    port: int | None

    @property
    def flag(self) -> str:
        """The flag that asks for it."""
        return "--launch-nanovm" if self.kind == "nanos" else "--launch-microvm"


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """All of one command line.

    Attributes:
        healers: Let the cluster's healers log in to this host.
    """

    launch: Launch | None
    snapshot: bool
    healers: bool
    log_level: LogLevel | None

    @property
    def needs_agent(self) -> bool:
        """Whether it makes no sense while no agent runs."""
        return self.launch is not None or self.snapshot or self.healers

    @property
    def any(self) -> bool:
        """Whether a running agent is asked for anything."""
        return self.needs_agent or self.log_level is not None

"""Policies: limits and deadlines that decisions are made by."""

from __future__ import annotations

import msgspec


class ImageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a member's network images may take.

    Attributes:
        uploads_at_once: Chunks that are sent to others at one time; further ones are told to wait.
        downloads_at_once: Chunks that are fetched at one time.
        download_mbit_per_second: Bound on fetching from other members; 0 is none.
        upload_mbit_per_second: Bound on sending to others; 0 is none.
    """

    uploads_at_once: int = 8
    downloads_at_once: int = 8
    download_mbit_per_second: float = 0.0
    upload_mbit_per_second: float = 0.0


class EventSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of what happened a member keeps in its files; the newest 1,000 are in the state.

    Attributes:
        keep_days: Older events go.
        keep_mib: The oldest go once the files have more.
    """

    keep_days: float = 400.0
    keep_mib: float = 64.0


class HealthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a guest counts as failed, and what follows.

    Attributes:
        push_deadline_seconds: Silence after which a healthy guest is unhealthy.
        boot_deadline_seconds: Time from launch to the first push; generous, for TCG.
        restart_delay_seconds: Wait before the first restart; doubled each time.
        restarts_max: After so many on one member the allocation fails there.
        restart_reset_seconds: Health that lasted so long clears the count.
        drain_seconds: A guest that gateways send requests to goes on for so long once it is wanted
            no more.
    """

    push_deadline_seconds: float = 10.0
    boot_deadline_seconds: float = 90.0
    restart_delay_seconds: float = 1.0
    restart_delay_max_seconds: float = 60.0
    restarts_max: int = 3
    restart_reset_seconds: float = 300.0
    drain_seconds: float = 3.0


class ElectorateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who votes, and how long a voter may be away.

    Attributes:
        size: How many voters there should be: 1, 3 or 5; 0: three, or five from seven members on.
        replace_after_seconds: A voter that has been dead for so long is replaced.
    """

    size: int = 0
    replace_after_seconds: float = 30.0


class FencingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How exclusive guests are kept from running twice; see docs/fencing.md.

    Attributes:
        lease_seconds: A guest of an exclusive workload ends when its member has not heard of the
            quorum for so long. The leader stamps it on what it places.
        command: Program and arguments that cut a dead member's host off from power; the leader
            runs it. None when empty.
        command_seconds: Time that it has.
    """

    lease_seconds: float = 15.0
    command: tuple[str, ...] = ()
    command_seconds: float = 30.0

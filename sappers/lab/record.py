"""What a lab is meant to be, on disk before anything of it exists."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec

from sappers.durable import write_durably
from sappers.errors import LabError
from sappers.lab.plan import HOSTS_DEFAULT, HostSpec, LabPlan, check_host_count


class LabRecord(msgspec.Struct, frozen=True):
    """A lab's hosts.

    Attributes:
        base: The base root that the hosts' overlays lie on; another would corrupt them.
        hosts: By number, from 1 without a gap.
    """

    base: str
    hosts: tuple[HostSpec, ...] = ()

    def extended(self, plan: LabPlan, count: int | None) -> LabRecord:
        """With at least `count` hosts; a lab without any gets three. None is ever taken away.

        Raises:
            LabError: A lab cannot have so many.
        """
        wanted = max(len(self.hosts), count or (0 if self.hosts else HOSTS_DEFAULT))
        check_host_count(wanted)
        new = (plan.host(n, uuid.uuid4().hex) for n in range(len(self.hosts) + 1, wanted + 1))
        return msgspec.structs.replace(self, hosts=(*self.hosts, *new))

    def with_host(self, spec: HostSpec) -> LabRecord:
        """With this host in place of the one of its name.

        Raises:
            LabError: Another host has its address.
        """
        others = [host for host in self.hosts if host.name != spec.name]
        for other in others:
            if other.address == spec.address:
                raise LabError(f"{spec.address} is {other.name}'s address already")
        hosts = (spec if host.name == spec.name else host for host in self.hosts)
        return msgspec.structs.replace(self, hosts=tuple(hosts))


def load_record(path: Path) -> LabRecord | None:
    """The record, or None when there is no lab.

    Raises:
        LabError: The file is damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabRecord)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LabError(f"{path} is damaged: {error}", hint="run sappers-deploy lab down") from error


def save_record(path: Path, record: LabRecord) -> None:
    """Write the record, whole or not at all, through to the disk."""
    write_durably(path, msgspec.json.format(msgspec.json.encode(record)))

"""What each guest's QEMU is to be like on this host."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sappers.launchers import command
from sappers.launchers.guest_folder import GuestFolder
from sappers.launchers.guest_identity import mac_for, user_id_for
from sappers.model.allocation import Allocation
from sappers.model.image import Manifest, MicrovmBoot, NanosBoot
from sappers.model.member import Accelerator

_PRIVATE_ADDRESS = "127.0.0.1"


class GuestSpecs:
    """Specifications of guests; those of one image differ in little.

    Args:
        root: `STATE_DIR/guests`.
        accelerator: How guests run on this host.
        address: This member's address; published ports are there.
    """

    def __init__(self, root: Path, accelerator: Accelerator, address: str) -> None:
        self._root = root
        self._accelerator = accelerator
        self._address = address

    def of(self, allocation: Allocation, manifest: Manifest) -> command.GuestSpec:
        """An allocation's guest."""
        guest_port = allocation.guest_port
        nobody = self.of_nobody(manifest, allocation.memory_mib)
        return msgspec.structs.replace(
            nobody,
            allocation_id=allocation.id,
            address=_PRIVATE_ADDRESS if allocation.private else self._address,
            guest_port=guest_port,
            host_port=guest_port if allocation.host_port is None else allocation.host_port,
            mac=mac_for(allocation.id),
            user_id=None if nobody.user_id is None else user_id_for(allocation.id),
            lease_file=str(GuestFolder(self._root, allocation.id).lease)
            if allocation.is_exclusive
            else "",
        )

    def of_nobody(self, manifest: Manifest, memory_mib: int) -> command.GuestSpec:
        """What all guests of an image with so much memory have alike on this host."""
        root = os.geteuid() == 0
        groups: tuple[int, ...] = ()
        if root and self._accelerator.kind == "kvm":
            groups = (Path(command.device_of(self._accelerator)).stat().st_gid,)
        cpuinfo = Path("/proc/cpuinfo").read_text()
        return command.GuestSpec(
            allocation_id="template",
            memory_mib=memory_mib,
            accelerator=self._accelerator,
            address="",
            tsc_khz=command.host_tsc_khz(cpuinfo),
            user_id=user_id_for(f"template {manifest.name}") if root else None,
            groups=groups,
            has_root=isinstance(manifest.boot, MicrovmBoot) and manifest.boot.root is not None,
            kind="nanos" if isinstance(manifest.boot, NanosBoot) else "microvm",
            processor_random=command.gives_random_numbers(self._accelerator, cpuinfo),
        )

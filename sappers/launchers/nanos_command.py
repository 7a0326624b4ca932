"""What QEMU is told for a Nanos unikernel where it differs from a Linux micro-VM: pure.

Nanos boots from its disk, on a PC with a PCI bus. It has no virtio-serial: the control port is an
address of the guest's own network, whose connections QEMU takes as the socket's other end.
"""

from __future__ import annotations

MACHINE = "q35"
DISK = "disk"
CONTROL_ADDRESS = "10.0.2.100:1"  # as `sidecar.unikernel_control` has it
DEVICES_END = "isa-debug-exit,iobase=0x501,iosize=4"

# A guest writes into a copy of its own, which has no name and goes with its QEMU. It is in the
# guest's folder, and no larger than the disk.
TEMPORARY_FILES_HERE = ("/usr/bin/env", "TMPDIR=.")


def devices(network: str, mac: str, control: str, *, processor_random: bool) -> tuple[str, ...]:
    """The disk, the network with the control port in it, randomness, the exit code.

    Args:
        network: Options of the user-mode network, with a comma before each.
        mac: The network card's address.
        control: The character device that is the control port's end on the host.
        processor_random: Whether the guest's processor gives random numbers. Then it gets no other
            source: Nanos keeps much of that one's in memory, which clones would use as well.
    """
    forward = f",guestfwd=tcp:{CONTROL_ADDRESS}-chardev:{control}"
    return (
        *("-drive", f"if=none,id={DISK},format=raw,snapshot=on,file={DISK}"),
        *("-device", f"virtio-blk-pci,drive={DISK}"),
        *(() if processor_random else ("-device", "virtio-rng-pci")),
        *("-netdev", f"user,id=net{network}{forward}"),
        *("-device", f"virtio-net-pci,netdev=net,mac={mac},romfile="),
        *("-device", DEVICES_END),
    )

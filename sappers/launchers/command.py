"""The QEMU command line of a guest: pure, so that it can be tested as data.

All files are named relative to the guest's own folder, QEMU's working directory: the user it runs
as may enter no folder above.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Literal

import msgspec

from sappers.errors import LaunchError
from sappers.launchers import nanos_command, watchdog
from sappers.launchers.guest_identity import CONTROL_SOCKET, SERIAL_LOG
from sappers.model.image import Blob, Boot, MicrovmBoot, NanosBoot
from sappers.model.member import Accelerator

KERNEL, INITRD, ROOT = "kernel", "initrd", "root"
MEMORY = "/proc/self/fd/0"  # a template's memory comes as QEMU's standard input
QMP_SOCKET = "qmp.sock"
EVENTS = "events"  # QEMU reads EVENTS.in and writes EVENTS.out
CONTROL_PORT = "sappers.control"
# Each clone has its own before its interface comes up. Nothing else in a memory looks like this.
TEMPLATE_MAC = "52:7a:9c:e5:3b:d1"
GUEST_ADDRESS = "10.0.2.15"

QEMU = "/usr/bin/qemu-system-x86_64"
# Under 32 boots take twice as long. A clone has nothing to boot: 17 hold what hello translates
# until its first answer, and 20 idle guests of 128 MiB fit into 1 GiB.
_TRANSLATION_CACHE_MIB, _CLONES_TRANSLATION_CACHE_MIB = 64, 17
_ROOT_DISK = (
    *("-drive", f"if=none,id=root,format=raw,readonly=on,file={ROOT}"),
    *("-device", "virtio-blk-device,drive=root"),
)
# The most that it may take, its unit's limit; placing counts on `scheduler.GUEST_OVERHEAD_MIB`.
_OVERHEAD_MIB = {"tcg": 256, "kvm": 160}
_PRIVILEGED_PORTS = 1024


class GuestSpec(msgspec.Struct, frozen=True):
    """What the command line depends on.

    Attributes:
        address: The member's address that the port is published at.
        mac: The network card's address.
        has_root: Its root file system is a disk of its own.
        kind: Of machine.
        processor_random: Whether the guest's processor gives random numbers.
        tsc_khz: The host's clock rate, or None when not known.
        user_id: Whom to run as, or None to stay who we are.
        groups: Groups beside, to open /dev/kvm.
        lease_file: What the watchdog of an exclusive guest reads; empty for any other guest.
    """

    allocation_id: str
    memory_mib: int
    accelerator: Accelerator
    address: str
    guest_port: int | None = None
    host_port: int | None = None
    tsc_khz: int | None = None
    user_id: int | None = None
    groups: tuple[int, ...] = ()
    mac: str = TEMPLATE_MAC
    has_root: bool = False
    kind: Literal["microvm", "nanos"] = "microvm"
    processor_random: bool = True
    lease_file: str = ""


def boot_files(boot: Boot, *, clone: bool = False) -> Mapping[str, Blob]:
    """What must be in the guest's folder, by name; a clone has its kernel in memory.

    Raises:
        LaunchError: It is a whole host's, which no guest can be.
    """
    match boot:
        case NanosBoot(disk):
            return {nanos_command.DISK: disk}
        case MicrovmBoot(kernel, initrd, root):
            files = {} if clone else {KERNEL: kernel, INITRD: initrd}
            return files if root is None else files | {ROOT: root}
    raise LaunchError("the image is a host's, which runs as a member and never as a guest")


def qemu_command(spec: GuestSpec) -> tuple[str, ...]:
    """A guest that boots: drop all privileges, then QEMU."""
    return (*_watched(spec), *_as_user(spec), *_qemu(spec), *_kernel(spec), *_devices(spec))


def template_command(spec: GuestSpec) -> tuple[str, ...]:
    """A guest that boots to be saved: its memory is a file, it is cut off from every network."""
    memory = _memory(spec, share="on")
    spec = msgspec.structs.replace(spec, host_port=None)
    gentle = ("/usr/bin/nice", "-n", "15")
    return (
        *gentle,
        *_as_user(spec),
        *_qemu(spec, memory),
        *_kernel(spec),
        *_devices(spec, cut_off=True),
    )


def clone_command(spec: GuestSpec) -> tuple[str, ...]:
    """A guest that begins where a template was saved, with its memory copied as it is written to.

    Kernel and initramfs are in that memory. Its port is published later, see `publishing`.
    """
    memory = _memory(spec, share="off")
    cache = _CLONES_TRANSLATION_CACHE_MIB
    return (
        *_watched(spec),
        *_as_user(spec),
        *_qemu(spec, memory, cache),
        *_devices(msgspec.structs.replace(spec, host_port=None)),
        *("-incoming", "defer"),
    )


def publishing(spec: GuestSpec) -> str:
    """What a clone's monitor is told once it is restored, so that its port is open; or empty.

    Restoring sets the clock of QEMU's network forward, by which all who have connected before wait
    too long already: they would be let in after six seconds.
    """
    forward = _forward(spec)
    return f"hostfwd_add net {forward}" if forward else ""


def _memory(spec: GuestSpec, share: str) -> tuple[str, ...]:
    file = f"memory-backend-file,id=memory,size={spec.memory_mib}M,mem-path={MEMORY},share={share}"
    return ("-object", file)


def _qemu(
    spec: GuestSpec, memory: tuple[str, ...] = (), cache_mib: int = _TRANSLATION_CACHE_MIB
) -> tuple[str, ...]:
    accel: str = spec.accelerator.kind
    if accel == "tcg":
        accel += f",tb-size={cache_mib}"
    nanos = spec.kind == "nanos"
    machine = nanos_command.MACHINE if nanos else "microvm"
    machine += ",memory-backend=memory" if memory else ""
    return (
        *(nanos_command.TEMPORARY_FILES_HERE if nanos else ()),
        *(QEMU, "-name", f"guest={spec.allocation_id}", "-M", machine, *memory),
        *("-accel", accel, "-cpu", "max", "-m", f"{spec.memory_mib}M"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
    )


def _kernel(spec: GuestSpec) -> tuple[str, ...]:
    if spec.kind == "nanos":
        return ()  # it is on the disk
    return ("-kernel", KERNEL, "-initrd", INITRD, "-append", kernel_arguments(spec))


def _devices(spec: GuestSpec, *, cut_off: bool = False) -> tuple[str, ...]:
    """Everything that a template and its clones must have alike."""
    network = ",restrict=on" if cut_off else _published(spec)
    return (
        # Opened for appending, so that the log can be cut while the guest runs.
        *("-chardev", f"file,id=serial,path={SERIAL_LOG},append=on", "-serial", "chardev:serial"),
        *("-chardev", f"socket,id=control,path={CONTROL_SOCKET},server=on,wait=off"),
        *(
            nanos_command.devices(
                network, spec.mac, "control", processor_random=spec.processor_random
            )
            if spec.kind == "nanos"
            else _microvm_devices(network, spec)
        ),
        *("-chardev", f"socket,id=qmp,path={QMP_SOCKET},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        # A second monitor that only writes events to a file: why a guest ended can be read
        # even when no agent was there to be told.
        *("-chardev", f"pipe,id=events,path={EVENTS}", "-mon", "chardev=events,mode=control"),
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    )


def _microvm_devices(network: str, spec: GuestSpec) -> tuple[str, ...]:
    return (
        *("-device", "virtio-rng-device"),
        *("-netdev", f"user,id=net{network}"),
        *("-device", f"virtio-net-device,netdev=net,mac={spec.mac},guest_announce=off"),
        *(_ROOT_DISK if spec.has_root else ()),
        *("-device", "virtio-serial-device,max_ports=2"),  # each port takes guest memory
        *("-device", f"virtserialport,chardev=control,name={CONTROL_PORT}"),
    )


def kernel_arguments(spec: GuestSpec) -> str:
    """The guest kernel's command line.

    Without the host's clock rate several boots at once hang for ever while they measure it. A
    locked-down kernel has no tracing, whose files alone take 9 MiB. What a kernel does against the
    speculation of a real processor does nothing on an emulated one, but costs a tenth of the time.
    The rest are accounts that nobody reads, rules that nobody gives, and pages of 2 MiB, which one
    byte would make a clone's own.
    """
    tsc = f" tsc_early_khz={spec.tsc_khz}" if spec.tsc_khz else ""
    emulated = " mitigations=off" if spec.accelerator.kind == "tcg" else ""
    return (
        f"console=ttyS0 quiet tsc=reliable{tsc} no_timer_check random.trust_cpu=on panic=-1 "
        f"lockdown=confidentiality lsm=landlock,lockdown,yama psi=0 cgroup_disable=memory "
        f"transparent_hugepage=madvise{emulated}"
    )


def host_tsc_khz(cpuinfo: str) -> int | None:
    """The clock rate in `/proc/cpuinfo`, or None when it does not say."""
    found = re.search(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.M)
    return int(float(found[1]) * 1000) if found else None


def gives_random_numbers(accelerator: Accelerator, cpuinfo: str) -> bool:
    """Whether a guest's processor does: QEMU's own always, the host's where it has RDRAND."""
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.M)
    return accelerator.kind == "tcg" or (flags is not None and "rdrand" in flags[1].split())


def memory_limit_mib(memory_mib: int, accelerator: Accelerator) -> int:
    """What the guest's processes may use: its memory, the kernel file, QEMU itself."""
    return memory_mib + _OVERHEAD_MIB[accelerator.kind]


def device_of(accelerator: Accelerator) -> str:
    """What in /dev QEMU opens, or empty."""
    return "/dev/kvm" if accelerator.kind == "kvm" else ""


def _published(spec: GuestSpec) -> str:
    forward = _forward(spec)
    return f",hostfwd={forward}" if forward else ""


def _forward(spec: GuestSpec) -> str:
    if spec.guest_port is None or spec.host_port is None:
        return ""
    return f"tcp:{spec.address}:{spec.host_port}-{GUEST_ADDRESS}:{spec.guest_port}"


def _watched(spec: GuestSpec) -> tuple[str, ...]:
    """The watchdog above an exclusive guest's QEMU; it needs CAP_KILL for another user's."""
    if not spec.lease_file:
        return ()
    return (sys.executable, "-I", "-S", watchdog.__file__, spec.lease_file)


def _as_user(spec: GuestSpec) -> tuple[str, ...]:
    if spec.user_id is None:
        return ()
    low_port = spec.host_port is not None and spec.host_port < _PRIVILEGED_PORTS
    capabilities = "-all,+net_bind_service" if low_port else "-all"
    groups = ",".join(str(group) for group in spec.groups)
    return (
        *("/usr/bin/setpriv", f"--reuid={spec.user_id}", f"--regid={spec.user_id}"),
        f"--groups={groups}" if groups else "--clear-groups",
        # Changing the user makes the kernel forget that QEMU is to end with its watchdog.
        *(("--pdeathsig=KILL",) if spec.lease_file else ()),
        "--no-new-privs",
        f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}",
        f"--bounding-set={capabilities}",
        "--",
    )

"""The QEMU command line of a Nanos guest, and what the end of one means."""

from __future__ import annotations

import msgspec
import pytest

from sappers.errors import LaunchError
from sappers.launchers.command import (
    GuestSpec,
    boot_files,
    clone_command,
    gives_random_numbers,
    qemu_command,
    template_command,
)
from sappers.launchers.verdict import Traces, reason_of
from sappers.model.image import ApplianceBoot, Blob, NanosBoot
from sappers.model.member import Accelerator
from sappers.ports import UnitStatus
from sappers.sidecar.unikernel_control import ADDRESS

TCG, KVM = Accelerator("tcg", ""), Accelerator("kvm", "")
SPEC = GuestSpec(
    "hello-1",
    128,
    TCG,
    "10.0.0.7",
    guest_port=8080,
    host_port=9000,
    kind="nanos",
    user_id=1879048200,
)


def values_after(command: tuple[str, ...], option: str) -> list[str]:
    return [command[at + 1] for at, word in enumerate(command) if word == option]


def test_it_boots_from_its_disk_on_a_pc_and_never_writes_to_it() -> None:
    command = qemu_command(SPEC)
    assert values_after(command, "-M") == ["q35"]
    assert "-kernel" not in command and "-append" not in command
    (disk,) = values_after(command, "-drive")
    assert {"snapshot=on", "format=raw", "file=disk"} <= set(disk.split(","))
    assert command[command.index("--") + 1 :][:2] == ("/usr/bin/env", "TMPDIR=.")


def test_the_control_port_is_where_the_sidecar_looks_for_it() -> None:
    for command in (qemu_command(SPEC), template_command(SPEC), clone_command(SPEC)):
        (network,) = values_after(command, "-netdev")
        assert f"guestfwd=tcp:{ADDRESS[0]}:{ADDRESS[1]}-chardev:control" in network
        assert any(
            one.startswith("socket,id=control,") for one in values_after(command, "-chardev")
        )
        assert not any("virtserialport" in one for one in values_after(command, "-device"))


def test_a_template_has_no_network_but_its_control_port() -> None:
    (network,) = values_after(template_command(SPEC), "-netdev")
    assert "restrict=on" in network and "hostfwd" not in network


def test_it_is_boxed_in_like_every_guest() -> None:
    command = qemu_command(SPEC)
    assert f"--reuid={SPEC.user_id}" in command and "--no-new-privs" in command
    (sandbox,) = values_after(command, "-sandbox")
    assert "spawn=deny" in sandbox


def test_random_numbers_come_from_the_processor_or_else_from_a_device() -> None:
    def sources(spec: GuestSpec) -> list[str]:
        return [one for one in values_after(qemu_command(spec), "-device") if "rng" in one]

    assert sources(SPEC) == []
    assert sources(msgspec.structs.replace(SPEC, processor_random=False)) == ["virtio-rng-pci"]


@pytest.mark.parametrize(
    ("accelerator", "flags", "there"),
    [(TCG, "fpu", True), (KVM, "fpu rdrand vmx", True), (KVM, "fpu rdrandx vmx", False)],
)
def test_whether_a_guests_processor_gives_them(accelerator, flags, there) -> None:
    assert gives_random_numbers(accelerator, f"flags\t\t: {flags}\nbugs\t:\n") is there


def test_what_must_be_in_the_guests_folder() -> None:
    disk = Blob("0" * 64, 1, ("0" * 64,))
    assert boot_files(NanosBoot(disk)) == boot_files(NanosBoot(disk), clone=True) == {"disk": disk}
    with pytest.raises(LaunchError, match="never as a guest"):
        boot_files(ApplianceBoot(disk))


@pytest.mark.parametrize(
    ("code", "serial", "output", "reason"),
    [
        (1, "", "", "the guest switched itself off"),
        (3, "", "", "the guest's program ended with exit code 1, SIGHUP"),
        (23, "", "", "the guest's program ended with exit code 11, SIGSEGV"),
        (85, "", "", "the guest's program ended with exit code 42"),
        (1, "", "qemu: no disk", "QEMU ended with exit code 1: qemu: no disk"),
        (253, '[1.0] page fault\n{"up": 1}\n', "", "the guest panicked: a fault: [1.0] page fault"),
        (255, "", "", "the guest panicked: a halt"),
        (137, "", "", "QEMU was killed by signal 9"),
    ],
)
def test_why_it_ended(code, serial, output, reason) -> None:
    unit = UnitStatus("sappers-guest-hello-1", running=False, exit_code=code)
    assert reason_of(unit, Traces(serial=serial, output=output)) == reason

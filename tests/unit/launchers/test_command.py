"""The QEMU command line, as data."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import msgspec
import pytest

from sappers.launchers.command import (
    GuestSpec,
    clone_command,
    host_tsc_khz,
    kernel_arguments,
    memory_limit_mib,
    publishing,
    qemu_command,
    template_command,
)
from sappers.launchers.guest_identity import mac_for, user_id_for
from sappers.model.member import Accelerator

TCG, KVM = Accelerator("tcg", ""), Accelerator("kvm", "")
SPEC = GuestSpec("hello-0a1b2c3d", 128, TCG, "10.0.0.7", guest_port=8080, host_port=80)


def changed(**values: object) -> tuple[str, ...]:
    return qemu_command(msgspec.structs.replace(SPEC, **values))


def value_after(command: tuple[str, ...], option: str) -> str:
    return command[command.index(option) + 1]


def test_the_port_is_published_at_the_members_address_only() -> None:
    netdev = value_after(qemu_command(SPEC), "-netdev")
    assert netdev == "user,id=net,hostfwd=tcp:10.0.0.7:80-10.0.2.15:8080"
    assert value_after(changed(guest_port=None), "-netdev") == "user,id=net"


def test_a_clones_port_is_published_once_it_is_restored() -> None:
    assert value_after(clone_command(SPEC), "-netdev") == "user,id=net"
    assert publishing(SPEC) == "hostfwd_add net tcp:10.0.0.7:80-10.0.2.15:8080"
    assert publishing(msgspec.structs.replace(SPEC, guest_port=None)) == ""


@pytest.mark.parametrize(("accelerator", "words"), [(TCG, "tcg,tb-size=64"), (KVM, "kvm")])
def test_accelerator(accelerator: Accelerator, words: str) -> None:
    assert value_after(changed(accelerator=accelerator), "-accel") == words


def test_every_guest_is_boxed_in() -> None:
    sandbox = value_after(qemu_command(SPEC), "-sandbox")
    assert sandbox.split(",")[0] == "on"
    for what in ("obsolete", "elevateprivileges", "spawn", "resourcecontrol"):
        assert f"{what}=deny" in sandbox


def test_it_runs_as_a_user_of_its_own_without_capabilities() -> None:
    command = changed(user_id=1879048200, host_port=8080)
    before = command[: command.index("--")]
    assert before[0] == "/usr/bin/setpriv"
    assert {"--reuid=1879048200", "--regid=1879048200", "--clear-groups"} <= set(before)
    assert {"--no-new-privs", "--bounding-set=-all", "--ambient-caps=-all"} <= set(before)


def test_a_low_port_needs_one_capability_and_kvm_one_group() -> None:
    command = changed(user_id=1879048200, host_port=80, groups=(108,))
    assert "--bounding-set=-all,+net_bind_service" in command
    assert "--groups=108" in command and "--clear-groups" not in command


def test_without_a_user_nothing_stands_before_qemu() -> None:
    assert qemu_command(SPEC)[0] == "/usr/bin/qemu-system-x86_64"


def test_paths_are_relative_to_the_guests_folder() -> None:
    assert not [word for word in qemu_command(SPEC)[1:] if "path=/" in word]


def with_clock(tsc_khz: int | None) -> GuestSpec:
    return msgspec.structs.replace(SPEC, tsc_khz=tsc_khz)


def test_a_real_processor_is_guarded_and_an_emulated_one_need_not_be() -> None:
    assert "mitigations=off" in kernel_arguments(SPEC)
    real = msgspec.structs.replace(SPEC, accelerator=KVM)
    assert "mitigations" not in kernel_arguments(real)


def test_the_clock_rate_is_told_to_the_kernel() -> None:
    assert "tsc_early_khz=2596120 " in kernel_arguments(with_clock(2596120))
    assert "tsc_early_khz" not in kernel_arguments(with_clock(None))
    assert host_tsc_khz("model name : x\ncpu MHz\t\t: 2596.120\ncpu MHz\t: 1.0\n") == 2596120
    assert host_tsc_khz("Hardware : arm") is None


def test_guests_have_users_of_their_own_outside_of_all_ranges() -> None:
    users = {user_id_for(f"hello-{number:08x}") for number in range(500)}
    assert len(users) == 500
    assert all(0x70000000 <= user < 0x7FFFFFFF for user in users)


def test_emulation_takes_more_memory() -> None:
    assert memory_limit_mib(128, TCG) == 384
    assert memory_limit_mib(128, KVM) < memory_limit_mib(128, TCG)


def test_a_template_has_no_way_out_and_its_memory_is_the_file_it_was_given() -> None:
    command = template_command(SPEC)
    assert value_after(command, "-netdev") == "user,id=net,restrict=on"
    assert "memory-backend-file,id=memory,size=128M,mem-path=/proc/self/fd/0,share=on" in command
    assert value_after(command, "-M") == "microvm,memory-backend=memory"
    assert command[0] == "/usr/bin/nice"


@pytest.mark.parametrize("kind", ["microvm", "nanos"])
def test_every_guest_is_alone_in_a_network_of_its_own(kind: Literal["microvm", "nanos"]) -> None:
    """So it is nobody's harm that clones of a unikernel have one MAC address."""
    spec = msgspec.structs.replace(SPEC, kind=kind)
    for command in (qemu_command(spec), template_command(spec), clone_command(spec)):
        (network,) = (value for option, value in pairwise(command) if option == "-netdev")
        assert network.startswith("user,id=net")
        (card,) = (value for _, value in pairwise(command) if value.startswith("virtio-net-"))
        assert "netdev=net," in card


def test_a_clone_keeps_what_it_writes_to_itself_and_reads_no_kernel() -> None:
    command = clone_command(SPEC)
    assert "memory-backend-file,id=memory,size=128M,mem-path=/proc/self/fd/0,share=off" in command
    assert not {"-kernel", "-initrd", "-append"} & set(command)
    assert value_after(command, "-incoming") == "defer"


@pytest.mark.parametrize("has_root", [False, True])
def test_a_clone_has_the_devices_of_its_template(has_root: bool) -> None:
    spec = msgspec.structs.replace(SPEC, has_root=has_root)

    def devices(command: tuple[str, ...]) -> list[str]:
        pairs = pairwise(command)
        return [value for option, value in pairs if option in ("-device", "-drive", "-cpu", "-m")]

    assert devices(template_command(spec)) == devices(clone_command(spec))
    assert ("virtio-blk-device,drive=root" in devices(clone_command(spec))) is has_root


def test_both_are_boxed_in_as_every_guest() -> None:
    spec = msgspec.structs.replace(SPEC, user_id=1879048200)
    for command in (template_command(spec), clone_command(spec)):
        assert value_after(command, "-sandbox") == value_after(qemu_command(spec), "-sandbox")
        assert "--reuid=1879048200" in command


def test_every_guest_has_a_mac_address_of_its_own() -> None:
    addresses = {mac_for(f"hello-{number:08x}") for number in range(500)}
    assert len(addresses) == 500
    assert all(int(address[:2], 16) & 3 == 2 for address in addresses)  # local, and of one card
    assert mac_for("hello-1") == mac_for("hello-1")

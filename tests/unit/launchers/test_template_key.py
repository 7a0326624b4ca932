"""Which guests may start from the same template."""

from __future__ import annotations

import msgspec
import pytest

from sappers.launchers.command import GuestSpec
from sappers.launchers.template_key import Host, processor, template_key
from sappers.model.member import Accelerator

IMAGE = "1" * 64
HOST = Host("QEMU emulator version 7.2.22")
SPEC = GuestSpec("hello-1", 128, Accelerator("tcg", "no vmx"), "10.0.0.7", 8080, 80)
KEY = template_key(IMAGE, SPEC, HOST)


@pytest.mark.parametrize(
    "who",
    [
        {"allocation_id": "hello-2"},
        {"address": "10.0.0.8"},
        {"host_port": 81},
        {"guest_port": None},
        {"mac": "02:00:00:00:00:02"},
        {"user_id": 1879048193},
        {"tsc_khz": 2596121},
        {"accelerator": Accelerator("tcg", "for another reason")},
    ],
)
def test_who_a_guest_is_makes_no_difference(who: dict) -> None:
    assert template_key(IMAGE, msgspec.structs.replace(SPEC, **who), HOST) == KEY


@pytest.mark.parametrize(
    "what",
    [{"memory_mib": 129}, {"has_root": True}, {"accelerator": Accelerator("kvm", "")}],
)
def test_what_a_machine_is_does(what: dict) -> None:
    assert template_key(IMAGE, msgspec.structs.replace(SPEC, **what), HOST) != KEY


def test_another_image_qemu_or_processor_needs_another_template() -> None:
    others = {
        template_key("2" * 64, SPEC, HOST),
        template_key(IMAGE, SPEC, Host("QEMU emulator version 8.0.0")),
        template_key(IMAGE, SPEC, msgspec.structs.replace(HOST, processor="flags: avx")),
    }
    assert len(others | {KEY}) == 4


def test_a_processor_is_told_by_what_stays() -> None:
    line = "vendor_id\t: A\nmodel\t\t: 1\ncpu MHz\t\t: {}\nflags\t\t: avx sse\n\nvendor_id\t: A\n"
    assert processor(line.format("2000.1")) == processor(line.format("1800.7"))
    assert processor(line.format(1)).endswith("avx sse")
    assert processor(line.replace("avx", "")) != processor(line)

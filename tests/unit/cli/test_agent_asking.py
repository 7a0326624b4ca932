"""What is asked for when a workload is launched, for the first time and again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sappers.cli.agent_asking import wanted_workload
from sappers.cli.agent_requests import Launch
from sappers.model.commands import PutWorkload
from sappers.model.image import Blob, Manifest, MicrovmBoot
from sappers.model.workload import Workload
from tests.unit.worlds import IMAGE, commit, founded

MANIFEST = Manifest(
    IMAGE.name,
    "x86_64",
    MicrovmBoot(Blob("1" * 64, 1, ("3" * 64,)), Blob("2" * 64, 1, ("4" * 64,))),
    192,
    guest_port=80,
)
LAUNCH = Launch("shop", "microvm", None, "", None)
RUNS = Workload(
    "shop",
    IMAGE,
    memory_mib=96,
    guest_port=8080,
    host_port=8081,
    count=3,
    cold=True,
    service="store",
    links=("db", "mail"),
    exclusive=True,
    private=True,
)


def asked(launch: Launch, before: Workload | None) -> Workload:
    return wanted_workload(launch, IMAGE.digest, MANIFEST, before).named("shop")


def test_of_a_new_one_the_image_says_what_the_flags_do_not() -> None:
    assert asked(LAUNCH, None) == Workload("shop", IMAGE, memory_mib=192, guest_port=80)
    said = msgspec.structs.replace(LAUNCH, service="store", port=9000)
    assert asked(said, None) == Workload(
        "shop", IMAGE, memory_mib=192, guest_port=9000, service="store"
    )


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ({}, {}),
        ({"service": "till"}, {"service": "till"}),
        ({"port": 9000}, {"guest_port": 9000}),
        ({"image": Path("shop.image")}, {"memory_mib": 192}),
    ],
)
def test_again_what_the_flags_do_not_say_stays(
    flags: dict[str, object], changes: dict[str, object]
) -> None:
    launch = msgspec.structs.replace(LAUNCH, **flags)
    assert asked(launch, RUNS) == msgspec.structs.replace(RUNS, **changes)


def test_again_without_flags_replaces_no_guest() -> None:
    state, _ = commit(founded(), PutWorkload(RUNS))
    again, outcome = commit(state, PutWorkload(asked(LAUNCH, state.workloads["shop"])))
    assert not outcome.refused
    assert again.workloads == state.workloads


def test_one_of_which_no_copy_was_wanted_has_one() -> None:
    assert asked(LAUNCH, msgspec.structs.replace(RUNS, count=0)).count == 1

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sappers.decisions.reconcile_services import (
    WantedServices,
    reconcile_services,
    service_id,
    wanted_services,
)
from sappers.model.actions import ReportStatus
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.service import (
    DeregisterService,
    RegisterService,
    ReportService,
    Service,
    ServiceChange,
    ServiceHealth,
    ServiceReading,
)
from tests.unit.service_worlds import ME, allocation, world

PASSING, WARNING, CRITICAL = ServiceHealth.PASSING, ServiceHealth.WARNING, ServiceHealth.CRITICAL
HEALTHY = AllocationStatus.HEALTHY


def wanted(*allocations: Allocation, service: str = "") -> WantedServices:
    return wanted_services(world(*allocations, service=service), ME, ())


def registered(one: WantedServices) -> list[ServiceReading]:
    return list(one.readings.values())


def after(
    readings: list[ServiceReading], changes: tuple[ServiceChange, ...]
) -> list[ServiceReading]:
    """What a Consul agent has after changes."""
    table = {one.service.id: one for one in readings}
    for change in changes:
        match change:
            case RegisterService(reading=reading):
                table[reading.service.id] = msgspec.structs.replace(reading, note="")
            case DeregisterService(service_id=gone):
                del table[gone]
            case ReportService(service_id=one, health=health, note=note):
                table[one] = msgspec.structs.replace(table[one], health=health, note=note)
    return list(table.values())


def test_a_guest_is_registered_where_it_is_with_whose_it_is() -> None:
    found = wanted(allocation(1), service="shop")
    assert found.readings["sappers-hello-00000001"] == ServiceReading(
        Service(
            id="sappers-hello-00000001",
            name="shop",
            address="10.0.0.1",
            port=20001,
            tags=("sappers",),
            meta={
                "sappers_cluster": "c1",
                "sappers_allocation": "hello-00000001",
                "sappers_workload": "hello",
                "sappers_member": "m1",
                "sappers_term": "3",
            },
        ),
        PASSING,
        "healthy: its sidecar says so",
    )


def test_a_guest_without_a_port_is_registered_too() -> None:
    (reading,) = wanted(allocation(1, host_port=None)).readings.values()
    assert (reading.service.port, reading.health) == (0, PASSING)


def test_only_a_healthy_guest_passes() -> None:
    healths = {
        status: next(iter(wanted(allocation(1, status=status)).readings.values())).health
        for status in AllocationStatus
        if not status.is_terminal
    }
    assert {status for status, health in healths.items() if health is PASSING} == {HEALTHY}
    assert set(healths.values()) == {PASSING, CRITICAL}


def test_what_a_member_finds_out_counts_before_it_is_committed() -> None:
    report = ReportStatus("hello-00000001", AllocationStatus.UNHEALTHY, "guest\npanicked", 0)
    found = wanted_services(world(allocation(1)), ME, (report,))
    (reading,) = found.readings.values()
    assert (reading.health, reading.note) == (CRITICAL, "unhealthy: guest panicked")


def test_guests_that_ended_and_those_of_others_are_not_registered() -> None:
    found = wanted(
        allocation(1, status=AllocationStatus.FAILED),
        allocation(2, status=AllocationStatus.STOPPED, wanted=False),
        allocation(3, member_id="m2"),
    )
    assert (found.readings, found.leaving) == ({}, {})


def test_a_guest_that_is_being_stopped_gets_a_warning_and_then_goes() -> None:
    before = registered(wanted(allocation(1)))
    leaving = wanted(allocation(1, wanted=False))
    changes = reconcile_services(leaving, before, repeat=False)
    assert changes == (ReportService(service_id("hello-00000001"), WARNING, "it is being stopped"),)
    assert reconcile_services(leaving, after(before, changes), repeat=False) == ()
    assert reconcile_services(leaving, [], repeat=True) == ()
    (change,) = reconcile_services(wanted(), before, repeat=False)
    assert isinstance(change, DeregisterService)


def test_drift_is_corrected() -> None:
    want = wanted(allocation(1), allocation(2), allocation(3))
    first, second, third = registered(want)
    moved = msgspec.structs.replace(
        second, service=msgspec.structs.replace(second.service, address="10.9.9.9")
    )
    unchecked = msgspec.structs.replace(third, health=None, note="")
    stale = registered(wanted(allocation(9)))
    changes = reconcile_services(want, [moved, unchecked, *stale], repeat=False)
    assert {one.reading.service.id for one in changes if isinstance(one, RegisterService)} == {
        first.service.id,
        second.service.id,
        third.service.id,
    }
    assert after([moved, unchecked, *stale], changes) != []
    assert reconcile_services(want, after([moved, unchecked, *stale], changes), repeat=False) == ()


def test_a_check_that_expired_is_reported_anew() -> None:
    want = wanted(allocation(1))
    (reading,) = registered(want)
    expired = msgspec.structs.replace(reading, health=CRITICAL, note="TTL expired")
    assert reconcile_services(want, [expired], repeat=False) == (
        ReportService(reading.service.id, PASSING, reading.note),
    )


def test_every_check_gets_its_word_when_it_is_time() -> None:
    want = wanted(allocation(1), allocation(2))
    assert reconcile_services(want, registered(want), repeat=False) == ()
    changes = reconcile_services(want, registered(want), repeat=True)
    assert [type(one) for one in changes] == [ReportService, ReportService]


NAMES = st.sampled_from(["hello-00000001", "hello-00000002", "hello-00000003"])
OTHERS = st.builds(
    ServiceReading,
    service=st.builds(
        Service,
        id=st.one_of(NAMES.map(service_id), st.text(max_size=8)),
        name=st.text(max_size=8),
        address=st.sampled_from(["10.0.0.1", ""]),
        meta=st.fixed_dictionaries(
            {},
            optional={
                "sappers_cluster": st.sampled_from(["c1", "c2"]),
                "sappers_member": st.sampled_from(["m1", "m2"]),
                "sappers_allocation": NAMES,
            },
        ),
    ),
    health=st.sampled_from([PASSING, WARNING, CRITICAL, None]),
    note=st.text(max_size=8),
)
ALLOCATIONS = st.builds(
    allocation,
    st.integers(1, 3),
    status=st.sampled_from(AllocationStatus),
    wanted=st.booleans(),
    reason=st.text(max_size=20),
    host_port=st.one_of(st.none(), st.integers(1, 65535)),
)


@given(st.lists(ALLOCATIONS, max_size=3), st.lists(OTHERS, max_size=6), st.booleans())
def test_one_round_makes_it_true_and_touches_nothing_of_others(
    allocations: list[Allocation], there: list[ServiceReading], repeat: bool
) -> None:
    there = list({one.service.id: one for one in there}.values())
    want = wanted(*allocations)
    changes = reconcile_services(want, there, repeat=repeat)
    result = {one.service.id: one for one in after(there, changes)}
    assert reconcile_services(want, list(result.values()), repeat=False) == ()
    for one, reading in want.readings.items():
        assert result[one] == reading
    for reading in there:
        meta = reading.service.meta
        ours = meta.get("sappers_cluster") == "c1" and meta.get("sappers_member") == "m1"
        if not ours and reading.service.id not in want.readings:
            assert result[reading.service.id] == reading

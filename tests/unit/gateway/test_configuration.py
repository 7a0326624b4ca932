from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import GatewayError
from sappers.gateway.configuration import (
    SLOTS,
    Listen,
    choose_slots,
    configuration,
    services_map,
    shape_of,
)
from sappers.model.route import Backend, Route

LISTEN = Listen("10.0.0.1", 8080)
ONE = Backend("hello-1", "10.0.0.2", 20000)
TWO = Backend("hello-2", "fd00::3", 20001)


def written(*routes: Route, listen: Listen = LISTEN, user_id: int | None = None) -> str:
    """Both files that HAProxy reads."""
    slots = choose_slots([route.service for route in routes], {}, ())
    return configuration(listen, routes, slots, user_id) + services_map(slots)


def test_each_service_has_a_backend_with_its_guests() -> None:
    text = written(Route("hello", (ONE, TWO)), Route("shop"))
    assert "    bind ipv4@10.0.0.1:8080\n" in text
    assert (
        "backend slot-0\n"
        "    server hello-1 ipv4@10.0.0.2:20000 slowstart 3s\n"
        "    server hello-2 ipv6@[fd00::3]:20001 slowstart 3s\n"
        "backend slot-1\n"
        "backend slot-2\n"
    ) in text
    assert text.endswith("hello slot-0\nshop slot-1\n")


def test_only_where_it_listens_and_as_whom_is_its_shape() -> None:
    def shape(*routes: Route, **changes: object) -> str:
        return shape_of(written(*routes, **changes))

    assert shape() == shape(Route("hello", (TWO, ONE)), Route("shop"))
    others = {shape(), shape(listen=Listen("10.0.0.1", 8081)), shape(user_id=7)}
    assert len(others) == 3


services = st.sets(st.integers(0, 400).map("service-{}".format), max_size=SLOTS)


@given(services, st.dictionaries(services.filter(bool).map(min), st.integers(0, SLOTS - 1)))
def test_a_service_keeps_its_backend_and_shares_it_with_none(
    wanted: set[str], before: dict[str, int]
) -> None:
    unique = {slot: service for service, slot in before.items()}
    before = {service: slot for slot, service in unique.items()}
    slots = choose_slots(wanted, before, set(before.values()))
    assert slots.keys() == wanted
    assert len(set(slots.values())) == len(slots)
    assert all(slots[one] == before[one] for one in wanted & before.keys())
    if len(wanted) + len(before) <= SLOTS:
        new = {slots[one] for one in wanted - before.keys()}
        assert not new & set(before.values())


def test_more_services_than_backends_are_refused() -> None:
    with pytest.raises(GatewayError, match=f"{SLOTS + 1} services"):
        choose_slots([f"s{number}" for number in range(SLOTS + 1)], {}, ())


@pytest.mark.parametrize(
    "route",
    [
        Route("a b"),
        Route(""),
        Route("a\n    bind :1"),
        Route("%[path]"),
        Route("hello", (Backend("x\ny", "10.0.0.2", 1),)),
        Route("hello", (Backend("x", "10.0.0.2\n", 1),)),
        Route("hello", (Backend("x", "example.org", 1),)),
        Route("hello", (Backend("x", "/run/docker.sock", 1),)),
        Route("hello", (Backend("x", "fe80::1%eth0", 1),)),
        Route("hello", (Backend("x", "10.0.0.2", 0),)),
        Route("hello", (Backend("x", "10.0.0.2", 65_536),)),
    ],
)
def test_what_is_no_name_address_or_port_is_refused(route: Route) -> None:
    with pytest.raises(GatewayError):
        written(route)


words = st.text() | st.from_regex(r"[a-z0-9 \n\"'#%\\{}-]{1,20}", fullmatch=True)
routes = st.lists(
    st.builds(
        Route,
        words,
        st.lists(st.builds(Backend, words, words | st.ip_addresses().map(str), st.integers())).map(
            tuple
        ),
    ),
    max_size=3,
)


@given(routes)
def test_nothing_can_be_injected(routes: list[Route]) -> None:
    """Whatever is accepted adds just the lines that so many names and guests have."""
    routes = list({route.service: route for route in routes}.values())
    empty = written()
    try:
        text = written(*routes)
    except GatewayError:
        return
    more = sum(1 + len(route.backends) for route in routes)
    assert len(text.splitlines()) == len(empty.splitlines()) + more
    starts = {line.split()[0] for line in text.splitlines() if line.strip()}
    known = {line.split()[0] for line in empty.splitlines() if line.strip()}
    assert starts - known <= {"server", *(route.service for route in routes)}

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import GatewayError
from sappers.gateway.configuration import Slots, choose_slots
from sappers.gateway.runtime import Present, Server, changes, read_servers, read_slots
from sappers.model.route import Backend, Route

ONE = Backend("hello-1", "10.0.0.2", 20000)
TWO = Backend("hello-2", "10.0.0.3", 20000)
HEAD = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state "
    "srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl "
    "srv_check_port srv_check_addr srv_agent_addr srv_agent_port"
)


def present(*servers: Server) -> Present:
    return Present({"hello": 3}, {"slot-3": {one.backend.id: one for one in servers}})


def commands(now: Present, *routes: Route) -> tuple[str, ...]:
    return changes(routes, choose_slots([one.service for one in routes], now.slots, ()), now)


def test_nothing_is_to_do_when_all_is_as_wanted() -> None:
    assert commands(present(Server(ONE, routed=True)), Route("hello", (ONE,))) == ()


def test_a_service_that_comes_is_told_of_after_its_guests() -> None:
    assert commands(Present({}, {}), Route("hello", (ONE,))) == (
        "add server slot-0/hello-1 ipv4@10.0.0.2:20000 slowstart 3s",
        "set server slot-0/hello-1 state ready",
        "add map services.map hello slot-0",
    )


def test_a_service_that_goes_is_forgotten_before_its_guests() -> None:
    assert commands(present(Server(ONE, routed=True))) == (
        "del map services.map hello",
        "set server slot-3/hello-1 state maint",
    )


def test_a_guest_that_goes_is_first_asked_no_more_and_then_removed() -> None:
    assert commands(present(Server(ONE, routed=True)), Route("hello")) == (
        "set server slot-3/hello-1 state maint",
    )
    assert commands(present(Server(ONE, routed=False)), Route("hello")) == (
        "del server slot-3/hello-1",
    )


def test_a_guest_that_is_back_is_asked_again() -> None:
    assert commands(present(Server(ONE, routed=False)), Route("hello", (ONE,))) == (
        "set server slot-3/hello-1 state ready",
    )


def test_a_guest_at_another_address_gets_nothing_in_between() -> None:
    moved = Backend(ONE.id, "10.0.0.9", 20009)
    assert commands(present(Server(ONE, routed=True)), Route("hello", (moved,))) == (
        "set server slot-3/hello-1 state maint",
        "set server slot-3/hello-1 addr 10.0.0.9 port 20009",
        "set server slot-3/hello-1 state ready",
    )


def test_what_is_no_address_is_no_command() -> None:
    moved = Backend(ONE.id, "fe80::1%x;show info", 20009)
    with pytest.raises(GatewayError):
        commands(present(Server(ONE, routed=True)), Route("hello", (moved,)))


def test_what_it_says_of_its_services_is_read() -> None:
    assert read_slots("0x55 hello slot-0\n0x56 shop slot-17\n\n") == {"hello": 0, "shop": 17}
    assert read_slots("") == {}
    with pytest.raises(GatewayError):
        read_slots("Unknown map identifier. Please use #<id> or <file>.")


def test_what_it_says_of_its_servers_is_read() -> None:
    lines = [
        "1",
        HEAD,
        "3 slot-3 1 hello-1 10.0.0.2 2 0 1 1 5 1 0 1 0 0 0 0 - 20000 - 0 0 - - 0",
        "3 slot-3 2 hello-2 10.0.0.3 0 1 1 1 5 1 0 1 0 0 0 0 - 20000 - 0 0 - - 0",
    ]
    both = present(Server(ONE, routed=True), Server(TWO, routed=False))
    assert read_servers("\n".join(lines)) == both.servers
    assert read_servers(f"1\n{HEAD}\n") == {}


@given(st.text())
def test_what_makes_no_sense_is_an_error_and_nothing_worse(text: str) -> None:
    with pytest.raises(GatewayError):
        read_servers(text)


numbers = st.integers(1, 6)
servers = st.dictionaries(numbers, st.tuples(st.integers(1, 3), st.booleans()))
names = st.sampled_from(["hello", "shop", "blog"])


class HaproxyInFourLines:
    """Does what it is told, and refuses what HAProxy refuses."""

    def __init__(self, slots: Slots, servers: dict[str, dict[str, Server]]) -> None:
        self.slots = dict(slots)
        self.servers = servers

    @property
    def present(self) -> Present:
        return Present(dict(self.slots), {slot: dict(own) for slot, own in self.servers.items()})

    def do(self, command: str) -> None:
        words = command.split()
        slot, _, server_id = words[2].partition("/")
        own = self.servers.setdefault(slot, {})
        match words:
            case ["add", "map", _, service, slot]:
                assert service not in self.slots
                self.slots[service] = int(slot.removeprefix("slot-"))
            case ["del", "map", _, service]:
                del self.slots[service]
            case ["add", _, _, place, *_]:
                assert server_id not in own
                address, _, port = place.removeprefix("ipv4@").partition(":")
                own[server_id] = Server(Backend(server_id, address, int(port)), routed=False)
            case ["set", _, _, "state", state]:
                own[server_id] = Server(own[server_id].backend, routed=state == "ready")
            case ["set", _, _, "addr", address, "port", port]:
                assert not own[server_id].routed
                own[server_id] = Server(Backend(server_id, address, int(port)), routed=False)
            case ["del", *_]:
                assert not own.pop(server_id).routed

    def routes(self) -> set[Route]:
        """Where requests go."""
        return {
            Route(
                service,
                tuple(
                    sorted(
                        one.backend
                        for one in self.servers.get(f"slot-{slot}", {}).values()
                        if one.routed
                    )
                ),
            )
            for service, slot in self.slots.items()
        }


@given(
    st.dictionaries(names, st.dictionaries(numbers, st.integers(1, 3))),
    st.dictionaries(names, servers),
)
def test_the_changes_lead_from_any_state_to_the_wanted_one(
    wanted: dict[str, dict[int, int]], there: dict[str, dict[int, tuple[int, bool]]]
) -> None:
    def backend(number: int, host: int) -> Backend:
        return Backend(f"guest-{number}", f"10.0.0.{host}", 20000)

    routes = [
        Route(service, tuple(sorted(backend(*one) for one in guests.items())))
        for service, guests in wanted.items()
    ]
    before = {service: number for number, service in enumerate(there)}
    haproxy = HaproxyInFourLines(
        before,
        {
            f"slot-{before[service]}": {
                f"guest-{number}": Server(backend(number, host), routed)
                for number, (host, routed) in own.items()
            }
            for service, own in there.items()
        },
    )
    for _ in range(2):
        now = haproxy.present
        occupied = {int(slot[5:]) for slot, own in now.servers.items() if own}
        slots = choose_slots(wanted, now.slots, occupied)
        for command in changes(routes, slots, now):
            haproxy.do(command)
        assert haproxy.routes() == set(routes)
    assert commands(haproxy.present, *routes) == ()
    assert sum(map(len, haproxy.servers.values())) == sum(map(len, wanted.values()))

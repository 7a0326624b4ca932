from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.agent.address import AUTO
from sappers.agent.flags import StartFlags, first_settings, with_flags
from sappers.config import AgentSettings, ConsulSettings, agent_settings_text, load_agent_settings
from sappers.errors import ConfigError
from sappers.model.image import ImageKey
from sappers.model.member import Ports

KEY = ImageKey("0" * 64, 'somebody "here"')


def first(**flags: object) -> AgentSettings:
    consul, has_gateway = flags.pop("consul", ConsulSettings()), bool(flags.pop("haproxy", False))
    return first_settings(
        StartFlags(**flags),
        cluster="test",
        host_name="My Host_1",
        image_keys=(KEY,),
        consul=consul,
        has_gateway=has_gateway,
    )


def test_without_flags_the_agent_listens_at_the_usual_ports_of_an_address_it_finds() -> None:
    settings = first()
    assert settings.ports == Ports()
    assert (settings.address, settings.bind_address) == (AUTO, "0.0.0.0")
    assert settings.node_name == "my-host-1"
    assert settings.image_keys == (KEY,)


def test_an_address_in_a_flag_is_the_members_own() -> None:
    settings = first(raft_addr="127.0.0.1:12001", node_id="node2")
    assert settings.address == settings.listen_address == "127.0.0.1"
    assert settings.ports.raft == 12001
    assert settings.node_name == "node2"
    assert first(http_addr="[::1]:11000").address == "::1"
    everywhere = first(raft_addr="[::]:12000")
    assert (everywhere.address, everywhere.listen_address) == (AUTO, "::")


@given(st.integers(min_value=11_001, max_value=60_000))
def test_agents_of_one_machine_need_no_flag_for_the_hub(http: int) -> None:
    moved = first(gossip_port=7947, raft_addr=":12001", http_addr=f":{http}").ports
    assert moved.hub - Ports().hub == moved.hub_routes - Ports().hub_routes
    assert moved.hub in (Ports().hub, Ports().hub + http - 11_000)


def test_the_hub_does_not_move_onto_a_port_that_a_flag_names() -> None:
    moved = first(gossip_port=7947, raft_addr=":12001", http_addr=":16779").ports
    assert moved.hub_routes == Ports().hub_routes


def test_a_gateway_is_where_haproxy_and_consul_are_and_moves_along() -> None:
    consul = ConsulSettings(enabled=True)
    assert first(haproxy=True).ports.gateway == first(consul=consul).ports.gateway == 0
    assert first(haproxy=True, consul=consul).ports.gateway == 8080
    assert first(haproxy=True, consul=consul, http_addr=":11002").ports.gateway == 8082


def test_the_hubs_port_can_be_said() -> None:
    ports = first(http_addr=":11001", hub_port=4300).ports
    assert (ports.hub, ports.hub_routes) == (4300, 6300)


def test_a_flag_goes_before_the_settings_and_leaves_the_rest() -> None:
    before = first(raft_addr="127.0.0.1:12005", peers="10.0.0.1:7946")
    after = with_flags(before, StartFlags(peers="10.0.0.2:7946, n3:7946", log_level="debug"))
    assert after.peers == ("10.0.0.2:7946", "n3:7946")
    assert after.log_level == "DEBUG"
    assert (after.ports, after.address) == (before.ports, before.address)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"raft_addr": "12000"}, "--raft-addr 12000"),
        ({"raft_addr": ":0"}, "--raft-addr :0"),
        ({"http_addr": "somewhere:11000"}, "'somewhere' is no IP address"),
        ({"raft_addr": "10.0.0.1:12000", "http_addr": "10.0.0.2:11000"}, "two addresses"),
        ({"peers": "10.0.0.1"}, "--peers 10.0.0.1: expected HOST:PORT"),
        ({"gossip_port": 12000}, "differ"),
        ({"hub_port": 65000}, "1 to 65535"),
        ({"node_id": "Node_1"}, "node_name = 'Node_1'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name(flags: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        first(**flags)
    assert says in refused.value.message


names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)


@given(names, names, st.text(max_size=40), st.lists(names, max_size=3))
def test_the_settings_file_says_what_it_was_told(
    cluster: str, node: str, owner: str, peers: list[str]
) -> None:
    import tempfile
    from pathlib import Path

    settings = AgentSettings(
        cluster=cluster,
        node_name=node,
        address=AUTO,
        bind_address="::",
        ports=Ports(hub=4333),
        peers=tuple(f"{peer}:7946" for peer in peers),
        bootstrap=3,
        consul=ConsulSettings(enabled=True),
        image_keys=(ImageKey("a" * 64, owner),),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.toml"
        path.write_text(agent_settings_text(settings))
        assert load_agent_settings(path) == settings

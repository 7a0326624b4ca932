"""What an agent is told, and what it refuses to be told."""

from __future__ import annotations

import pytest

from sappers.config import AgentSettings, ConsulSettings, ImageSettings
from sappers.errors import ConfigError
from sappers.model.member import Ports


def test_a_gateway_needs_consul() -> None:
    told = {"cluster": "c", "node_name": "n", "address": "10.0.0.1", "ports": Ports(gateway=8080)}
    with pytest.raises(ConfigError, match="routed from Consul"):
        AgentSettings(**told)
    assert AgentSettings(**told, consul=ConsulSettings(enabled=True)).ports.gateway == 8080
    assert 8080 in Ports(gateway=8080).taken()
    assert 0 not in Ports().taken()


@pytest.mark.parametrize("rate", [-1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"images\.upload_mbit_per_second"):
        AgentSettings("c", "n", "10.0.0.1", images=ImageSettings(upload_mbit_per_second=rate))

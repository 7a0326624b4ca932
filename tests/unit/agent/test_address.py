from __future__ import annotations

import pytest

from sappers.agent.address import AUTO, is_local, own_address
from sappers.errors import ConfigError
from sappers.provisioner.bootstrap.seed import ADDRESS_BY_DHCP


def test_a_local_address_is_kept() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.250")
    assert own_address("127.0.0.7", []) == "127.0.0.7"


def test_a_lost_address_is_replaced_by_the_one_that_reaches_the_peers() -> None:
    assert own_address("192.0.2.250", ["192.0.2.250:7946", "127.0.0.1:7946"]) == "127.0.0.1"


def test_no_address_and_no_peer_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.250: this host does not have it"):
        own_address("192.0.2.250", ["nonsense"])


def test_a_seed_without_an_address_means_the_one_that_reaches_the_peers() -> None:
    assert AUTO == ADDRESS_BY_DHCP, "what a seed says is what the agent understands"
    here = own_address(AUTO, ["127.0.0.1:7946"])
    assert is_local(here)
    # A peer on loopback is on this host: all its agents are to be found at the same address.
    assert here in ("127.0.0.1", _own_or_none())


def test_whoever_knows_nobody_elsewhere_takes_an_address_that_others_reach() -> None:
    found = _own_or_none()
    assert found is None or (is_local(found) and not found.startswith("127."))


def _own_or_none() -> str | None:
    try:
        return own_address(AUTO, ["nonsense"])
    except ConfigError as error:
        assert "no route to any peer yet" in error.message
        return None

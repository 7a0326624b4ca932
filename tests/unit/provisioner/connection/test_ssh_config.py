"""`~/.ssh/config` beneath an inventory: includes, jumps over jumps, commands as the way there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sappers.errors import InventoryError
from sappers.provisioner.connection.ssh_config import Endpoint, read_ssh_config, resolve_endpoint
from sappers.provisioner.inventory.inventory import load_inventory


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def endpoint(home: Path, config: str, line: str) -> Endpoint:
    (home / ".ssh/config").write_text(config)
    (home / "inventory").write_text(line + "\n")
    (host,) = load_inventory(home / "inventory").hosts
    return resolve_endpoint(host, read_ssh_config(home), home)


def hops(found: Endpoint) -> list[tuple[str, str, int]]:
    return [(hop.user, hop.address, hop.port) for hop in found.jumps]


def test_included_files_stand_in_their_place(home: Path) -> None:
    (home / ".ssh/config.d").mkdir()
    (home / ".ssh/config.d/1-work").write_text("Port 2201\nHost other\n  User other\n")
    (home / ".ssh/config.d/2-more").write_text("Host web\n  User second\n")
    config = "Host web\n  Include config.d/* none/*\n  User third\n  HostName 10.0.0.7\n"
    found = endpoint(home, config, "web")
    assert (found.user, found.address, found.port) == ("second", "10.0.0.7", 2201)
    found = endpoint(home, config, "other")
    assert (found.user, found.address, found.port) == ("other", "other", 22)


def test_files_that_include_themselves_are_refused(home: Path) -> None:
    with pytest.raises(InventoryError, match="includes itself"):
        endpoint(home, "Include config\n", "web")


def test_a_jump_host_is_reached_as_its_own_entry_says(home: Path) -> None:
    config = (
        "Host outer\n  HostName 10.0.0.1\n  User gate\n"
        "Host inner\n  HostName 10.0.0.2\n  User door\n  ProxyJump outer\n"
        "Host far\n  ProxyJump inner\n"
    )
    both = [("gate", "10.0.0.1", 22), ("door", "10.0.0.2", 22)]
    assert hops(endpoint(home, config, "far")) == both
    assert hops(endpoint(home, config, "x ansible_ssh_common_args='-J me@inner:7'")) == [
        both[0],
        ("me", "10.0.0.2", 7),
    ]
    # How the second is reached is said: from the first.
    named = hops(endpoint(home, config, "x ansible_ssh_common_args='-J a@10.0.0.9,inner'"))
    assert named == [("a", "10.0.0.9", 22), both[1]]
    assert hops(endpoint(home, config, "far ansible_ssh_common_args='-o ProxyJump=none'")) == []


def test_jumps_in_a_circle_are_refused(home: Path) -> None:
    with pytest.raises(InventoryError, match="leads back to itself"):
        endpoint(home, "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n", "a")


def test_a_command_is_the_way_with_what_the_inventory_says_of_the_host(home: Path) -> None:
    config = "Host web\n  HostName 10.0.0.7\n  Port 2201\n  ProxyCommand nc %h %p # %r %n 100%%\n"
    found = endpoint(home, config, "web ansible_port=99 ansible_user=me")
    assert found.proxy_command == "nc 10.0.0.7 99 # me web 100%"
    args = "web ansible_ssh_common_args='-o ProxyCommand=\"ssh -o A=b -W %h:%p -q me@gate\"'"
    assert endpoint(home, config, args).proxy_command == "ssh -o A=b -W 10.0.0.7:2201 -q me@gate"
    none = endpoint(home, config, "web ansible_ssh_common_args='-o ProxyCommand=none'")
    assert none.proxy_command is None
    jumped = endpoint(home, config, "web ansible_ssh_common_args='-J gate'")
    assert jumped.proxy_command is None
    assert len(jumped.jumps) == 1


def test_options_that_change_nothing_here_are_taken(home: Path) -> None:
    args = (
        "-C -q -o ControlMaster=auto -o ControlPersist=60s -o 'PreferredAuthentications=publickey'"
    )
    found = endpoint(home, "", f'web ansible_ssh_args="{args} -o Port=7"')
    assert found.port == 7

"""Facts in, problems out: all of them at once."""

from __future__ import annotations

import msgspec

from sappers.model.member import Ports
from sappers.provisioner.bootstrap.fitness import find_problems, find_shared_problems
from sappers.provisioner.executor.facts import Facts, Listener
from tests.unit.provisioner.fit_host import FIT


def but(**changes) -> Facts:
    return msgspec.structs.replace(FIT, **changes)


def problems(facts: Facts, *, units=(), installed=False) -> list[str]:
    found = find_problems("a", facts, Ports(), our_units=units, installed=installed)
    return [problem.message for problem in found]


def test_a_fit_host_has_none():
    assert problems(FIT) == []


def test_all_problems_at_once():
    found = problems(
        but(
            python_version=(3, 9, 2),
            architecture="aarch64",
            systemd=False,
            is_root=False,
            free_disk_mib={"/var": 10, "/opt": 10},
            listeners=(Listener("tcp", "0.0.0.0", 4222, "redis"),),
        )
    )
    text = "\n".join(found)
    for word in ("Python 3.9.2", "aarch64", "systemd", "root", "/var has 10", "/opt", "redis"):
        assert word in text
    assert len(found) == 7


def test_our_own_listeners_are_no_problem():
    ours = but(
        listeners=(
            Listener("udp", "10.0.0.1", 7946, "sappers"),
            Listener("tcp", "10.0.0.1", 11000, "sappers"),
            Listener("tcp", "10.0.0.1", 4222, "nats-server"),
        )
    )
    assert problems(ours, units=("sappers.service", "sappers-hub.service")) == []
    assert len(problems(ours, units=("sappers.service",))) == 1
    assert len(problems(ours)) == 3


def test_udp_matters_for_gossip_alone():
    assert problems(but(listeners=(Listener("udp", "0.0.0.0", 4222, "x"),))) == []


def test_an_installed_host_needs_less_room():
    small = but(free_disk_mib={"/var": 300, "/opt": 100})
    assert len(problems(small)) == 2
    assert problems(small, installed=True) == []


def shared(**facts: Facts) -> dict[str, list[str]]:
    return {name: [p.message for p in find_shared_problems(name, facts)] for name in facts}


def test_the_clock_that_is_apart_is_named():
    found = shared(
        a=but(clock_offset_seconds=0.1, machine_id="1"),
        b=but(clock_offset_seconds=-0.1, machine_id="2"),
        c=but(clock_offset_seconds=-7.0, machine_id="3"),
    )
    assert found["a"] == found["b"] == []
    assert "behind the other hosts" in found["c"][0]


def test_a_clock_we_cannot_tell_is_no_problem():
    unsure = but(clock_offset_seconds=3.0, clock_uncertainty_seconds=2.0, machine_id="2")
    assert shared(a=FIT, b=FIT, c=unsure)["c"] == []


def test_one_machine_under_two_names():
    found = shared(a=FIT, b=FIT)
    assert "b is the same machine" in found["a"][0]
    cloned = but(addresses=("10.0.0.2",))  # a copied disk has the same machine-id
    assert shared(a=FIT, b=cloned) == {"a": [], "b": []}

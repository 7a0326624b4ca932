from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.config import control_home
from sappers.errors import LabError
from sappers.lab.lab import Lab
from sappers.lab.plan import LabPlan, check_address, link_name, plan_lab
from sappers.lab.record import LabRecord

lab_names = st.from_regex(r"[a-z][a-z0-9-]{0,18}[a-z0-9]", fullmatch=True)
DEVICE_NAME_MAX = 15


def with_hosts(plan: LabPlan, count: int) -> LabRecord:
    return LabRecord(base="/base").extended(plan, count)


def test_the_default_lab_is_where_the_committed_inventory_says():
    plan = plan_lab("lab")
    hosts = with_hosts(plan, 3).hosts
    assert (plan.subnet, plan.control_address, plan.bridge) == (
        "10.77.0.0/24",
        "10.77.0.1",
        "sap-lab",
    )
    assert [(host.name, host.address) for host in hosts] == [
        ("lab1", "10.77.0.11"),
        ("lab2", "10.77.0.12"),
        ("lab3", "10.77.0.13"),
    ]


@given(lab_names)
def test_every_lab_fits_the_kernel_and_stays_in_its_subnet(name: str):
    plan = plan_lab(name)
    assert plan == plan_lab(name)
    assert plan.network.subnet_of(IPv4Network("10.77.0.0/16"))
    assert name == "lab" or plan.subnet != "10.77.0.0/24"
    assert len(plan.bridge) <= DEVICE_NAME_MAX
    for host in with_hosts(plan, 150).hosts:
        assert len(link_name(host.machine)) <= DEVICE_NAME_MAX
        check_address(plan, host.address)


@given(lab_names, lab_names)
def test_two_labs_share_no_bridge_and_no_container_name(one: str, other: str):
    if one == other:
        return
    plans = plan_lab(one), plan_lab(other)
    machines = [{host.machine for host in with_hosts(plan, 150).hosts} for plan in plans]
    assert plans[0].bridge != plans[1].bridge
    assert machines[0].isdisjoint(machines[1])


def test_host_eleven_of_one_lab_is_not_host_one_of_another():
    assert plan_lab("a").host(11, "0" * 32).machine != plan_lab("a1").host(1, "0" * 32).machine


@pytest.mark.parametrize(
    "name", ["", "Lab", "1lab", "a" * 21, "lab-", "../lab", "läb", "a b", "lab\n"]
)
def test_names_that_no_lab_can_have(name: str):
    with pytest.raises(LabError, match="not usable"):
        plan_lab(name)


@pytest.mark.parametrize(
    "address", ["10.77.0.1", "10.77.0.0", "10.77.0.255", "10.77.1.11", "x", "::1"]
)
def test_addresses_that_no_host_of_the_lab_can_have(address: str):
    with pytest.raises(LabError, match="no address for a host"):
        check_address(plan_lab("lab"), address)


def test_a_number_of_hosts_that_no_lab_can_have_is_refused_before_anything_is_made(tmp_path: Path):
    home = {"SAPPERS_HOME": str(tmp_path / "home"), "SAPPERS_CACHE": str(tmp_path / "cache")}
    with pytest.raises(LabError, match="1 to 150 hosts, not 151"):
        Lab("lab", control_home(home)).up(151)
    assert list(tmp_path.iterdir()) == []


def test_what_to_type_next_names_the_lab():
    assert plan_lab("lab").command("up") == "sappers-deploy lab up"
    assert plan_lab("mine").command("down") == "sappers-deploy lab down --name mine"

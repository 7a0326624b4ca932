from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.provisioner.inventory.patterns import select_hosts

HOSTS = ["lab1", "lab2", "lab3", "db1", "::1"]
GROUPS = {
    "all": HOSTS,
    "ungrouped": ["::1"],
    "web": ["lab1", "lab2", "lab3"],
    "voters": ["lab2", "db1"],
    "empty": [],
}


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("all", HOSTS),
        ("*", HOSTS),
        ("lab1", ["lab1"]),
        ("lab1,db1", ["lab1", "db1"]),
        ("lab1:db1", ["lab1", "db1"]),
        (" lab1 , db1 ,", ["lab1", "db1"]),
        ("web", ["lab1", "lab2", "lab3"]),
        ("web:&voters", ["lab2"]),
        ("web:!voters", ["lab1", "lab3"]),
        ("!voters,web", ["lab1", "lab3"]),
        ("!lab1", ["lab2", "lab3", "db1", "::1"]),
        ("&voters", ["lab2", "db1"]),
        ("lab*", ["lab1", "lab2", "lab3"]),
        ("lab[12]", ["lab1", "lab2"]),
        ("w*", ["lab1", "lab2", "lab3"]),
        ("web[0]", ["lab1"]),
        ("web[-1]", ["lab3"]),
        ("web[1:2]", ["lab2", "lab3"]),
        ("web[1:]", ["lab2", "lab3"]),
        ("web[0-1]", ["lab1", "lab2"]),
        ("~lab[13]$", ["lab1", "lab3"]),
        ("::1", ["::1"]),
        ("::1,lab1", ["::1", "lab1"]),
        ("empty", []),
    ],
)
def test_selects(pattern: str, chosen: list[str]) -> None:
    assert select_hosts(pattern, HOSTS, GROUPS) == tuple(chosen)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("localhost", ["localhost"]),
        ("127.0.0.1", ["127.0.0.1"]),
        ("localhost,lab1", ["localhost", "lab1"]),
        ("db1:localhost", ["db1", "localhost"]),
        ("all:localhost:!web", ["db1", "::1", "localhost"]),
        ("localhost:127.0.0.1", ["localhost"]),
        ("127.0.0.1,localhost", ["127.0.0.1"]),
        ("localhost[0],lab1", ["localhost", "lab1"]),
        ("web:!localhost", ["lab1", "lab2", "lab3"]),
        ("web:&localhost", []),
        ("localhost,lab1,&localhost", ["localhost"]),
        ("all", HOSTS),
        ("*", HOSTS),
        ("::1", ["::1"]),  # one that the inventory names
    ],
)
def test_this_machine_is_there_where_it_is_named(pattern: str, chosen: list[str]) -> None:
    here = ("localhost", "127.0.0.1", "::1")
    assert select_hosts(pattern, HOSTS, GROUPS, here) == tuple(chosen)
    with pytest.raises(ValueError, match="local"):
        select_hosts("local*", HOSTS, GROUPS, here)


@pytest.mark.parametrize(
    "pattern", ["nope", "lab1,nope", "!nope", "web:&nope", "x*", "web[9]", "~(", "", " , ", "!"]
)
def test_a_part_that_names_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        select_hosts(pattern, HOSTS, GROUPS)


@given(st.text(alphabet="lab123web!&,:*[]~?-( ", max_size=20))
def test_any_pattern_selects_hosts_or_is_refused(pattern: str) -> None:
    try:
        chosen = select_hosts(pattern, HOSTS, GROUPS)
    except ValueError:
        return
    assert set(chosen) <= set(HOSTS)


@given(st.lists(st.sampled_from(sorted(GROUPS)), min_size=1), st.sampled_from(sorted(GROUPS)))
def test_exclusion_and_intersection_split_a_union(parts: list[str], group: str) -> None:
    union = set(select_hosts(",".join(parts), HOSTS, GROUPS))
    inside = set(select_hosts(",".join([*parts, f"&{group}"]), HOSTS, GROUPS))
    outside = set(select_hosts(",".join([f"!{group}", *parts]), HOSTS, GROUPS))
    assert inside | outside == union
    assert not inside & outside

"""What Consul says of a service, however odd, is guests of this cluster or an error."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.consul.catalog import read_backends
from sappers.decisions.reconcile_services import META_ALLOCATION, META_CLUSTER
from sappers.errors import ConsulError
from sappers.model.route import Backend


def entry(**changes: Any) -> dict[str, Any]:
    meta = {META_CLUSTER: "c1", META_ALLOCATION: "hello-1"}
    service = {"ID": "sappers-hello-1", "Address": "10.0.0.1", "Port": 20000, "Meta": meta}
    return {"Node": {"Node": "n"}, "Service": {**service, **changes}, "Checks": []}


def test_a_guest_of_this_cluster_is_a_backend() -> None:
    assert list(read_backends([entry()], "c1")) == [Backend("hello-1", "10.0.0.1", 20000)]


@pytest.mark.parametrize(
    "changes",
    [
        {"Meta": {META_CLUSTER: "another", META_ALLOCATION: "hello-1"}},
        {"Meta": {META_CLUSTER: "c1"}},
        {"Meta": None},
        {"Port": 0},
        {"Port": 70_000},
        {"Address": ""},
        {"Address": "example.org"},
        {"Address": "fe80::1%eth0"},
        {"Address": "fe80::1%x;show info\n"},
        {"Meta": {META_CLUSTER: "c1", META_ALLOCATION: "a b"}},
        {"Meta": {META_CLUSTER: "c1", META_ALLOCATION: "hello-1\n"}},
    ],
)
def test_whatever_else_has_the_name_is_left_out(changes: dict[str, Any]) -> None:
    assert list(read_backends([entry(**changes), entry()], "c1")) == [
        Backend("hello-1", "10.0.0.1", 20000)
    ]


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
entries = st.fixed_dictionaries(
    {},
    optional={"Address": json | st.just("10.0.0.1"), "Port": json, "Meta": json, "x": json},
).map(lambda changes: entry(**changes))


@given(json | st.lists(entries | json))
def test_garbage_is_an_error_or_nothing(answer: Any) -> None:
    with contextlib.suppress(ConsulError):
        for backend in read_backends(answer, "c1"):
            ipaddress.ip_address(backend.address)
            assert 0 < backend.port < 65_536

"""Connect proxies in Consul's catalogue: where others reach them, and whether they should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import consul
import msgspec
from consul.callback import CB

from sappers.consul.intentions import converted
from sappers.consul.registry import DEREGISTER_SECONDS
from sappers.decisions.reconcile_services import (
    META_ALLOCATION,
    META_CLUSTER,
    META_MEMBER,
    META_TERM,
    TAG,
    service_id,
)
from sappers.model.mesh import MeshPlan, MeshProxy

_KIND = "connect-proxy"
_CHECK_SECONDS = 10


class _Destination(msgspec.Struct, rename="pascal"):
    destination_service_name: str = ""
    destination_service_id: str = msgspec.field(name="DestinationServiceID", default="")


class _ProxyEntry(msgspec.Struct, rename="pascal"):
    """A service of `/v1/agent/services`, as far as proxies go."""

    id: str = msgspec.field(name="ID")
    service: str
    kind: str = ""
    address: str = ""
    port: int = 0
    meta: dict[str, str] | None = None
    proxy: _Destination | None = None


def register_proxies(client: consul.Consul, plan: MeshPlan) -> None:
    """Make the Consul agent's list of this member's proxies true; others' are left alone.

    Proxies that take nothing in are not registered: nobody looks for them.
    """
    entries = converted(client.agent.services(), dict[str, _ProxyEntry])
    found = {one.id: one for one in entries.values() if one.kind == _KIND and _is_ours(one, plan)}
    wanted = {proxy_id(one.allocation_id): one for one in plan.proxies if one.port}
    staying = {proxy_id(one) for one in plan.staying}
    for one in sorted(found.keys() - wanted.keys() - staying):
        client.agent.service.deregister(one)
    for one, proxy in sorted(wanted.items()):
        if one not in found or found[one] != _entry(one, proxy):
            _register(client, one, proxy)


def proxy_id(allocation_id: str) -> str:
    """The id that an allocation's proxy is registered with, as Consul itself would have it."""
    return f"{service_id(allocation_id)}-sidecar-proxy"


def _is_ours(entry: _ProxyEntry, plan: MeshPlan) -> bool:
    meta: Mapping[str, str] = entry.meta or {}
    return (
        entry.id == proxy_id(meta.get(META_ALLOCATION, ""))
        and meta.get(META_CLUSTER) == plan.cluster_id
        and meta.get(META_MEMBER) == plan.member_id
    )


def _entry(one: str, proxy: MeshProxy) -> _ProxyEntry:
    return _ProxyEntry(
        id=one,
        service=f"{proxy.service}-sidecar-proxy",
        kind=_KIND,
        address=proxy.address,
        port=proxy.port,
        meta={
            META_CLUSTER: proxy.cluster_id,
            META_ALLOCATION: proxy.allocation_id,
            META_MEMBER: proxy.member_id,
            META_TERM: str(proxy.term),
        },
        proxy=_Destination(proxy.service, service_id(proxy.allocation_id)),
    )


def _register(client: consul.Consul, one: str, proxy: MeshProxy) -> None:
    entry = _entry(one, proxy)
    address = f"[{proxy.address}]" if ":" in proxy.address else proxy.address
    body: dict[str, Any] = {
        "ID": one,
        "Name": entry.service,
        "Kind": _KIND,
        "Address": entry.address,
        "Port": entry.port,
        "Tags": [TAG],
        "Meta": entry.meta,
        "Proxy": {
            "DestinationServiceName": proxy.service,
            "DestinationServiceID": service_id(proxy.allocation_id),
            "LocalServiceAddress": proxy.service_address,
            "LocalServicePort": proxy.service_port,
        },
        # As Consul's own sidecars: it is well if it listens, and if its guest is.
        "Checks": [
            {
                "Name": "The proxy listens",
                "TCP": f"{address}:{proxy.port}",
                "Interval": f"{_CHECK_SECONDS}s",
                "Timeout": "2s",
                "Status": "passing",  # it was started; else nobody comes until the first check
                "DeregisterCriticalServiceAfter": f"{DEREGISTER_SECONDS}s",
            },
            {"Name": "Its guest", "AliasService": service_id(proxy.allocation_id)},
        ],
    }
    client.http.put(
        CB.boolean(),
        "/v1/agent/service/register",
        params=[("replace-existing-checks", "true")],
        data=msgspec.json.encode(body),
        headers=client.prepare_headers(),
    )

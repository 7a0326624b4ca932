"""How a proxy is started, without one: real ones are in tests/integration/test_mesh.py."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sappers.agent.clock import SystemClock
from sappers.config import ConsulSettings
from sappers.consul.proxies import UNIT_PREFIX, ConnectProxies, proxy_command
from sappers.errors import ConsulError
from sappers.model.mesh import MeshPlan, MeshProxy, Upstream
from sappers.ports import UnitSpec
from sappers.supervision import DetachedSupervisor

SHOP = MeshProxy(
    "c1", "m1", "shop-00000001", 3, "shop", "10.0.0.1", upstreams=(Upstream("db", 22017),)
)
DB = MeshProxy(
    "c1", "m1", "db-00000001", 3, "db", "10.0.0.1", 21005, "127.0.0.1", service_port=5432
)
WITH_TOKEN = ConsulSettings(enabled=True, token_file="/etc/token")


def without_consul(folder: Path) -> ConnectProxies:
    units = DetachedSupervisor(folder / "units")
    return ConnectProxies(folder / "mesh", None, ConsulSettings(), units, SystemClock(), None)


def test_what_it_is_told_stands_in_its_arguments_and_nothing_secret() -> None:
    assert proxy_command("/bin/consul", SHOP, WITH_TOKEN) == (
        *("/bin/consul", "connect", "proxy", "-http-addr=127.0.0.1:8500", "-log-level=WARN"),
        *("-token-file=token", "-service", "shop", "-upstream", "db:127.0.0.1:22017"),
    )
    command = proxy_command("/bin/consul", DB, ConsulSettings(enabled=True))
    assert command[5:] == (
        *("-service", "db", "-service-addr", "127.0.0.1:5432", "-listen", "10.0.0.1:21005"),
    )
    ipv6 = msgspec.structs.replace(DB, address="fd00::1")
    assert "[fd00::1]:21005" in proxy_command("/bin/consul", ipv6, WITH_TOKEN)


async def test_without_anything_that_guards_them_there_are_no_links(tmp_path: Path) -> None:
    with pytest.raises(ConsulError, match="keep other users from it"):
        await without_consul(tmp_path).keep(MeshPlan("c1", "m1", (SHOP,)))
    assert not (tmp_path / "mesh").exists()


async def test_what_ran_is_ended_where_consul_is_used_no_more(tmp_path: Path) -> None:
    units = DetachedSupervisor(tmp_path / "units")
    name = f"{UNIT_PREFIX}shop-00000001"
    left = tmp_path / "mesh" / "shop-00000001"
    left.mkdir(parents=True)
    (left / "record.json").write_text("{}")
    await units.start(UnitSpec(name, ("/bin/sleep", "60"), str(tmp_path)))
    await without_consul(tmp_path).keep(MeshPlan("", ""))
    assert await units.list(UNIT_PREFIX) == ()
    assert not left.exists()

"""A guest takes the hub's servers from no older term than the one that it knows."""

from __future__ import annotations

from typing import Any

from sappers.launchers.control import configuration
from sappers.sidecar.guest import Guest
from sappers.sidecar.settings import HubAccess, ImageSettings, read_configuration


class Used:
    """Stands in for the link to the hub: notes what it is to use."""

    def __init__(self) -> None:
        self.servers: list[tuple[str, ...]] = []

    async def use(self, hub: HubAccess) -> None:
        self.servers.append(hub.servers)


def told(term: int, server: str) -> dict[str, Any]:
    message = configuration("web-1", "web", (server,), "", "", "", 1.0, 0.0, {}, term)
    return message["configure"]


async def test_an_older_term_is_refused_and_changes_nothing() -> None:
    first = read_configuration(told(7, "10.0.0.1:4222"))
    guest = Guest(ImageSettings("web"), first, port=None, process=None)
    guest._hub = used = Used()

    async def tell(term: int, server: str) -> dict[str, Any]:
        answer = guest._reconfigure(told(term, server))
        if answer["ok"]:
            await guest._switching
        return answer

    assert await tell(6, "10.0.0.9:4222") == {
        "ok": False,
        "reason": "term 6 is over: the hub is that of term 7",
    }
    assert used.servers == []
    assert (await tell(7, "10.0.0.2:4222"))["ok"]  # credentials are renewed in the same term
    assert (await tell(8, "10.0.0.3:4222"))["ok"]
    assert not (await tell(7, "10.0.0.2:4222"))["ok"]
    assert used.servers == [("10.0.0.2:4222",), ("10.0.0.3:4222",)]

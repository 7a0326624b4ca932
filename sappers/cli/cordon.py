"""`sappers-deploy cordon`, `drain`, `uncordon`, `forget`: close, empty, open, drop a member."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import typer
from rich.console import Console

from sappers.api.operator_client import OperatorClient
from sappers.cli.session import Address, Cluster, WaitSeconds, open_cluster
from sappers.cli.waiting import wait_until
from sappers.errors import ConfigError
from sappers.model.member import Member, MemberState
from sappers.model.view import ClusterView

Named = Annotated[str, typer.Argument(metavar="MEMBER", help="A member, by name or id.")]


def cordon(member: Named, *, cluster: Cluster = None, addr: Address = None) -> None:
    """Place nothing new on a member, and give its vote to another; what runs there stays."""
    with open_cluster(cluster, addr) as client:
        found = find_member(client.view(), member)
        client.cordon(found.id, drain=False)
    _say(f"{found.name} is cordoned")


def drain(
    member: Named,
    *,
    wait: Annotated[bool, typer.Option(help="Wait until nothing of the cluster is on it.")] = True,
    timeout: WaitSeconds = 300.0,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Move everything off a member, its vote too, so that its host can be taken away."""
    with open_cluster(cluster, addr) as client:
        found = find_member(client.view(), member)
        client.cordon(found.id, drain=True)
        if wait:
            wait_until(
                lambda: how_empty(client, found),
                what=found.name,
                timeout_seconds=timeout,
                hint="the cluster goes on trying; sappers-deploy uncordon takes it back",
                console=Console(stderr=True),
            )
    _say(f"{found.name} is empty" if wait else f"{found.name} is drained")


def uncordon(member: Named, *, cluster: Cluster = None, addr: Address = None) -> None:
    """Use a member again that was cordoned or drained."""
    with open_cluster(cluster, addr) as client:
        found = find_member(client.view(), member)
        client.uncordon(found.id)
    _say(f"{found.name} is used again")


def forget(member: Named, *, cluster: Cluster = None, addr: Address = None) -> None:
    """Drop a member that is dead or left from the cluster's table, as happens after three days.

    If its agent is ever started again, it joins anew.
    """
    with open_cluster(cluster, addr) as client:
        found = find_member(client.view(), member, prefer=("dead", "left"))
        client.forget_member(found.id)
    _say(f"{found.name} is forgotten")


def find_member(view: ClusterView, named: str, *, prefer: Collection[str] = ("alive",)) -> Member:
    """The member of that id, else the one of that name.

    Args:
        view: The cluster.
        named: Id or name.
        prefer: Of several of one name the one that is in one of these states.

    Raises:
        ConfigError: There is none, or there are several.
    """
    members = [one.member for one in view.members]
    found = [one for one in members if one.id == named] or [
        one for one in members if one.name == named
    ]
    if len(found) > 1:
        found = [one for one in found if one.state in prefer] or found
    if len(found) != 1:
        known = ", ".join(one.name for one in members)
        what = "several members are" if found else "no member is"
        raise ConfigError(f"{what} called {named}; there are {known}", hint="name it by its id")
    return found[0]


def how_empty(client: OperatorClient, member: Member) -> tuple[bool, str]:
    """Whether a member runs nothing of the cluster any more, and what it still does."""
    view = client.view()
    guests = [
        one.id
        for one in view.allocations
        if one.member_id == member.id and not one.status.is_terminal
    ]
    duties = ["its vote"] * (member.id in view.electorate)
    duties += ["the hub"] * (member.id in view.hub_servers)
    left = [*guests, *duties]
    if not left:
        return True, "empty"
    progress = f"it still has {', '.join(left)}"
    if member.id in view.electorate and not _may_take_a_vote(view):
        progress += "; no member is there to take its vote: alive, not cordoned, and without one"
    return False, progress


def _may_take_a_vote(view: ClusterView) -> bool:
    return any(
        one.member.state is MemberState.ALIVE
        and one.member.id not in view.electorate
        and one.member.id not in view.cordons
        for one in view.members
    )


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False)

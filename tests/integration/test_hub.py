"""The hub on real nats-servers: three members on loopback addresses, TLS everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sappers.errors import HubError
from sappers.hub.credentials import AgentCredentials, create_hub_account
from sappers.hub.server import hub_answers
from sappers.model.actions import RunHubServer
from tests.identities import make_cluster_identities, make_identity, make_operator_identity
from tests.integration.hubs import Hub, Inbox, hears
from tests.waiting import eventually

THREE = {"a": "127.0.0.1", "b": "127.0.0.2", "c": "127.0.0.3"}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path, THREE)
    try:
        yield hub
    finally:
        await hub.down()


async def test_three_servers_carry_messages_and_outlive_a_dead_one(hub: Hub) -> None:
    await hub.run("a", "b", "c")
    for name, member in hub.members.items():
        assert await hub_answers(member.address, member.ports.hub) == name
        assert await hub.servers[name].running_with() == ("a", "b", "c")
    near, far, inbox = await hub.client("a", "b"), await hub.client("c"), Inbox()
    await near.subscribe("sappers.log.>", inbox)
    await hears(far, inbox, "sappers.log.entries")
    await hub.kill("a" if "127.0.0.1" in near._connected_to else "b")
    await eventually(lambda: near.connected)
    await hears(far, inbox, "sappers.log.entries")


async def test_a_server_that_falls_silent_is_left(hub: Hub) -> None:
    await hub.run("a", "b")
    client = await hub.client("a")
    await hub.kill("a", signal.SIGSTOP)
    await client.connect([hub.members["a"], hub.members["b"]])
    await eventually(lambda: client._connected_to.startswith("nats://127.0.0.2"))
    await eventually(lambda: client.connected)


async def test_the_electorate_changes_by_reload_and_clients_stay(hub: Hub) -> None:
    await hub.run("a", "b")
    client, inbox = await hub.client("a"), Inbox()
    await client.subscribe("sappers.>", inbox)
    connection = client._connection
    await hub.run("a", "b", "c", term=2)
    await hears(await hub.client("b"), inbox, "sappers.events.x")
    await hub.run("a", "c", term=3)
    await hub.servers["b"].stop()
    await hears(await hub.client("c"), inbox, "sappers.events.x")
    assert client._connection is connection
    assert client.connected
    assert hub.supervisors["a"].starts == 1
    assert await hub.servers["b"].running_with() is None


def shown_by(address: str, port: int) -> bytes:
    """The certificate that a server shows to its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address, port), 5.0) as raw,
        context.wrap_socket(raw) as wrapped,
    ):
        shown = wrapped.getpeercert(binary_form=True)
    assert shown is not None
    return shown


async def test_a_renewed_certificate_is_shown_without_a_restart(hub: Hub) -> None:
    await hub.run("a", "b")
    member, client = hub.members["a"], await hub.client("a")
    at = (member.address, member.ports.hub)
    before = await asyncio.to_thread(shown_by, *at)
    make_identity(hub.folder, "a", hub.authority, ())
    await hub.run("a", "b")  # as the agent asks once it has seen the new files
    assert await asyncio.to_thread(shown_by, *at) != before
    assert hub.supervisors["a"].starts == 1
    assert client.connected


async def test_running_again_changes_nothing_and_an_old_term_is_refused(hub: Hub) -> None:
    await hub.run("a", term=4)
    settings = hub.files("a").path / "nats-server.conf"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    written = settings.stat().st_mtime_ns
    again = hub.server("a")  # as after a restart of the agent
    await again.run(RunHubServer((hub.members["a"],), 5))
    assert hub.supervisors["a"].starts == 1
    assert settings.stat().st_mtime_ns == written
    with pytest.raises(HubError, match="term 4 is over"):
        await hub.run("a", "b", term=4)
    await again.stop()
    with pytest.raises(HubError, match="term 4 is over"):
        await again.run(RunHubServer((hub.members["a"],), 4))
    with pytest.raises(HubError, match="not among"):
        await again.run(RunHubServer((hub.members["b"],), 6))


async def test_a_killed_server_is_started_again(hub: Hub) -> None:
    await hub.run("a")
    client, inbox = await hub.client("a"), Inbox()
    await client.subscribe("sappers.events.>", inbox)
    await hub.kill("a")
    assert await hub.servers["a"].running_with() is None
    await eventually(lambda: not client.connected)
    await client.publish("sappers.events.x", b"lost")
    assert client.dropped == 1
    await hub.run("a")
    await eventually(lambda: client.connected)
    await hears(client, inbox, "sappers.events.x")


async def test_a_server_that_cannot_start_says_why(hub: Hub) -> None:
    member = hub.members["a"]
    taken = await asyncio.start_server(lambda r, w: w.close(), member.address, member.ports.hub)
    async with taken:
        with pytest.raises(HubError, match="address already in use"):
            await hub.run("a")


async def test_a_renewed_certificate_is_taken_up_without_a_restart(hub: Hub) -> None:
    await hub.run("a")
    make_cluster_identities(hub.folder, ["a"], addresses=(), authority=hub.authority)
    await hub.run("a")
    assert hub.supervisors["a"].starts == 1
    context = ssl.create_default_context(cafile=hub.identities["a"].ca)
    _, writer = await asyncio.open_connection(
        "127.0.0.1", hub.members["a"].ports.hub, ssl=context, server_hostname="agent.sappers"
    )
    served = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    own = ssl.PEM_cert_to_DER_cert(hub.identities["a"].cert.read_text())
    assert served == own


async def test_a_server_whose_log_was_removed_begins_another_and_is_not_restarted(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.run("a")
    log = hub.files("a").log_file
    log.unlink()
    with monkeypatch.context() as impatient:
        impatient.setattr("sappers.hub.server._RELOAD_SECONDS", 0.2)
        with pytest.raises(HubError, match="not said that it reloaded"):
            await hub.run("a", refused=["shop-1"])
    await eventually(log.exists)
    await hub.run("a", refused=["shop-1"])
    assert hub.supervisors["a"].starts == 1


async def test_a_member_at_a_new_address_is_let_in(hub: Hub) -> None:
    await hub.run("a", "b")
    inbox = Inbox()
    await (await hub.client("a")).subscribe("sappers.>", inbox)
    hub.members["b"] = msgspec.structs.replace(hub.members["b"], address="127.0.0.9")
    hub.servers["b"] = hub.server("b")
    await hub.run("a", "b", term=2)
    assert hub.supervisors["a"].starts == 1
    assert hub.supervisors["b"].starts == 2  # it was still listening at the old address
    await hears(await hub.client("b"), inbox, "sappers.events.x")


async def test_wrong_credentials_and_wrong_servers_are_refused(hub: Hub, tmp_path: Path) -> None:
    await hub.run("a")
    stranger = AgentCredentials(create_hub_account("test").account_seed)
    refused = await hub.client("a", credentials=stranger.agent("a"), wait=False)
    other = make_cluster_identities(tmp_path / "other", ["a"])["a"]
    deceived = await hub.client("a", identity=other, wait=False)
    await eventually(lambda: "authentication error" in hub.log("a"))
    await eventually(lambda: "TLS handshake error" in hub.log("a"))
    assert not refused.connected
    assert not deceived.connected


async def test_a_member_in_anothers_place_is_no_server(hub: Hub) -> None:
    """Its certificate is of the cluster, and has the name that all agents' have."""
    await hub.run("a")
    client = await hub.client("a", wait=False)
    await client.connect([msgspec.structs.replace(hub.members["a"], id="b")])
    await eventually(lambda: "TLS handshake error" in hub.log("a"))
    assert not client.connected
    await client.connect([hub.members["a"]])
    await eventually(lambda: client.connected)


async def test_a_guest_hears_and_says_only_its_own(hub: Hub) -> None:
    await hub.run("a", "b")
    agent, all_of_it = await hub.client("a"), Inbox()
    await agent.subscribe("sappers.>", all_of_it)
    guest = await hub.client("b", credentials=hub.guest("g1"))
    own, others = Inbox(), Inbox()
    await guest.subscribe("sappers.guest.g1.>", own)
    for forbidden in ("sappers.guest.g2.>", "sappers.>", ">", "sappers.guest.*.health", "$SYS.>"):
        await guest.subscribe(forbidden, others)
    await hears(guest, all_of_it, "sappers.guest.g1.health")
    await hears(agent, own, "sappers.guest.g1.command")
    for forbidden in ("sappers.guest.g2.health", "sappers.log.entries", "_INBOX.x", "sappers.x"):
        await guest.publish(forbidden, b"evil")
    await agent.publish("sappers.guest.g2.command", b"secret")
    await hears(guest, all_of_it, "sappers.guest.g1.health")
    await hears(agent, own, "sappers.guest.g1.command")
    assert guest.connected
    assert others.messages == []
    assert {payload for _, payload in all_of_it.messages} == {b"x", b"secret"}


async def test_an_operator_hears_everything_and_says_nothing(hub: Hub) -> None:
    await hub.run("a")
    operator = await hub.client("a", credentials=hub.credentials.operator())
    agent, heard, said = await hub.client("a"), Inbox(), Inbox()
    await operator.subscribe(">", heard)
    await agent.subscribe("sappers.>", said)
    await hears(agent, heard, "sappers.events.member.joined")
    before = len(said.messages)
    await operator.publish("sappers.events.member.joined", b"lie")
    await hears(agent, heard, "sappers.events.member.joined")
    assert b"lie" not in [payload for _, payload in said.messages[before:]]


async def test_strangers_get_no_route(hub: Hub, tmp_path: Path) -> None:
    """A server of another authority, and an operator's certificate, are refused on 6222."""
    other = Hub(tmp_path / "other", {"b": "127.0.0.2"})
    other.account, other.members["b"] = hub.account, hub.members["b"]
    other.servers["b"] = other.server("b")
    operator = Hub(tmp_path / "operator", {"c": "127.0.0.3"})
    operator.account, operator.members["c"] = hub.account, hub.members["c"]
    operator.identities["c"] = msgspec.structs.replace(
        make_operator_identity(tmp_path / "operator", hub.authority, "c"), role="operator"
    )
    operator.servers["c"] = operator.server("c")
    wanted = RunHubServer(tuple(hub.members.values()), 1)
    try:
        await hub.servers["a"].run(wanted)
        await other.servers["b"].run(wanted)
        await operator.servers["c"].run(wanted)
        await eventually(lambda: "signed by unknown authority" in hub.log("a"))
        await eventually(lambda: "not agent.sappers" in hub.log("a"))
        await eventually(lambda: "Router connection closed: Authentication" in hub.log("a"))
        inbox, client = Inbox(), await hub.client("a")
        await client.subscribe("sappers.>", inbox)
        for false in (other, operator):
            identity = next(iter(false.identities.values()))
            stranger = await false.client(*false.members, identity=identity, wait=False)
            await stranger.publish("sappers.log.entries", b"evil")
        await asyncio.sleep(0.5)
        assert inbox.messages == []
    finally:
        await other.down()
        await operator.down()


async def test_garbage_hurts_nobody(hub: Hub) -> None:
    await hub.run("a", "b")
    client, inbox = await hub.client("a"), Inbox()
    await client.subscribe("sappers.>", inbox)
    member = hub.members["a"]
    for port in (member.ports.hub, member.ports.hub_routes):
        for garbage in (
            b"\0" * 4096,
            b"GET / HTTP/1.1\r\n\r\n",
            b"CONNECT {}\r\nPUB sappers.x 1\r\n",
        ):
            reader, writer = await asyncio.open_connection(member.address, port)
            writer.write(garbage)
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 60.0)  # until the server hangs up
            writer.close()
    await hears(await hub.client("b"), inbox, "sappers.events.x")
    assert {subject for subject, _ in inbox.messages} == {"sappers.events.x"}
    assert await hub_answers(member.address, member.ports.hub) == "a"


async def test_a_false_server_cannot_talk_a_client_out_of_tls(hub: Hub) -> None:
    said = asyncio.Queue[bytes]()

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_name":"a","tls_required":false,"max_payload":1048576}\r\n')
        said.put_nowait(await reader.read(4096))
        writer.close()

    member = hub.members["a"]
    async with await asyncio.start_server(lie, member.address, member.ports.hub):
        client = await hub.client("a", wait=False)
        first = await asyncio.wait_for(said.get(), 60.0)
        assert b"CONNECT" not in first
        assert not client.connected
        await client.close()


async def test_who_comes_back_has_another_name_each_time_and_an_empty_store(hub: Hub) -> None:
    settings = hub.files("b").path / "nats-server.conf"
    for name in ("b", "b@1", "b@2"):
        await hub.run("a", "b")
        assert msgspec.json.decode(settings.read_bytes())["server_name"] == name
        assert await hub_answers("127.0.0.2", hub.members["b"].ports.hub) == "b"
        store = hub.files("b").store
        await eventually(store.exists)
        await hub.servers["b"].stop()
        assert not store.exists()
        await hub.servers["b"].stop()  # again, as after a restart of the agent

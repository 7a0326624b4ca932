"""A healer's credential, claimed over a real hub of real agents. The test plays the guest."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from sappers.api.image_calls import ImageCalls
from sappers.api.wire import RepairAccess, WantedRepairKey
from sappers.errors import ApiError, SappersError
from sappers.model import subjects
from sappers.model.guest_scope import GuestScope
from sappers.model.repair import HEALER, Answer, Claim, Finding, RepairStatus, ReportedStep
from sappers.model.view import ClusterView
from sappers.provisioner.repair.login import RepairKeyPair
from sappers.security.repair_authority import (
    create_repair_authority,
    seal_authority,
    sign_repair_login,
)
from sappers.security.tls import AGENT_SERVER_NAME
from sappers.sidecar.hub import HubLink
from sappers.sidecar.message import Message
from sappers.sidecar.settings import HubAccess
from tests.image_stores import KEY, make_store, put_image
from tests.integration.agents import PORTS, WHOLE_SECONDS, Agents
from tests.unit.repair_worlds import login
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)
ANSWER_SECONDS = 60.0
AUTHORITY = create_repair_authority()


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """A cluster that has a repair key, and a healer whose image never comes: it only waits."""
    tmp_path = tmp_path_factory.mktemp("agents")
    cluster = Agents(tmp_path, ["n1", "n2", "n3"])
    cluster.start()
    wait_until("the cluster is whole", cluster.is_whole, WHOLE_SECONDS)
    store = make_store(tmp_path / "control")
    signed = store.signed(digest := put_image(store, HEALER))
    assert signed is not None
    ImageCalls(cluster.client).put_at(cluster.at("n1"), digest, signed)
    give(cluster, 7, *cluster.names)

    def has_it(name: str) -> bool:
        return AUTHORITY.public.encode() in cluster.client_at(name).call("GET", "/v1/repair-key")

    wait_until("every member has it", lambda: all(map(has_it, cluster.names)), WHOLE_SECONDS)
    yield cluster
    cluster.close()
    asyncio.run(cluster.sweep())


def hub_seed(agents: Agents) -> str:
    return (agents.folder / "n1" / "hub.seed").read_text()


class Healer:
    """A guest's link to the hub, with credentials of its own as its member mints them."""

    def __init__(self, agents: Agents, allocation_id: str, servers: Collection[str]) -> None:
        self.id = allocation_id
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()
        self._link = HubLink()
        self._access = HubAccess(
            servers=tuple(f"{agents.addresses[name]}:{PORTS.hub}" for name in servers),
            ca_pem=(agents.folder / "n1" / "pki" / "ca.pem").read_text(),
            tls_name=AGENT_SERVER_NAME,
            credentials=agents.credentials_of("n1").mint(
                GuestScope(allocation_id, "healer"), time.time() + 600
            ),
        )

    async def connect(self) -> None:
        async def take(message: Message) -> None:
            self.answers.put_nowait(msgspec.json.decode(message.payload, type=Answer))

        await self._link.subscribe(subjects.repair_answer(self.id), take)
        await self._link.use(self._access)
        await asyncio.wait_for(self._link.up.wait(), ANSWER_SECONDS)

    async def asks(self, subject: str, message: object) -> Answer:
        """Say it once; the answer."""
        await self._link.publish(subject, msgspec.json.encode(message))
        return await asyncio.wait_for(self.answers.get(), ANSWER_SECONDS)

    async def close(self) -> None:
        await self._link.use(HubAccess())


def give(agents: Agents, number: int, *names: str) -> None:
    """What the authority has signed, with a number."""
    key = seal_authority(AUTHORITY, hub_seed(agents), (KEY.public,), number)
    logins = tuple(
        sign_repair_login(AUTHORITY, msgspec.structs.replace(login(name), number=number))
        for name in names
    )
    wanted = WantedRepairKey(
        key.public, key.sealed, logins, key.image_keys, key.signature, key.number
    )
    agents.client.call("PUT", "/v1/repair-key", content=msgspec.json.encode(wanted))


def test_an_operator_cannot_give_back_what_the_authority_signed_before(agents: Agents) -> None:
    before = access(agents)
    give(agents, 7, "n3")
    with pytest.raises(ApiError, match="number 6 does not follow 7"):
        give(agents, 6, "n3")
    with pytest.raises(ApiError, match="number 6 does not follow 7"):
        give(agents, 6)
    assert access(agents) == before


def test_an_operator_alone_changes_nothing_about_how_healers_log_in(agents: Agents) -> None:
    before = access(agents)
    mine = create_repair_authority()
    sealed = seal_authority(mine, "no seed of this cluster", (KEY.public,))
    with pytest.raises(ApiError, match="cannot be decrypted"):
        agents.client.call(
            "PUT",
            "/v1/repair-key",
            content=msgspec.json.encode(
                WantedRepairKey(
                    sealed.public,
                    sealed.sealed,
                    (sign_repair_login(mine, login("n3")),),
                    sealed.image_keys,
                    sealed.signature,
                )
            ),
        )
    assert access(agents) == before


def access(agents: Agents) -> RepairAccess:
    """How healers log in; the log goes on meanwhile."""
    answer = agents.client.call("GET", "/v1/repair-key")
    return msgspec.structs.replace(msgspec.json.decode(answer, type=RepairAccess), index=0)


async def test_an_agent_that_hangs_is_repaired_by_who_claims_it_once(agents: Agents) -> None:
    before = agents.view()
    assert before is not None and before.leader_id is not None
    leader = before.leader_id
    hung = next(name for name in reversed(agents.names) if name != leader)
    agents.hang(hung)

    def look() -> ClusterView | None:
        with contextlib.suppress(SappersError):
            return agents.client_at(leader).view()  # the one that hangs is not asked
        return None

    def assigned() -> bool:
        view = look()
        return bool(view and view.repairs and view.repairs[0].status is RepairStatus.ASSIGNED)

    await asyncio.to_thread(wait_until, "a healer is assigned", assigned, WHOLE_SECONDS)
    view = await asyncio.to_thread(look)
    assert view is not None
    repair = view.repairs[0]
    assert repair.member_id == hung
    assert next(a for a in view.allocations if a.id == repair.allocation_id).member_id != hung
    assert not any(hung in one for one in view.attention), view.attention

    others = [name for name in agents.names if name != hung]
    healer = Healer(agents, repair.allocation_id, others)
    stranger = Healer(agents, "hello-0a1b2c3d", others)
    try:
        for one in (healer, stranger):
            await one.connect()
        # Another guest may not even say it: the hub drops what is not below its own subject.
        forged = Claim(RepairKeyPair().public)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stranger.asks(subjects.repair_claim(healer.id), forged), 2.0)

        answer = await healer.asks(subjects.repair_claim(healer.id), Claim(RepairKeyPair().public))
        assert answer.credential is not None, answer
        certificate = load_ssh_public_identity(answer.credential.certificate.encode())
        assert isinstance(certificate, SSHCertificate)
        assert certificate.valid_principals == [f"sappers-repair-{hung}".encode()]

        again = await healer.asks(subjects.repair_claim(healer.id), Claim(RepairKeyPair().public))
        assert "claimed already" in again.refused

        step = ReportedStep(1, "it is broken", Finding.FAILED)
        assert (await healer.asks(subjects.repair_step(healer.id), step)).acknowledged == 1
    finally:
        for one in (healer, stranger):
            await one.close()

    def told() -> bool:
        now = look()
        return bool(now and now.repairs[0].refused == 1 and now.repairs[0].attempt == 2)

    await asyncio.to_thread(wait_until, "it is counted, and another follows", told, WHOLE_SECONDS)
    with agents.client_at(leader) as client:
        kinds = [one.kind for one in client.events(limit=1000).events]
    assert "repair.refused" in kinds
    assert "repair.attempt-failed" in kinds

    agents.go_on(hung)

    def restored() -> bool:
        now = look()
        return bool(now and now.repairs[0].status is RepairStatus.RESTORED)

    await asyncio.to_thread(wait_until, "gossip has it alive", restored, WHOLE_SECONDS)

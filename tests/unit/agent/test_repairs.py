"""The leader's side of repairs, with a real state machine and real certificates."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from sappers.agent.hub.refusals import Refusals
from sappers.agent.leading.repairs import (
    COUNT_EVERY_SECONDS,
    PAYLOAD_BYTES_MAX,
    Repairs,
    healers_to_hear,
)
from sappers.agent.own_proposals import OwnProposals
from sappers.consensus.state_machine import apply
from sappers.decisions.healing import REPAIR_SECONDS
from sappers.model import subjects
from sappers.model.allocation import AllocationStatus
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import Command, Entry, Proposal, ReportAllocation, encode_proposal
from sappers.model.observation import RaftRole, RaftStatus
from sappers.model.refusal import RefusalKind
from sappers.model.repair import Answer, Claim, Finding, RepairStatus, ReportedStep
from sappers.model.repair_commands import CloseRepair, FailAttempt, PutRepairKey
from sappers.ports import Applied
from sappers.provisioner.repair.login import RepairKeyPair
from sappers.security.repair_authority import (
    SealedRepairSigner,
    create_repair_authority,
    seal_authority,
    sign_repair_login,
)
from tests.unit.repair_worlds import HEALER_IMAGE, assign, login, only_repair, opened
from tests.unit.worlds import commit, with_allocations

SECRET = "seed"
IMAGE_KEY = "e" * 64
START = 110.0


class Log:
    """The state machine itself, committed at once."""

    def __init__(self, state: ClusterState) -> None:
        self.current = state
        self.role = RaftRole.LEADER
        self.behind: ClusterState | None = None  # what is applied until something is committed

    def state(self) -> ClusterState:
        return self.behind or self.current

    def status(self) -> RaftStatus:
        return RaftStatus(self.role, 1, "m1", self.current.index, self.current.index)

    async def propose(self, proposal: Proposal, timeout_seconds: float) -> Applied:
        index, self.behind = self.current.index + 1, None
        self.current, outcome = apply(self.current, Entry(index, 1, encode_proposal(proposal)))
        return Applied(index, 1, outcome.refused)


class World:
    """One leader, and what it has answered."""

    def __init__(self) -> None:
        state, _ = commit(opened(), assign(), time=START)
        self.authority = create_repair_authority()
        sealed = seal_authority(self.authority, SECRET, (IMAGE_KEY,))
        signed = sign_repair_login(self.authority, login("m2"))
        state, _ = commit(state, PutRepairKey(sealed, (signed,)))
        self.signers: tuple[str, ...] = (IMAGE_KEY, "f" * 64)
        self.log = Log(state)
        self.time = START
        self.refusals = Refusals(self)
        self.answers: list[tuple[str, Answer]] = []
        self.lead_anew()

    def lead_anew(self) -> None:
        """Another member leads: it has the state, and nothing that the one before remembered."""
        self.repairs = Repairs(
            lambda: self.log,
            OwnProposals("m1", lambda: self.log, self),
            self,
            self,  # type: ignore[arg-type]
            SealedRepairSigner(SECRET),
            self.image_signers,
            self.refusals,
        )

    async def image_signers(self, digest: str) -> tuple[str, ...]:
        assert digest == HEALER_IMAGE.digest
        return self.signers

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def publish(self, subject: str, payload: bytes) -> None:
        self.answers.append((subject, msgspec.json.decode(payload, type=Answer)))

    def does(self, *commands: Command) -> None:
        self.log.current, outcome = commit(self.log.current, *commands, time=self.time)
        assert not outcome.refused

    async def claims(self, public_key: str, who: str = "h1") -> Answer:
        payload = msgspec.json.encode(Claim(public_key))
        return await self.hears(subjects.repair_claim(who), payload)

    async def reports(self, number: int, text: str, finding: Finding | None = None) -> Answer:
        payload = msgspec.json.encode(ReportedStep(number, text, finding))
        return await self.hears(subjects.repair_step("h1"), payload)

    async def hears(self, subject: str, payload: bytes) -> Answer:
        before = len(self.answers)
        await self.repairs.hear(subject, payload)
        assert len(self.answers) == before + 1
        where, answer = self.answers[-1]
        assert where == subjects.repair_answer(subjects.allocation_of(subject))
        return answer

    @property
    def refused(self) -> int:
        return self.refusals.totals()[RefusalKind.CREDENTIAL.value]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_claim_is_committed_before_it_is_signed(world: World) -> None:
    answer = await world.claims(RepairKeyPair().public)
    repair = only_repair(world.log.current)
    assert repair.status is RepairStatus.CLAIMED
    credential = answer.credential
    assert credential is not None
    assert (credential.repair_id, credential.attempt, credential.name) == ("r1", 1, "host2")
    certificate = load_ssh_public_identity(credential.certificate.encode())
    assert isinstance(certificate, SSHCertificate)
    assert certificate.valid_principals == [b"sappers-repair-m2"]
    assert certificate.valid_before == START + REPAIR_SECONDS == repair.credential_until
    assert certificate.key_id == b"r1/1"


async def test_without_a_key_for_the_host_the_healer_may_only_look(world: World) -> None:
    state = world.log.current
    world.log.current = msgspec.structs.replace(
        state, repair_logins=state.repair_logins.delete("m2")
    )
    credential = (await world.claims(RepairKeyPair().public)).credential
    assert credential is not None
    assert (credential.certificate, credential.login) == ("", None)
    assert (credential.address, credential.api_port) == ("10.0.0.2", 11000)


async def test_a_credential_used_twice_is_refused_counted_and_in_the_state(world: World) -> None:
    await world.claims(RepairKeyPair().public)
    again = await world.claims(RepairKeyPair().public)
    assert again.credential is None
    assert "claimed already" in again.refused
    assert world.refused == 1
    repair = only_repair(world.log.current)
    assert (repair.refused, repair.status) == (1, RepairStatus.CLAIMED)
    assert world.log.current.events[-1].kind == "repair.refused"


def deadline_of(answer: Answer) -> float:
    """When the answer's certificate ends."""
    assert answer.credential is not None
    certificate = load_ssh_public_identity(answer.credential.certificate.encode())
    assert isinstance(certificate, SSHCertificate)
    return certificate.valid_before


@pytest.mark.parametrize("leader_changes", [False, True])
async def test_an_answer_that_was_lost_is_given_again_and_lasts_no_longer(
    world: World, leader_changes: bool
) -> None:
    key = RepairKeyPair().public
    first = await world.claims(key)
    before = world.log.current
    world.time += 10
    if leader_changes:
        world.lead_anew()
    again = await world.claims(key)
    assert again.credential is not None
    assert deadline_of(again) == deadline_of(first) == START + REPAIR_SECONDS
    assert again.credential.seconds == REPAIR_SECONDS - 10
    assert (world.log.current, world.refused) == (before, 0)
    assert "claimed already" in (await world.claims(RepairKeyPair().public)).refused
    assert world.refused == 1
    world.time += REPAIR_SECONDS
    assert "claimed already" in (await world.claims(key)).refused


async def test_a_leader_that_has_not_applied_the_claim_yet_gives_its_deadline(world: World) -> None:
    key = RepairKeyPair().public
    assigned = world.log.current
    first = await world.claims(key)
    world.log.behind = assigned
    world.time += 10
    world.lead_anew()
    again = await world.claims(key)
    assert deadline_of(again) == deadline_of(first)
    assert world.refused == 0


async def test_what_is_vouched_for_no_more_is_not_signed_again(world: World) -> None:
    key = RepairKeyPair().public
    await world.claims(key)
    world.signers = ("f" * 64,)
    assert "no key that bootstrap vouched for" in (await world.claims(key)).refused


async def test_a_late_claim_is_refused_and_counted(world: World) -> None:
    world.time = only_repair(world.log.current).deadline + 1
    assert "after its deadline" in (await world.claims(RepairKeyPair().public)).refused
    assert only_repair(world.log.current).refused == 1


async def test_a_claim_after_the_end_and_of_an_earlier_attempt_is_refused(world: World) -> None:
    world.does(ReportAllocation("h1", AllocationStatus.FAILED, "test"))
    world.does(FailAttempt("r1", 1, "test", 0.0), assign(2))
    assert "is not its healer" in (await world.claims(RepairKeyPair().public)).refused
    world.does(CloseRepair("r1", RepairStatus.FAILED, "test"))
    assert "is over" in (await world.claims(RepairKeyPair().public, "h2")).refused
    assert world.refused == 2


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[" * 4000, b'{"public_key": 7}', b'{"public_key": "ssh-rsa AAAA"}', b"{}"],
)
async def test_nonsense_is_refused_and_gives_nothing(world: World, payload: bytes) -> None:
    answer = await world.hears(subjects.repair_claim("h1"), payload)
    assert answer.refused
    assert answer.credential is None
    assert world.refused == 1


async def test_a_flood_is_counted_without_filling_the_log(world: World) -> None:
    await world.claims(RepairKeyPair().public)
    before = world.log.current.index
    for _ in range(500):
        await world.hears(subjects.repair_step("h1"), b"x" * (PAYLOAD_BYTES_MAX + 1))
    assert world.refused == 500
    assert len([e for e in world.log.current.events if e.kind == "repair.refused"]) == 1
    assert world.log.current.index <= before + 1
    world.time += COUNT_EVERY_SECONDS
    await world.hears(subjects.repair_step("h1"), b"nonsense")
    assert only_repair(world.log.current).refused == 501


async def test_a_step_is_acknowledged_once_it_is_committed(world: World) -> None:
    await world.claims(RepairKeyPair().public)
    assert (await world.reports(1, "starting\x1b[31m it\n")).acknowledged == 1
    assert world.log.current.events[-1].text == "host2: starting [31m it "
    assert (await world.reports(1, "starting it")).acknowledged == 1  # it was sent again
    assert (await world.reports(2, "it runs", Finding.RESTORED)).acknowledged == 2
    assert only_repair(world.log.current).finding is Finding.RESTORED
    assert [e.kind for e in world.log.current.events].count("repair.step") == 2


async def test_a_step_without_a_credential_is_refused(world: World) -> None:
    assert "no credential" in (await world.reports(1, "starting it")).refused


async def test_the_image_run_by_hand_has_nothing_to_do(world: World) -> None:
    healer = world.log.current.allocations["h1"]
    idle = msgspec.structs.replace(healer, id="healer-1", repair="")
    world.log.current = with_allocations(world.log.current, idle)
    assert (await world.claims(RepairKeyPair().public, "healer-1")).idle
    assert world.refused == 0
    assert set(healers_to_hear(world.log.current)) == {"h1", "healer-1"}


async def test_who_does_not_lead_stays_silent(world: World) -> None:
    world.log.role = RaftRole.FOLLOWER
    await world.repairs.hear(subjects.repair_claim("h1"), b"{}")
    assert world.answers == []


async def test_a_login_that_was_committed_but_not_signed_is_told_to_nobody(world: World) -> None:
    key = world.log.current.repair_key
    assert key is not None
    good = world.log.current.repair_logins["m2"]
    for changed in (
        msgspec.structs.replace(good, start=("/bin/evil",)),
        msgspec.structs.replace(good, become=True),
        msgspec.structs.replace(good, signature=""),
        sign_repair_login(create_repair_authority(), good),
    ):
        world.does(PutRepairKey(key, (changed,)))
        answer = await world.claims(RepairKeyPair().public)
        assert answer.credential is None
        assert "not signed by the cluster's repair key" in answer.refused
    assert only_repair(world.log.current).status is RepairStatus.ASSIGNED
    world.does(PutRepairKey(key, (good,)))
    assert (await world.claims(RepairKeyPair().public)).credential is not None


async def test_an_image_that_bootstrap_did_not_vouch_for_is_no_healer(world: World) -> None:
    world.signers = ("f" * 64,)
    answer = await world.claims(RepairKeyPair().public)
    assert answer.credential is None
    assert "no key that bootstrap vouched for" in answer.refused
    key = world.log.current.repair_key
    assert key is not None
    # Whoever may only have things committed cannot vouch for another key either.
    forged = msgspec.structs.replace(key, image_keys=world.signers)
    world.does(PutRepairKey(forged, ()))
    answer = await world.claims(RepairKeyPair().public)
    assert "not signed by the cluster's repair key" in answer.refused


async def test_another_key_of_somebodys_own_opens_nothing(world: World) -> None:
    mine = create_repair_authority()
    sealed = seal_authority(mine, "not the seed", (IMAGE_KEY,))
    world.does(PutRepairKey(sealed, (sign_repair_login(mine, login("m2")),)))
    answer = await world.claims(RepairKeyPair().public)
    assert answer.credential is None
    assert "cannot be decrypted" in answer.refused

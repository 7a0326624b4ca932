"""`sappers-deploy` as a process of its own against a served member: output and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sappers.agent.clock import SystemClock
from sappers.agent.running import RunningAgent, announce, claimed
from sappers.api.server import ApiServer
from sappers.assembly.images import LocalImages
from sappers.config import ControlHome
from sappers.errors import NoQuorum
from sappers.model.allocation import AllocationStatus
from sappers.model.commands import (
    PlaceAllocation,
    Proposal,
    RegisterMember,
    ReportAllocation,
)
from sappers.model.image import Manifest, MicrovmBoot
from sappers.model.member import MemberState
from sappers.model.view import ClusterView
from sappers.provisioner.control.record import (
    ClusterRecord,
    RecordedMember,
    remember_last_cluster,
    save_record,
)
from sappers.security.authority import create_authority, create_operator
from sappers.security.signing import load_or_create_signing_key
from tests.fake_member import FakeMember, make_allocation
from tests.identities import make_cluster_identities

COMMAND = str(Path(sys.executable).parent / "sappers-deploy")
AGENT = str(Path(sys.executable).parent / "sappers")


class Ended:
    def __init__(self, code: int | None, out: bytes, err: bytes) -> None:
        self.code, self.out, self.err = code, out.decode(), err.decode()

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


class Control:
    """A control machine that knows one cluster, and the cluster's one member."""

    def __init__(self, folder: Path) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "SAPPERS_HOME": str(folder / "home"),
            "NO_COLOR": "1",
        }
        self.home = ControlHome(folder / "home", folder / "cache")
        authority = create_authority("lab")
        (identity,) = make_cluster_identities(folder, ["n1"], authority=authority).values()
        (folder / "images").mkdir()
        self.images = LocalImages(self.home)
        own = self.images.own_key(create=True)
        assert own is not None
        self.member = FakeMember("n1", folder / "images", trusted=lambda: (own.key,))
        self.server = ApiServer(
            self.member,
            identity,
            "127.0.0.1",
            0,
            clock=SystemClock(),
            refusals=self.member.refusals,
        )
        self._authority = authority
        self.begun: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        await self.server.start()
        self.member.listens_at(self.server.port)
        folder = self.home.cluster("lab")
        self.record(self.server.port)
        remember_last_cluster(self.home, "lab")
        (folder / "ca.pem").write_bytes(self._authority.cert_pem)
        cert_pem, key_pem = create_operator(self._authority, "operator")
        (folder / "operator.pem").write_bytes(cert_pem)
        (folder / "operator.key").touch(mode=0o600)
        (folder / "operator.key").write_bytes(key_pem)
        await self.commit(RegisterMember(self.member.me))

    def record(self, port: int) -> None:
        member = RecordedMember("n1", "n1", "127.0.0.1", port)
        save_record(self.home.cluster("lab"), ClusterRecord(name="lab", members=(member,)))

    async def commit(self, *commands) -> None:
        log = self.member.log
        proposal = Proposal(f"r{log.state().index}", "n1", 1.0, commands)
        assert not (await log.propose(proposal, 1)).refused

    async def begin(self, *arguments: str, program: str = COMMAND) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.begun.append(process)
        return process

    async def close(self) -> None:
        """Leave no process behind, whatever a test came to."""
        for process in self.begun:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        await self.server.stop()

    async def deploy(self, *arguments: str, program: str = COMMAND) -> Ended:
        process = await self.begin(*arguments, program=program)
        async with asyncio.timeout(300):
            out, err = await process.communicate()
        return Ended(process.returncode, out, err)

    def keep_image(self) -> str:
        """Built on the control machine; `run` pushes it."""
        boot = MicrovmBoot(self.images.store.put([b"kernel" * 1000]), self.images.store.put([b"i"]))
        key = load_or_create_signing_key(self.home.image_signing_key)
        manifest = Manifest("hello", "x86_64", boot, guest_port=8080)
        return self.images.store.put_manifest(manifest, key)


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    one = Control(tmp_path)
    await one.start()
    yield one
    await one.close()


async def place_what_is_wanted(control: Control) -> None:
    """Play the leader and the guest: place the workload's copy, start it, make it healthy."""
    log = control.member.log
    while not (workloads := log.state().workloads):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    workload = workloads["web"]
    copy = make_allocation(
        "web",
        "n1",
        revision=workload.revision,
        image=workload.image,
        guest_port=workload.guest_port,
        host_port=workload.guest_port,
    )
    await control.commit(PlaceAllocation(copy, "room"))
    await control.commit(ReportAllocation(copy.id, AllocationStatus.STARTING, "launched"))
    await asyncio.sleep(0.5)
    await control.commit(ReportAllocation(copy.id, AllocationStatus.HEALTHY, "it pushes"))


async def test_run_ps_logs_status_events_stop(control: Control) -> None:
    digest = control.keep_image()
    control.member.serial_logs["web-0a1b2c3d"] = "one\ntwo\nthree\n"

    ran, _ = await asyncio.gather(
        control.deploy("run", "web", "--image", "hello"), place_what_is_wanted(control)
    )
    assert (ran.code, ran.out) == (0, "http://127.0.0.1:8080\n"), ran
    assert "web is healthy" in ran.err
    assert control.member.log.state().workloads["web"].image.digest == digest
    assert control.member.images.held(digest) == (2, 2)

    ps, logs, status, events = await asyncio.gather(
        control.deploy("ps"),
        control.deploy("logs", "web", "-n", "2"),
        control.deploy("status"),
        control.deploy("events", "-n", "2", "-o", "json"),
    )
    assert ps.code == 0, ps
    assert "web-0a1b2c3d n1     healthy 128 MiB 127.0.0.1:8080" in ps.out
    assert (logs.code, logs.out) == (0, "two\nthree\n"), logs
    assert status.code == 0, status
    assert "cluster lab · leader n1" in status.out
    assert "\x1b" not in status.out
    kinds = [event["kind"] for event in json.loads(events.out)]
    assert kinds == ["allocation.starting", "allocation.healthy"]

    stopping = await control.begin("stop", "web")
    while control.member.log.state().workloads:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await control.commit(
        ReportAllocation("web-0a1b2c3d", AllocationStatus.STOPPED, "its workload is wanted no more")
    )
    _, err = await stopping.communicate()
    assert stopping.returncode == 0, err
    assert b"web is stopped" in err

    again = await control.deploy("stop", "web")
    assert again.code == 1
    assert "no workload web" in again.err


async def test_launched_again_a_workload_keeps_what_the_flags_do_not_say(
    control: Control, tmp_path: Path
) -> None:
    control.keep_image()
    options = ("--image", "hello", "--count", "2", "--link", "db", "--private", "--memory", "200")
    ran = await control.deploy("run", "web", *options, "--no-wait")
    assert ran.code == 0, ran
    await place_what_is_wanted(control)
    before = control.member.log.state().workloads["web"]

    state = tmp_path / "n1"  # as of an agent by hand that runs, and is this test's member
    with claimed(state / "agent.lock") as lock:
        announce(lock, RunningAgent("n1", os.getpid(), "127.0.0.1", control.server.port))
        launched = await control.deploy(
            "--launch-microvm", "web", "--consul-service", "shop", str(state), program=AGENT
        )
    assert launched.code == 0, launched
    assert "web is healthy" in launched.err
    after = control.member.log.state().workloads["web"]
    assert (before.count, before.links, before.private) == (2, ("db",), True)
    assert after == msgspec.structs.replace(before, service="shop")


async def test_a_guest_that_never_gets_healthy_ends_with_where_to_look(control: Control) -> None:
    control.keep_image()
    ended = await control.deploy("run", "web", "--image", "hello", "--timeout", "0")
    assert ended.code == 1
    assert "not within 0 s: 0 of 1 healthy" in ended.err
    assert "sappers-deploy logs web" in ended.err


async def test_an_image_that_is_not_built(control: Control) -> None:
    ended = await control.deploy("run", "web", "--image", "nope")
    assert ended.code == 1
    assert "sappers-deploy image build nope" in ended.err


async def test_status_is_pure_json_and_says_no_quorum_with_5(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await control.member.view()
    lost = msgspec.structs.replace(
        whole,
        leader_id=None,
        has_quorum=False,
        age_seconds=95.0,
        members=tuple(
            msgspec.structs.replace(
                one, member=msgspec.structs.replace(one.member, state=MemberState.SUSPECT)
            )
            for one in whole.members
        ),
    )

    async def view() -> ClusterView:
        return lost

    monkeypatch.setattr(control.member, "view", view)
    ended = await control.deploy("status", "-o", "json")
    assert ended.code == 5
    assert msgspec.json.decode(ended.out, type=ClusterView) == lost
    listed = await control.deploy("ps", "-o", "json")
    assert listed.err.strip() == "as n1 answers, 95 s old"
    assert msgspec.json.decode(listed.out)["age_seconds"] == 95.0


async def test_a_write_without_quorum_ends_with_5(control: Control) -> None:
    control.member.log.fails_with = NoQuorum("no leader is known", hint="start more voters")
    ended = await control.deploy("stop", "web")
    assert ended.code == 5
    assert "no leader is known" in ended.err
    assert "start more voters" in ended.err


async def test_no_member_reachable_ends_with_4(control: Control) -> None:
    control.record(1)
    ended = await control.deploy("status")
    assert ended.code == 4
    assert "n1 (127.0.0.1 port 1)" in ended.err
    at = await control.deploy("status", "--addr", f"127.0.0.1:{control.server.port}")
    assert at.code == 0


async def test_the_cluster_is_a_dynamic_inventory(control: Control) -> None:
    control.environment["SAPPERS_DEPLOY"] = COMMAND
    script = str(Path(__file__).parents[2] / "inventory/cluster")
    ended = await control.deploy("--list", program=script)
    assert ended.code == 0, ended
    listing = json.loads(ended.out)
    assert listing["sappers_members"] == {"hosts": ["n1"]}
    variables = listing["_meta"]["hostvars"]["n1"]
    assert (variables["ansible_host"], variables["sappers_state"]) == ("127.0.0.1", "alive")
    one = await control.deploy("--host", "n1", program=script)
    assert json.loads(one.out) == variables


async def test_usage_is_64_and_an_interrupt_130(control: Control) -> None:
    ended = await control.deploy("status", "--nope")
    assert ended.code == 64
    ended = await control.deploy("run", "Web!", "--image", "hello")
    assert ended.code == 1
    assert "cannot be a workload's name" in ended.err

    following = await control.begin("events", "-f")
    assert following.stdout is not None
    assert b"member.joined" in await following.stdout.readline()
    following.send_signal(signal.SIGINT)
    await following.communicate()
    assert following.returncode == 130


async def test_events_are_followed_and_outlive_their_member(control: Control) -> None:
    following = await control.begin("events", "-f", "-o", "json")
    assert following.stdout is not None
    first = json.loads(await following.stdout.readline())
    assert first["kind"] == "member.joined"
    moved = msgspec.structs.replace(control.member.me, address="127.0.0.2")
    await control.commit(RegisterMember(moved))
    async with asyncio.timeout(120):
        second = json.loads(await following.stdout.readline())
    assert second["kind"] == "member.moved"
    assert following.stderr is not None
    await control.server.stop()
    async with asyncio.timeout(120):
        assert b"trying again" in await following.stderr.readline()


async def test_what_happened_is_explained_verified_and_backed_up(
    control: Control, tmp_path: Path
) -> None:
    control.keep_image()
    await asyncio.gather(
        control.deploy("run", "web", "--image", "hello"), place_what_is_wanted(control)
    )
    await control.member.events.write_down()

    told = await control.deploy("explain", "web")
    assert told.code == 0, told
    lines = [line[20:].split(None, 2)[1:] for line in told.out.splitlines()[2:]]
    assert [phase for phase, _ in lines] == ["asked", "decision", "action", "health"]
    assert lines[0][1].endswith("(operator/operator)")
    story = json.loads((await control.deploy("explain", "web", "-o", "json")).out)
    assert [event.get("cause", 0) for event in story["events"]][1:] == [
        event["number"] for event in story["events"][:-1]
    ]
    nobody = await control.deploy("explain", "nobody")
    assert (nobody.code, nobody.out) == (1, "")
    assert "hint: sappers-deploy status lists members" in nobody.err

    good = await control.deploy("events", "verify")
    assert good.code == 0, good
    assert "the past is as it was on 1 member" in good.out
    head = good.out.split("head ")[1].split()[0]
    assert (await control.deploy("events", "verify", "--head", head)).code == 0
    forged = head[:-1] + ("0" if head[-1] != "0" else "1")
    assert (await control.deploy("events", "verify", "--head", forged)).code == 1

    file = tmp_path / "lab.backup"
    made = await control.deploy("backup", str(file))
    assert (made.code, made.out) == (0, ""), made
    assert "1 workload, 1 image" in made.err
    assert file.stat().st_mode & 0o777 == 0o600
    again = await control.deploy("backup", str(file))
    assert again.code == 1
    assert "say --force" in again.err
    since = await control.deploy("events", "--file", str(file), "--workload", "web", "-o", "json")
    assert [event["kind"] for event in json.loads(since.out)][-1] == "allocation.healthy"

    inventory = tmp_path / "lab.ini"
    inventory.write_text("lab1 ansible_host=127.0.0.1 sappers_cluster=lab\n")
    refused = await control.deploy("restore", str(file), str(inventory))
    assert refused.code == 1
    assert "cluster lab answers, and runs web" in refused.err
    refused = await control.deploy("restore", str(file), str(inventory), "--replace")
    assert "nothing was changed" in refused.err
    file.write_bytes(file.read_bytes()[:-1])
    damaged = await control.deploy("restore", str(file), str(inventory))
    assert damaged.code == 1
    assert f"{file} is no backup that can be read" in damaged.err


async def test_a_changed_line_ends_verify_with_an_error(control: Control) -> None:
    control.keep_image()
    await asyncio.gather(
        control.deploy("run", "web", "--image", "hello"), place_what_is_wanted(control)
    )
    await control.member.events.write_down()
    (path,) = control.member.event_folder.glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"web created", b"web creates"))
    changed = await control.deploy("events", "verify")
    assert changed.code == 1
    assert f"differs, in {path} line " in changed.out
    as_data = json.loads((await control.deploy("events", "verify", "-o", "json")).out)
    assert as_data["findings"][0]["member"] == "n1"

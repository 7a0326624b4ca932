"""`sappers-deploy bootstrap`: from the hosts of an inventory to a cluster, or to what is missing.

`_phases` has what is done to each host. What is done for all of them together follows in `run`:
the cluster forms, gets its images, and then Consul.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import msgspec

from sappers.config import ControlHome
from sappers.errors import SappersError
from sappers.provisioner.bootstrap.apt import Apt
from sappers.provisioner.bootstrap.apt_proxy import AptProxy
from sappers.provisioner.bootstrap.bundle import Bundle
from sappers.provisioner.bootstrap.cluster_images import (
    IMAGES_PHASE,
    ClusterImages,
    plan_images,
    spread_images,
)
from sappers.provisioner.bootstrap.cluster_probe import ClusterProbe
from sappers.provisioner.bootstrap.consul_step import choose_servers, install_consul
from sappers.provisioner.bootstrap.forming import (
    DEADLINE_SECONDS,
    DEADLINE_WITH_HOSTS_MISSING_SECONDS,
    Answers,
    await_cluster,
    cluster_results,
)
from sappers.provisioner.bootstrap.founding import Founding, decide_founding
from sappers.provisioner.bootstrap.host_plays import HostPlays
from sappers.provisioner.bootstrap.host_ways import HostWays, run_phase
from sappers.provisioner.bootstrap.member_values import MemberValues
from sappers.provisioner.bootstrap.node_ids import NodeIds
from sappers.provisioner.bootstrap.phases.connect import Connect
from sappers.provisioner.bootstrap.phases.consul import Consul
from sappers.provisioner.bootstrap.phases.play import (
    IDENTITY_PLAY,
    PATIENCE_SECONDS,
    RESTART_PLAY,
    Around,
    PlayPhase,
    membership,
    useful_again,
)
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.bootstrap.recap import CLUSTER_PHASE, Outcome, PhaseResult, Recap
from sappers.provisioner.bootstrap.record_keeper import RecordKeeper
from sappers.provisioner.bootstrap.repair_key import (
    ClusterRepairKey,
    ensure_repair_key,
    give_repair_key,
    load_repair_key,
)
from sappers.provisioner.bootstrap.run import HostRun, Meeting, Phase, Watcher
from sappers.provisioner.bootstrap.settled import look_at
from sappers.provisioner.control.consul_secrets import ensure_consul_secrets, load_consul_secrets
from sappers.provisioner.control.identity import (
    HubSecrets,
    ensure_control_identity,
    has_authority,
    load_control_identity,
)
from sappers.provisioner.control.record import remember_last_cluster
from sappers.provisioner.control.run_lock import describe_holder, run_lock
from sappers.provisioner.inventory.inventory import Host, Inventory
from sappers.provisioner.playbook.language.model import Play


class Options(msgspec.Struct, frozen=True):
    """What a person may ask of a run.

    Attributes:
        forks: How many hosts are worked on at once.
        check: Change nothing on hosts; say what would change.
    """

    forks: int = 20
    check: bool = False
    connect_timeout_seconds: float = 10.0


class Needs(msgspec.Struct, frozen=True):
    """What bootstrap takes from other rooms; the composition root fills it in.

    Attributes:
        build_bundle: Builds the agent, or finds it built; told whom to tell what goes on.
        create_hub: New hub secrets for a cluster of that name.
        probe: Asks agents how they are.
    """

    build_bundle: Callable[[Callable[[str], None]], Bundle]
    create_hub: Callable[[str], HubSecrets]
    images: ClusterImages
    repair_key: ClusterRepairKey
    probe: ClusterProbe


class Bootstrap:
    """One run over the hosts of an inventory, or some of them."""

    def __init__(
        self,
        home: ControlHome,
        inventory: Inventory,
        plan: ClusterPlan,
        needs: Needs,
        plays: Sequence[Play],
    ) -> None:
        self._home = home
        self._folder = home.cluster(plan.name)
        self._inventory = inventory
        self._plan = plan
        self._needs = needs
        self._plays = plays
        self._record = RecordKeeper(self._folder, plan, Path(inventory.path))
        self._founding_lock = threading.Lock()
        self._founding: Founding | None = None

    def run(self, hosts: Sequence[Host], options: Options, watcher: Watcher) -> Recap:
        """Work on the hosts and wait for their cluster.

        Raises:
            LockHeld: Another run works on the cluster.
            SappersError: Something on this machine failed; the hosts stay as they are, and the
                next run goes on from there.
        """
        began = time.monotonic()
        holder = describe_holder(time.time())
        wanted = self._needs.images.wanted(self._plan.images)
        with ExitStack() as stack:
            if not options.check:
                stack.enter_context(run_lock(self._folder, self._plan.name, holder))
            apt = Apt(stack.enter_context(AptProxy(self._home.cache / "apt")))
            runs = [self._host_run(host, options, watcher) for host in hosts]
            stack.callback(_close_all, runs)
            meeting = Meeting()
            phases = self._phases(apt, meeting, holder, options, watcher, runs)
            results = HostWays(phases, meeting, options.forks, watcher).go(runs)
            answers, error = self._form(runs, results, options, watcher)
            formed = error is None
            error = error or self._spread(runs, results, wanted, options, watcher)
            if formed:
                self._install_consul(runs, results, answers, apt, options, watcher)
            if not options.check and self._record.conclude(answers):
                remember_last_cluster(self._home, self._plan.name)
        return Recap(hosts=results, cluster_error=error, seconds=time.monotonic() - began)

    def _phases(
        self,
        apt: Apt,
        meeting: Meeting,
        holder: str,
        options: Options,
        watcher: Watcher,
        runs: Sequence[HostRun],
    ) -> tuple[Phase, ...]:
        image_key = self._needs.images.own_key(create=not options.check)
        bundle = _in_background(lambda: self._build(watcher))
        has_signed = has_authority(self._folder)
        identity = (
            load_control_identity(self._folder)
            if options.check
            else ensure_control_identity(self._folder, self._plan.name, self._needs.create_hub)
        )
        key = load_repair_key(self._folder) if options.check else ensure_repair_key(self._folder)
        repair_key = key.public if key else None

        def founding() -> Founding:
            return self._decide_founding(runs, check=options.check)

        playbooks = self._plays[0].folder
        values = MemberValues(
            self._plan, identity, founding, image_key, repair_key, bundle.result, apt, playbooks
        )
        ids = NodeIds(
            self._plan.name,
            self._record.owners(),
            [member.name for member in self._plan.members],
            identity.authority.cert_pem if identity and has_signed else None,
        )
        around = {
            IDENTITY_PLAY: membership(self._record.remember),
            RESTART_PLAY: useful_again(self._needs.probe),
        }
        connect = Connect(
            self._plan.ports,
            meeting,
            self._get_ready(values, ids),
            holder=holder,
            connect_timeout_seconds=options.connect_timeout_seconds,
        )
        return (connect, *(self._play_phase(play, around) for play in self._plays))

    @staticmethod
    def _play_phase(play: Play, around: Mapping[str, Around]) -> PlayPhase:
        name = str(play.name)
        # Restarts keep to their turns, come what may: the next may be the last voter.
        patience = None if name == RESTART_PLAY else PATIENCE_SECONDS
        return PlayPhase(play, around.get(name), patience)

    def _get_ready(self, values: MemberValues, ids: NodeIds) -> Callable[[HostRun], None]:
        def get_ready(host: HostRun) -> None:
            assert host.connection is not None, "it was connected to just now"
            host.settled = look_at(host.name, host.executor, self._plan.name, ids)
            host.certificate = host.settled.certificate
            host.is_outdated = lambda: values.is_outdated(host)
            host.plays = HostPlays(
                host.name,
                self._inventory,
                host.connection,
                host.executor,
                check=host.check,
                given=values.given(host),
                lookups=values.lookups(host),
                note=host.note,
            )

        return get_ready

    def _build(self, watcher: Watcher) -> Bundle:
        try:
            return self._needs.build_bundle(lambda text: watcher.note("", text))
        finally:
            watcher.note("", "")

    def _host_run(self, host: Host, options: Options, watcher: Watcher) -> HostRun:
        return HostRun(
            host=host,
            member=self._plan.member(host.name),
            check=options.check,
            note=lambda text: watcher.note(host.name, text),
        )

    def _decide_founding(self, runs: Sequence[HostRun], *, check: bool) -> Founding:
        with self._founding_lock:
            if self._founding is None:
                self._founding = decide_founding(
                    self._folder,
                    self._plan,
                    lambda: [run.name for run in runs if run.fit],
                    check=check,
                )
            return self._founding

    # -- the cluster -------------------------------------------------------------------------------

    def _form(
        self,
        runs: Sequence[HostRun],
        results: dict[str, list[PhaseResult]],
        options: Options,
        watcher: Watcher,
    ) -> tuple[Answers, SappersError | None]:
        fit = [run for run in runs if run.fit]
        if not fit:
            return {}, None
        if options.check:
            for run in fit:
                results[run.name].append(PhaseResult(CLUSTER_PHASE, Outcome.SKIPPED))
            return {}, None
        began = time.monotonic()
        for run in fit:
            watcher.started(run.name, CLUSTER_PHASE)
        enough = len(fit) == len(runs) and len(fit) >= self._plan.founding_voters
        answers, missing = await_cluster(
            fit,
            self._needs.probe,
            lambda text: watcher.note("", text),
            DEADLINE_SECONDS if enough else DEADLINE_WITH_HOSTS_MISSING_SECONDS,
        )
        ended, error = cluster_results(answers, missing, time.monotonic() - began)
        for name, result in ended.items():
            results[name].append(result)
            watcher.ended(name, result)
        return answers, error

    def _install_consul(
        self,
        runs: Sequence[HostRun],
        results: dict[str, list[PhaseResult]],
        answers: Answers,
        apt: Apt,
        options: Options,
        watcher: Watcher,
    ) -> None:
        """Consul on the hosts of a cluster that has formed."""
        hosts = [run for run in runs if run.fit]
        if not hosts or not self._plan.consul_addresses:
            return
        for run in hosts:
            watcher.started(run.name, Consul.title)
        consul = Consul(
            self._plan,
            load_control_identity(self._folder),
            (load_consul_secrets if options.check else ensure_consul_secrets)(self._folder),
            apt,
            choose_servers(hosts, answers, self._needs.probe, self._plan),
        )
        ended = install_consul(hosts, consul, self._needs.probe, run_phase, options.forks)
        for name, result in ended.items():
            results[name].append(result)
            watcher.ended(name, result)

    def _spread(
        self,
        runs: Sequence[HostRun],
        results: dict[str, list[PhaseResult]],
        wanted: Mapping[str, str],
        options: Options,
        watcher: Watcher,
    ) -> SappersError | None:
        """Give the images to a cluster that is whole; what went wrong."""
        fit = [run for run in runs if run.fit]
        if not fit or any(not results[run.name][-1].outcome.is_good for run in fit):
            return None
        images, error = self._needs.images, None
        own_key = images.own_key(create=False)
        image_key = own_key.key if own_key is not None else None

        def note(text: str) -> None:
            watcher.note("", text)

        for run in fit:
            watcher.started(run.name, IMAGES_PHASE)
        if options.check:
            ended = plan_images(fit, images, wanted)
        else:
            ended, error = spread_images(
                fit,
                images,
                wanted,
                note,
                lambda: give_repair_key(
                    fit, self._needs.repair_key, self._folder, image_key, note, time.time()
                ),
            )
        watcher.note("", "")
        for name, result in ended.items():
            results[name].append(result)
            watcher.ended(name, result)
        return error


def _in_background(build: Callable[[], Bundle]) -> Future[Bundle]:
    future: Future[Bundle] = Future()

    def work() -> None:
        try:
            future.set_result(build())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def _close_all(runs: Sequence[HostRun]) -> None:
    for run in runs:
        if run.connection is not None:
            run.connection.close()

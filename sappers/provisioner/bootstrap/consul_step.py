"""Consul on all hosts that should have it: started everywhere first, then each is waited for.

It comes after the cluster has formed, for only then it is known who votes. Run again after the
voters have changed, it makes servers of the new ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import msgspec

from sappers.errors import ApiError, HostError
from sappers.model.observation import RaftRole
from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap.cluster_probe import ClusterProbe
from sappers.provisioner.bootstrap.forming import Answers
from sappers.provisioner.bootstrap.phases.consul import Consul, ConsulServers
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.bootstrap.recap import Outcome, PhaseResult
from sappers.provisioner.bootstrap.run import HostRun

RunPhase = Callable[[Consul, HostRun], PhaseResult]

_TOLD_SECONDS = 30.0
_PAUSE_SECONDS = 0.3


def choose_servers(
    hosts: Sequence[HostRun], answers: Answers, probe: ClusterProbe, plan: ClusterPlan
) -> ConsulServers:
    """The voters among the hosts that are to have Consul; of others it is not known who votes."""
    with_consul = [host for host in hosts if host.member.consul]
    names = frozenset(one.name for one in with_consul if _votes(one, answers, probe, plan))
    all_are_here = len(with_consul) == len(plan.consul_addresses)
    return ConsulServers(names, len(names) if all_are_here else plan.founding_voters)


def _votes(host: HostRun, answers: Answers, probe: ClusterProbe, plan: ClusterPlan) -> bool:
    """Whether a host's member votes, by its own word; where it does not run yet, whether it may."""
    answer = answers.get(host.name)
    if answer is None and host.running:
        with suppress(ApiError):
            answer = probe.health(host)
    if isinstance(answer, MemberHealth):
        return answer.role != RaftRole.NONE
    return host.name in plan.founders()[: plan.founding_voters]


def install_consul(
    hosts: Sequence[HostRun], consul: Consul, probe: ClusterProbe, run_phase: RunPhase, forks: int
) -> dict[str, PhaseResult]:
    """Each host's result. `run_phase` runs a phase and turns its errors into a result."""
    with ThreadPoolExecutor(max_workers=min(forks, len(hosts))) as pool:
        started = list(pool.map(lambda host: run_phase(consul, host), hosts))
        ended = pool.map(lambda host, result: _settle(consul, probe, host, result), hosts, started)
        return {host.name: result for host, result in zip(hosts, ended, strict=True)}


def _settle(consul: Consul, probe: ClusterProbe, host: HostRun, result: PhaseResult) -> PhaseResult:
    """The result once Consul works too, as far as it got that far."""
    if host.check or result.outcome not in (Outcome.OK, Outcome.CHANGED):
        return result
    began = time.monotonic()
    outcome: Outcome = result.outcome
    errors = result.errors
    try:
        consul.settle(host)
        _await_told(probe, host)
        outcome = Outcome.CHANGED if host.changes else Outcome.OK
    except HostError as error:
        outcome, errors = Outcome.FAILED, (error,)
    return msgspec.structs.replace(
        result,
        outcome=outcome,
        errors=errors,
        changes=tuple(host.changes),
        seconds=result.seconds + time.monotonic() - began,
    )


def _await_told(probe: ClusterProbe, host: HostRun) -> None:
    """Until the host's agent has told its Consul everything."""
    deadline = time.monotonic() + _TOLD_SECONDS
    while True:
        try:
            health = probe.health(host)
            if health.consul == "ok":
                return
            reason = health.consul_trouble
        except ApiError as error:
            reason = error.message
        if time.monotonic() > deadline:
            raise HostError(
                host.name,
                f"its agent does not get on with its Consul: {reason}",
                hint="journalctl -u sappers -u sappers-consul on the host says more",
            )
        time.sleep(_PAUSE_SECONDS)

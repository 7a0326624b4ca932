"""The last phase: wait until the cluster is one, and say meanwhile what it still lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sappers.errors import ApiError, HostError, NoQuorum, SappersError
from sappers.model.view import MemberHealth
from sappers.provisioner.bootstrap.cluster_probe import (
    ClusterProbe,
    find_missing,
    has_quorum,
    highest_commit,
)
from sappers.provisioner.bootstrap.recap import CLUSTER_PHASE, Outcome, PhaseResult
from sappers.provisioner.bootstrap.run import HostRun

DEADLINE_SECONDS = 120.0
# With hosts missing a new cluster may be unable to form, and waiting would not help.
DEADLINE_WITH_HOSTS_MISSING_SECONDS = 20.0
_PAUSE_SECONDS = 0.25
_AT_ONCE = 20

Answers = Mapping[str, MemberHealth | str]


def await_cluster(
    hosts: Sequence[HostRun],
    probe: ClusterProbe,
    note: Callable[[str], None],
    deadline_seconds: float,
) -> tuple[Answers, tuple[str, ...]]:
    """The hosts' last answers, and what is missing at the deadline: nothing if all is well."""
    deadline = time.monotonic() + deadline_seconds
    settled_index = 0
    shown = ""
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(hosts))) as pool:
        while True:
            found = pool.map(lambda host: _ask(probe, host), hosts)
            answers = dict(zip((host.name for host in hosts), found, strict=True))
            # What was committed before everyone was asked, everyone must have by then.
            settled_index = settled_index or highest_commit(answers)
            missing = find_missing(answers, settled_index=settled_index)
            if not missing or time.monotonic() > deadline:
                return answers, missing
            if (text := "waiting: " + "; ".join(missing)) != shown:
                note(text)
                shown = text
            time.sleep(_PAUSE_SECONDS)


def cluster_results(
    answers: Answers, missing: Sequence[str], seconds: float
) -> tuple[dict[str, PhaseResult], SappersError | None]:
    """Each host's result, and what is wrong with the cluster as a whole."""
    if not missing:
        good = PhaseResult(CLUSTER_PHASE, Outcome.OK, seconds=seconds)
        return dict.fromkeys(answers, good), None
    results: dict[str, PhaseResult] = {}
    for name, answer in answers.items():
        errors: tuple[SappersError, ...] = ()
        if isinstance(answer, str):
            errors = (
                HostError(
                    name,
                    f"its agent does not answer: {answer}",
                    hint="journalctl -u sappers on the host says more",
                ),
            )
        # Failed everywhere: no host is a member of a complete cluster.
        results[name] = PhaseResult(CLUSTER_PHASE, Outcome.FAILED, errors=errors, seconds=seconds)
    text = f"the cluster is not complete after {seconds:.0f} s: {'; '.join(missing)}"
    if not has_quorum(answers):
        return results, NoQuorum(
            f"no leader: {text}", hint="bring the missing voters back, then run this again"
        )
    if any(result.errors for result in results.values()):
        return results, None
    return results, SappersError(text, hint="sappers-deploy status shows how it is now")


def _ask(probe: ClusterProbe, host: HostRun) -> MemberHealth | str:
    try:
        return probe.health(host)
    except ApiError as error:
        return error.message

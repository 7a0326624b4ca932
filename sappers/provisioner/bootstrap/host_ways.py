"""Every host goes its way through the phases; nobody waits for a dead one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from sappers.errors import HostError, HostUnreachable, SappersError
from sappers.provisioner.bootstrap.recap import Outcome, PhaseResult
from sappers.provisioner.bootstrap.run import HostProblems, HostRun, Meeting, Phase, Watcher


class HostWays:
    """One run's. A host that fails goes no further, and the others go on.

    Args:
        forks: How many hosts are worked on at once.
    """

    def __init__(
        self, phases: Sequence[Phase], meeting: Meeting, forks: int, watcher: Watcher
    ) -> None:
        self._phases = phases
        self._meeting = meeting
        self._places = threading.BoundedSemaphore(forks)
        self._watcher = watcher
        self._ended_early: BaseException | None = None

    def go(self, runs: Sequence[HostRun]) -> dict[str, list[PhaseResult]]:
        """Work on all hosts; what came of each phase, by host.

        Raises:
            BaseException: What is no host's doing; the run as a whole cannot go on.
        """
        results: dict[str, list[PhaseResult]] = {run.name: [] for run in runs}
        # Daemons: a host that hangs must not keep an interrupted run from ending.
        threads = [
            threading.Thread(target=self._go, args=(run, results[run.name]), daemon=True)
            for run in runs
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt as error:
            # What becomes of the hosts' connections now is not their doing.
            self._ended_early = error
            raise
        if self._ended_early is not None:
            raise self._ended_early
        return results

    def _go(self, run: HostRun, results: list[PhaseResult]) -> None:
        with self._places:
            self._meeting.expect(run.name)
            try:
                self._go_through(run, results)
            finally:
                self._meeting.give_up(run.name)

    def _go_through(self, run: HostRun, results: list[PhaseResult]) -> None:
        for phase in self._phases:
            if self._ended_early is not None:
                return
            self._watcher.started(run.name, phase.title)
            try:
                result = run_phase(phase, run)
            except BaseException as error:
                # Not this host's fault: the run as a whole cannot go on.
                self._ended_early = self._ended_early or error
                return
            if self._ended_early is not None:
                return
            results.append(result)
            self._watcher.ended(run.name, result)
            run.fit = result.outcome.is_good
            if not run.fit:
                return


def run_phase(phase: Phase, run: HostRun) -> PhaseResult:
    """What came of a phase on a host. Raises what is not the host's doing."""
    began = time.monotonic()
    run.changes.clear()
    errors: tuple[SappersError, ...] = ()
    skipped: str | None = None
    try:
        skipped = phase.run(run)
        outcome = Outcome.CHANGED if run.changes else Outcome.OK
        if skipped is not None:
            outcome = Outcome.SKIPPED
    except HostUnreachable as error:
        outcome, errors = Outcome.UNREACHABLE, (error,)
    except HostProblems as error:
        outcome, errors = Outcome.FAILED, error.problems
    except HostError as error:
        outcome, errors = Outcome.FAILED, (error,)
    return PhaseResult(phase.title, outcome, tuple(run.changes), errors, time.monotonic() - began)

"""Many seeds, on several processes."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from functools import partial
from multiprocessing import get_context

from tests.simulation.run import Report, run_seed


def run_seeds(seeds: Iterable[int], jobs: int, *, healing: bool) -> Iterator[Report]:
    """The reports, as runs end; of one job in this process, for debuggers and profilers."""
    run = partial(_run_cleanly, healing=healing)
    if jobs == 1:
        yield from map(run, seeds)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    # Each process starts anew now and then: what a seed leaves in memory is not worth a search.
    with context.Pool(jobs, _spare_the_imports, maxtasksperchild=25) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=4)


def _spare_the_imports() -> None:
    """Look for garbage in what the seeds leave alone, and only then: a seventh of the time."""
    gc.disable()
    gc.freeze()


def _run_cleanly(seed: int, *, healing: bool) -> Report:
    report = run_seed(seed, healing=healing)
    gc.collect()
    return report

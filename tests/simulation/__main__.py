"""`python -m tests.simulation`: run seeds; one that fails prints what happened, and its number."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable

from tests.simulation.many import run_seeds
from tests.simulation.run import Report, run_seed


def main() -> int:
    """The exit code: 0 when every seed held."""
    asked = _arguments()
    if asked.seed is not None:
        report = run_seed(asked.seed, transcript=True, healing=asked.healing)
        _show(report, whole=asked.verbose)
        return int(bool(report.violations))
    seeds: Iterable[int] = range(asked.first, asked.first + asked.seeds)
    if asked.soak:
        seeds = itertools.count(int(time.time()) * 1000)
    began, done, failed = time.monotonic(), 0, []
    for report in run_seeds(seeds, asked.jobs, healing=asked.healing):
        done += 1
        if report.violations:
            failed.append(report.seed)
            _show(run_seed(report.seed, transcript=True, healing=asked.healing))
        if done % 100 == 0:
            print(f"{done} seeds, {len(failed)} failed, {time.monotonic() - began:.0f} s")
        if asked.soak and time.monotonic() - began > asked.soak * 3600:
            break
    print(f"{done} seeds in {time.monotonic() - began:.1f} s, failed: {failed or 'none'}")
    return int(bool(failed))


def _show(report: Report, *, whole: bool = True) -> None:
    print(f"\nseed {report.seed}: {report.violations or 'everything holds'} {report.facts}")
    if whole or report.violations:
        print("\n".join(report.transcript))
    print(f"replay: python -m tests.simulation --seed {report.seed} -v\n{report.digest[:16]}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one and print its transcript")
    parser.add_argument("-v", "--verbose", action="store_true", help="also of one that holds")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--healing", action="store_true", help="longer runs, with healers")
    parser.add_argument("--soak", type=float, metavar="HOURS", help="new seeds for so long")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

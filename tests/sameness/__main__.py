"""`python -m tests.sameness [CASE…]`: the corpus by Ansible and by us, on two hosts."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sappers.config import ControlHome, control_home
from tests.sameness.compare import ALL, Compared, Sameness
from tests.sameness.meant import MEANT


def main() -> int:
    """Compare, print where they differ, and say by the exit code whether they did."""
    parser = argparse.ArgumentParser(prog="python -m tests.sameness", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="these instead of all")
    parser.add_argument("--lab", default="sameness", help="what to call the lab")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(ALL):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    cases = arguments.cases or ALL
    differ = 0
    # Of the same name each time: what a killed run left is removed by the next.
    folder = Path(tempfile.gettempdir()) / f"sappers-{arguments.lab}"
    folder.mkdir(mode=0o700, exist_ok=True)
    home = ControlHome(folder, control_home(os.environ).cache)
    with Sameness.open(arguments.lab, home, print, cases) as sameness:
        for case in cases:
            began = time.monotonic()
            try:
                found = sameness.compare(case)
            except (
                RuntimeError,
                subprocess.SubprocessError,
            ) as error:  # the others come all the same
                found = Compared([str(error)])
            differ += bool(found.differs)
            said = "differs" if found.differs else "the same"
            if found.meant:
                said += f", and meant: {MEANT[case].name} ({len(found.meant)} times)"
            print(f"{case}: {said} ({time.monotonic() - began:.1f} s)", flush=True)
            for line in found.differs:
                print(f"  {line}", flush=True)
    shutil.rmtree(folder)
    print(f"{len(cases) - differ} passed, {differ} failed")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())

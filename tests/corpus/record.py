"""Records what Ansible makes of it: `python -m tests.corpus.record [CASE…]`.

Each case twice on the same folder; what both runs did is in `recorded/CASE.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from sappers.config import control_home
from tests.corpus.ansible import ensure_ansible
from tests.corpus.case import CASES, HERE, Outcomes, run_ansible


def main() -> None:
    """Record the cases named, or all."""
    program = str(ensure_ansible(control_home(os.environ).cache).playbook)
    for case in sys.argv[1:] or CASES:
        root = Path(tempfile.mkdtemp(prefix="sappers-corpus-")) / "root"
        runs = [_recorded(run_ansible(case, root, program, sys.executable)) for _ in range(2)]
        path = HERE / "recorded" / f"{case}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(runs, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        shutil.rmtree(root.parent)
        print(case, flush=True)


def _recorded(done: Outcomes) -> dict[str, Any]:
    return {**done.as_data(), "keys": done.keys}


if __name__ == "__main__":
    main()

"""Records what Ansible makes of the table: `python -m tests.corpus.expressions`."""

from __future__ import annotations

import json
import os
import subprocess

from sappers.config import control_home
from tests.corpus.ansible import ensure_ansible
from tests.corpus.expressions import (
    ENVIRONMENT,
    HERE,
    RECORDED,
    VARIABLES,
    expressions,
    template_of,
)


def main() -> None:
    """Ask Ansible, and keep the answers."""
    python = ensure_ansible(control_home(os.environ).cache).playbook.with_name("python")
    variables = VARIABLES | {"ansible_search_path": [str(HERE)]}
    templates = {expression: template_of(expression) for expression in expressions()}
    asked = {"folder": str(HERE), "variables": variables, "templates": templates}
    done = subprocess.run(
        [python, HERE / "ask_ansible.py"],
        input=json.dumps(asked), env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    RECORDED.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()

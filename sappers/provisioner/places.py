"""Where things are on a host. Nothing else, so that the healer can bring this without the rest."""

from __future__ import annotations

from pathlib import Path

STATE_FOLDER = "/var/lib/sappers"
INSTALL_FOLDER = "/opt/sappers"
CURRENT = f"{INSTALL_FOLDER}/current"  # a link to the folder of the version that runs
COMPLETE = ".complete"  # in such a folder once it is whole
UNIT_NAME = "sappers.service"
PLAYBOOKS = Path(__file__).parent.parent.parent / "playbooks"  # of the checkout, on this machine
BOOTSTRAP_PLAYBOOK = PLAYBOOKS / "bootstrap.yml"
UNPACK_SCRIPT = PLAYBOOKS / "roles/agent/files/unpack.sh"
# Whoever changes a host holds it. Not in /run/lock, where anyone may make a file first and hold it.
LOCK_PATH = "/run/sappers-bootstrap.lock"

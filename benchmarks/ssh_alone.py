"""`python -m benchmarks.ssh_alone INVENTORY COMMAND`: log in to every host by Fabric, and run it.

What no provisioner of this kind can be faster than.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fabric import Connection

from sappers.provisioner.inventory.inventory import Host, load_inventory


def main() -> None:
    """Raises what a login or a command may raise."""
    hosts = load_inventory(Path(sys.argv[1])).hosts
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        list(pool.map(_log_in, hosts, [sys.argv[2]] * len(hosts)))


def _log_in(host: Host, command: str) -> None:
    arguments = {
        "key_filename": str(host.private_key_file),
        "allow_agent": False,
        "look_for_keys": False,
    }
    with Connection(host.address, user=host.user, connect_kwargs=arguments) as connection:
        connection.run(command, hide=True, in_stream=False)


if __name__ == "__main__":
    main()

"""The provisioners that are compared: each installed at a pinned version, and how it is called.

The others are no dependencies of this project: they live in an environment of their own in the
cache, which the benchmark makes.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sappers.provisioner.inventory.inventory import load_inventory

# The newest that Python 3.11 runs, and that Mitogen says it supports.
PEERS = {"ansible-core": "2.19.14", "mitogen": "0.3.54", "pyinfra": "3.10.0"}
OURS = "ours"
_PLAY = Path(__file__).with_name("reference_play")
_PAYLOAD_BYTES = 270_000
_BLOCK = 64
# What of the play only programs of the hosts can do; a second time there is nothing to do.
_BY_HAND = """
id -u reference >/dev/null 2>&1 ||
    useradd -r -d /var/lib/reference -M -s /usr/sbin/nologin reference
unit=/etc/systemd/system/reference.service
test -e $unit || printf %s {unit} >$unit
systemctl is-enabled --quiet reference.service || systemctl enable --quiet reference.service
systemctl is-active --quiet reference.service || systemctl start reference.service
"""


@dataclass(frozen=True)
class Tool:
    """One way to bring the reference play to hosts.

    Attributes:
        argv: Called with how many hosts there are.
        speed_aim: How many times as long as ours it should take at least; 0 for no aim.
        plays: It brings the play; else it only says what the least is that one could need.
        slow: It takes so long that it runs less often.
        at_many: It is measured on many hosts, too.
    """

    name: str
    argv: Callable[[int], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    speed_aim: float = 0.0
    plays: bool = True
    slow: bool = False
    at_many: bool = True


def ensure_peers(cache: Path, say: Callable[[str], None]) -> Path:
    """The folder of the others' programs; installed first where they are missing."""
    wanted = [f"{name}=={version}" for name, version in PEERS.items()]
    key = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    folder = cache / "benchmark-peers" / key
    if not (folder / "complete").exists():
        say(f"installing {', '.join(wanted)}")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", *wanted], check=True)
        (folder / "complete").touch()
    return folder / "bin"


def lay_out(folder: Path, inventory: Path) -> None:
    """Put the play, and what its tools need to know of the hosts, into a folder."""
    shutil.copytree(_PLAY, folder, dirs_exist_ok=True)
    (folder / "payload").write_bytes(payload())
    (folder / "ansible.cfg").touch()
    hosts = [
        (
            host.name,
            {
                "ssh_hostname": host.address,
                "ssh_user": host.user,
                "ssh_key": str(host.private_key_file),
                "ssh_known_hosts_file": str(inventory.with_name("known_hosts")),
            },
        )
        for host in load_inventory(inventory).hosts
    ]
    (folder / "hosts.py").write_text(f"hosts = {hosts!r}\n")


def payload() -> bytes:
    """270 kB, half of which compresses away: as programs do."""
    blocks = (
        hashlib.sha256(number.to_bytes(4)).hexdigest().encode()
        for number in range(_PAYLOAD_BYTES // _BLOCK + 1)
    )
    return b"".join(blocks)[:_PAYLOAD_BYTES]


def tools(peers: Path, folder: Path, inventory: Path) -> list[Tool]:
    """All that are compared; ours is the last."""
    ansible = {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "ssh"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    plugins = next(peers.parent.glob("lib/*/site-packages/ansible_mitogen/plugins/strategy"))
    mitogen = {"ANSIBLE_STRATEGY_PLUGINS": str(plugins), "ANSIBLE_STRATEGY": "mitogen_linear"}
    own = Path(sys.executable).with_name("sappers-deploy")

    def by_ansible(hosts: int) -> list[str]:
        return [f"{peers}/ansible-playbook", "-i", str(inventory), "-f", str(hosts), "site.yml"]

    def by_pyinfra(_: int) -> list[str]:
        return [f"{peers}/pyinfra", "-y", "hosts.py", "deploy.py"]

    def by_ssh(_: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.ssh_alone", str(inventory), "true"]

    def by_hand(_: int) -> list[str]:
        unit = shlex.quote((folder / "reference.service").read_text())
        return [*by_ssh(0)[:-1], _BY_HAND.format(unit=unit)]

    def by_us(hosts: int) -> list[str]:
        return [str(own), "playbook", "run", "site.yml", "-i", str(inventory), "-f", str(hosts)]

    return [
        Tool("Ansible, pipelining", by_ansible, ansible, speed_aim=30, slow=True),
        Tool("Ansible with Mitogen", by_ansible, ansible | mitogen, slow=True, at_many=False),
        Tool("pyinfra", by_pyinfra, speed_aim=3),
        Tool("login and `true`, by Fabric", by_ssh, plays=False),
        Tool("login, useradd and systemctl, by Fabric", by_hand, plays=False),
        Tool(OURS, by_us),
    ]


def environment(tool: Tool, home: Mapping[str, str]) -> dict[str, str]:
    """What a tool is run with: nothing of a person's settings for it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ANSIBLE_", "PYINFRA_", "SAPPERS_", "PYTHON"))
    }
    return {**kept, "NO_COLOR": "1", **home, **tool.environment}

"""One lab host: an overlay over the base root, and a systemd-nspawn container that boots it.

Invariant: what a host wrote is in its overlay's upper folder alone; it survives `kill` and `start`
and is gone with the folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sappers.errors import LabError
from sappers.lab.control_group import ControlGroup
from sappers.lab.network import link_exists, remove_link
from sappers.lab.plan import HostSpec, LabPlan, link_name
from sappers.lab.waiting import await_condition

_SYSTEMD_RUNS_HERE = Path("/run/systemd/system")
_PROPAGATE = Path("/run/systemd/nspawn/propagate")
_DEVICES = ("/dev/net/tun", "/dev/kvm")
_LINK_GONE_SECONDS = 10.0
_NSPAWN_SETTINGS = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_LOCK": "0"}
# Users whose authorized_keys get the lab's key; of base_root's recipe.
_LOGINS = {"root": "root", "admin": "home/admin", "plain": "home/plain"}


class Container:
    """A lab host's disk and processes.

    Args:
        lab_folder: Its own folder lies below; holds the overlay, host key and console log.
        mark: What the lab's control groups and systemd units are called.
        machine: Its name as a container; unique on this machine.
    """

    def __init__(self, lab_folder: Path, mark: str, machine: str) -> None:
        self._folder = lab_folder / "hosts" / machine
        self._machine = machine
        self._unit = f"{mark}-{machine}"
        self._by_systemd = _SYSTEMD_RUNS_HERE.is_dir()
        self.group = ControlGroup(group_path(self._unit))

    @property
    def host_key(self) -> str:
        """The public half of its sshd's key, `ssh-ed25519 …`."""
        return " ".join((self._folder / "host_key.pub").read_text().split()[:2])

    @property
    def console(self) -> Path:
        """What systemd printed while it booted."""
        return self._folder / "console.log"

    def start(self, spec: HostSpec, plan: LabPlan, base: Path, names: str, login_key: str) -> None:
        """Boot it. Nothing to do when it runs; returns before it is up.

        Args:
            spec: Written into the host; its address may differ from that of the last start.
            base: The root that its overlay lies on; the same at each start.
            names: Its `/etc/hosts`.
            login_key: Public key that may log in as root, admin and plain.

        Raises:
            LabError: The overlay cannot be mounted.
        """
        if self.group.populated():
            return
        self.kill()
        self._mount(base)
        self._write_identity(spec, plan, names, login_key)
        with self.console.open("wb") as console:
            subprocess.run(
                self._launch_command(self._nspawn_command(spec, plan)),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=os.environ | _NSPAWN_SETTINGS,
                check=False,  # why it failed stands in the console log, whenever it fails
            )

    def kill(self) -> None:
        """Cut its power: every process ends at once, its disk stays. Idempotent.

        Raises:
            LabError: A process, its network device or its mount does not go.
        """
        # First of all: no other host may get a farewell, and what was on its way out would keep
        # the kernel from letting the device go.
        link = link_name(self._machine)
        remove_link(link)
        self.group.kill()
        await_condition(lambda: not link_exists(link), _LINK_GONE_SECONDS, f"device {link} is gone")
        # nspawn removes this itself unless it is killed.
        shutil.rmtree(_PROPAGATE / self._machine, ignore_errors=True)
        while self._root.is_mount():
            _run("umount", "--lazy", str(self._root))

    def remove(self) -> None:
        """Leave nothing of it. Idempotent. Raises as `kill`."""
        self.kill()
        if self._folder.exists():
            shutil.rmtree(self._folder)

    @property
    def _root(self) -> Path:
        return self._folder / "root"

    def _mount(self, base: Path) -> None:
        for part in ("upper", "work", "root"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={base},upperdir={self._folder}/upper,workdir={self._folder}/work"
        _run(
            "mount", "-t", "overlay", "-o", options, "overlay", str(self._root),
            hint="lab hosts need overlayfs on a plain file system; SAPPERS_HOME says where",
        )  # fmt: skip

    def _write_identity(self, spec: HostSpec, plan: LabPlan, names: str, login_key: str) -> None:
        key = self._folder / "host_key"
        if not key.exists():
            make_key(key, f"root@{spec.name}")
        etc = self._root / "etc"
        (etc / "hostname").write_text(f"{spec.name}\n")
        (etc / "hosts").write_text(names)
        (etc / "machine-id").write_text(f"{spec.machine_id}\n")
        # Sorts before 80-container-host0, which asks for DHCP. No gateway: no way out.
        (etc / "systemd/network/10-host0.network").write_text(
            "[Match]\nName=host0\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
            f"ConfigureWithoutCarrier=yes\nAddress={spec.address}/{plan.network.prefixlen}\n"
        )
        for suffix in ("", ".pub"):
            shutil.copy(f"{key}{suffix}", f"{etc}/ssh/ssh_host_ed25519_key{suffix}")
        for home in _LOGINS.values():
            folder = self._root / home / ".ssh"
            keys = folder / "authorized_keys"
            # What others let in, healers for one, stays let in when the host comes back.
            known = keys.read_text() if keys.exists() else ""
            if login_key not in known.splitlines():
                keys.write_text(f"{known}{login_key}\n")
            keys.chmod(0o600)
            os.chown(keys, folder.stat().st_uid, folder.stat().st_gid)

    def _nspawn_command(self, spec: HostSpec, plan: LabPlan) -> list[str]:
        devices = (device for device in _DEVICES if Path(device).exists())
        return [
            "systemd-nspawn", "--quiet", "--boot", "--settings=no",
            "--register=no", "--keep-unit", "--console=read-only", "--kill-signal=SIGRTMIN+3",
            f"--directory={self._root}", f"--machine={spec.machine}", f"--hostname={spec.name}",
            f"--uuid={spec.machine_id}", f"--network-bridge={plan.bridge}",
            "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            *(f"--bind={device}" for device in devices),
        ]  # fmt: skip

    def _launch_command(self, nspawn: list[str]) -> list[str]:
        """Run nspawn in the host's own control group, by systemd where that runs."""
        if self._by_systemd:
            return [
                "systemd-run", "--quiet", "--collect", f"--unit={self._unit}",
                "--property=Delegate=yes", "--property=KillMode=mixed",
                f"--property=StandardOutput=append:{self.console}",
                f"--property=StandardError=append:{self.console}",
                *(f"--setenv={name}={value}" for name, value in _NSPAWN_SETTINGS.items()),
                *nspawn,
            ]  # fmt: skip
        self.group.create()
        # The group is entered before the fork: once this returns, `populated` tells the truth.
        enter = 'echo $$ > "$0" && exec setsid --fork "$@"'
        return ["sh", "-c", enter, str(self.group.path / "cgroup.procs"), *nspawn]


def make_key(path: Path, comment: str) -> None:
    """Write a new ed25519 key pair to `path` and `path.pub`, whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    for old in (beside, beside.with_name(f"{beside.name}.pub")):
        old.unlink(missing_ok=True)
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(beside))
    beside.with_name(f"{beside.name}.pub").rename(path.with_name(f"{path.name}.pub"))
    beside.rename(path)


def group_path(unit: str) -> str:
    """Where in the control-group hierarchy a unit of this machine's lab hosts is."""
    return f"system.slice/{unit}.service" if _SYSTEMD_RUNS_HERE.is_dir() else unit


def _run(*command: str, hint: str | None = None) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise LabError(f"`{' '.join(command)}` failed: {finished.stderr.strip()}", hint=hint)

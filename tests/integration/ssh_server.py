"""A real sshd (and sudo, doas) on a loopback port, in a mount namespace of its own.

The machine has none of it: Debian's packages are unpacked beside, and nothing is installed. Users:
`root`; `free`, who may do anything by sudo and doas; `asked`, who must give a password; `mere`,
who may not. All but root have a password.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sappers.provisioner.inventory.inventory import Host, load_inventory
from tests.loopback import free_port

UNPACKED = Path("/var/cache/sappers-test-openssh")  # root's alone, unlike /tmp
PASSWORD = "Open, Sesame 'n' $more"
USERS = {"free": 4001, "asked": 4002, "mere": 4003}
START_SECONDS = 60

NAMESPACE = """
set -e
mount -t overlay -o lowerdir="$1/usr:/usr" overlay /usr
mount -t overlay -o lowerdir="$2/etc:$1/etc:/etc" overlay /etc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -f "$2/sshd_config" -E "$2/log"
"""

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
StrictModes no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
{extra}
"""


@dataclass(frozen=True)
class SshServer:
    """A running sshd."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> Path:
        """The private key that all users accept."""
        return self.folder / "user_key"

    @property
    def known_hosts(self) -> Path:
        """A file with this server's host key."""
        return self.folder / "known_hosts"

    def sessions(self) -> list[int]:
        """Process ids of the server's children: one or two a connection."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]


def unpacked_openssh() -> Path:
    """Where Debian's sshd and sudo are unpacked, and doas if it can be had; fetched once."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if trouble := _unpack("usr/sbin/sshd", "openssh-server") or _unpack("usr/bin/sudo", "sudo"):
        pytest.skip(trouble)
    _unpack("usr/bin/doas", "opendoas")
    return UNPACKED


def needs_doas() -> None:
    """Skip a test where there is no doas."""
    if trouble := _unpack("usr/bin/doas", "opendoas"):
        pytest.skip(trouble)


def _unpack(program: str, package: str) -> str:
    """Have a program of a Debian package; why not, or empty."""
    if (UNPACKED / program).exists():
        return ""
    with tempfile.TemporaryDirectory() as download:
        fetched = subprocess.run(
            ["apt-get", "download", package], cwd=download, capture_output=True, check=False
        )
        if fetched.returncode:
            return f"no {package} to be had: {fetched.stderr.decode()}"
        for path in Path(download).glob("*.deb"):
            subprocess.run(["dpkg", "-x", path, UNPACKED], check=True)
    return ""


@contextlib.contextmanager
def ssh_server(extra: str = "") -> Iterator[SshServer]:
    """Run an sshd with `extra` lines in its configuration."""
    binaries = unpacked_openssh()
    folder = Path(tempfile.mkdtemp(prefix="sappers-test-sshd-"))
    folder.chmod(0o755)
    port = free_port()
    _write_identity(folder, port, extra)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", NAMESPACE, "sh"]
    process = subprocess.Popen([*command, binaries, folder], stdin=subprocess.DEVNULL)
    server = SshServer(folder, port, process)
    try:
        _wait_until_open(server)
        yield server
    finally:
        for pid in (*server.sessions(), process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        process.wait()
        shutil.rmtree(folder)


def make_host(server: SshServer, tmp_path: Path, **variables: object) -> Host:
    """A host of a real inventory file; a variable that is None is left out."""
    given: dict[str, object] = {
        "ansible_host": "127.0.0.1",
        "ansible_port": server.port,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": server.key,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={server.known_hosts}",
        **variables,
    }
    path = tmp_path / "inventory.ini"
    words = [f'{key}="{value}"' for key, value in given.items() if value is not None]
    path.write_text(f"lab1 {' '.join(words)}\n")
    return load_inventory(path).hosts[0]


def make_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: nothing of the user's own SSH set-up may help or harm."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    return tmp_path / "home"


def _write_identity(folder: Path, port: int, extra: str) -> None:
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    (folder / "authorized_keys").chmod(0o644)
    host_key = (folder / "host_key.pub").read_text().rsplit(" ", 1)[0]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder, extra=extra))
    etc = folder / "etc"
    (etc / "sudoers.d").mkdir(parents=True)
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True
    ).stdout.strip()
    users = {
        name: f"{name}:x:{uid}:{uid}::{folder}/home-{name}:/bin/sh" for name, uid in USERS.items()
    }
    for name, uid in USERS.items():
        (folder / f"home-{name}").mkdir()
        os.chown(folder / f"home-{name}", uid, uid)
    passwd = Path("/etc/passwd").read_text().splitlines()
    sshd = "sshd:x:4000:65534::/run/sshd:/usr/sbin/nologin"
    (etc / "passwd").write_text("\n".join([*passwd, sshd, *users.values(), ""]))
    groups = [f"{name}:x:{uid}:" for name, uid in USERS.items()]
    (etc / "group").write_text(
        "\n".join([*Path("/etc/group").read_text().splitlines(), *groups, ""])
    )
    shadow = [f"{name}:{hashed}:19000:0:99999:7:::" for name in users]
    (etc / "shadow").write_text("\n".join(["root:*:19000:0:99999:7:::", *shadow, ""]))
    (etc / "shadow").chmod(0o600)
    sudoers = "root ALL=(ALL) ALL\nfree ALL=(ALL) NOPASSWD: ALL\nasked ALL=(ALL) ALL\n"
    (etc / "sudoers").write_text(sudoers)
    (etc / "sudoers").chmod(0o440)
    (etc / "doas.conf").write_text("permit nopass free\npermit asked\n")


def _wait_until_open(server: SshServer) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            pytest.skip("sshd cannot run in a mount namespace here")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port)):
            return
        server.process.poll()
        time.sleep(0.02)
    raise AssertionError((server.folder / "log").read_text())

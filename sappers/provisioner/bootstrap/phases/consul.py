"""Consul on hosts with `consul=true`: program, settings, certificate, unit; voters are servers.

Invariant: root reads and writes nothing where Consul's user can write. Its folder is root's, and
what is in it, but for `data`, which is Consul's alone.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from typing import NoReturn

import msgspec

from sappers.errors import CommandFailed, HostError, HostUnfit, IdentityError
from sappers.provisioner.bootstrap.apt import Apt
from sappers.provisioner.bootstrap.consul_program import (
    CONSUL_LEAST_VERSION,
    CONSUL_VERSION,
    FETCH_CONSUL,
)
from sappers.provisioner.bootstrap.consul_settings import (
    ANONYMOUS_RULES,
    CA_PATH,
    CERTIFICATE_PATH,
    CONSUL_UNIT,
    CONSUL_USER,
    DATA_FOLDER,
    JOIN_PATH,
    KEY_PATH,
    SERVER_NAME,
    SETTINGS_PATH,
    consul_fingerprint,
    consul_settings,
    join_settings,
    render_consul_unit,
)
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.bootstrap.units import CONSUL_FOLDER, CONSUL_TOKEN_PATH
from sappers.provisioner.control.consul_secrets import ConsulSecrets
from sappers.provisioner.control.identity import ControlIdentity
from sappers.provisioner.executor.executor import CommandResult
from sappers.provisioner.places import INSTALL_FOLDER

OWN_PROGRAM = f"{INSTALL_FOLDER}/consul/consul"
_LINK = "/usr/local/bin/consul"
_UNIT_PATH = f"/etc/systemd/system/{CONSUL_UNIT}"
_STARTED_WITH_PATH = f"{CONSUL_FOLDER}/started-with"
_START_SECONDS = 30.0
_LEADER_SECONDS = 120.0
_PAUSE_SECONDS = 0.5
_POLICY = "sappers-anonymous"
_ANONYMOUS = "00000000-0000-0000-0000-000000000002"
_FOLDER_MODE = 0o750
_FILE_MODE = 0o640
MAKE_KEY = (
    'umask 077; rm -f "$1.new" '
    '&& openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.new" '
    '&& chgrp "$2" "$1.new" && chmod 0640 "$1.new" && sync "$1.new" && mv -T "$1.new" "$1"'
)
# The folder was Consul's own once. When it is root's, nothing can be put there any more, and what
# is there goes, since any of it may be a link. The mode that it is to have comes last.
TAKE_OVER = (
    'chown -h root:"$2" "$1" && chmod 0710 "$1" && find "$1" -mindepth 1 -maxdepth 1 '
    "! '(' -name data -type d ')' -exec rm -rf '{}' +"
)
_FILES = (SETTINGS_PATH, JOIN_PATH, CA_PATH, CERTIFICATE_PATH, CONSUL_TOKEN_PATH, _UNIT_PATH)


class ConsulServers(msgspec.Struct, frozen=True):
    """Which hosts run Consul's servers.

    Attributes:
        expected: How many there are to be, hosts that this run does not work on included.
    """

    names: frozenset[str]
    expected: int


class _Settled(msgspec.Struct):
    """The part of a host's `agent.json` that stays."""

    bootstrap_expect: int = 0


class Consul:
    """Leaves a Consul agent running. That it works is seen once all of them run: see `settle`."""

    title = "consul"

    def __init__(
        self,
        plan: ClusterPlan,
        identity: ControlIdentity | None,
        secrets: ConsulSecrets | None,
        apt: Apt,
        servers: ConsulServers,
    ) -> None:
        """`identity` and `secrets` are None only in check mode, before the first real run."""
        self._plan = plan
        self._identity = identity
        self._secrets = secrets
        self._apt = apt
        self._servers = servers
        self._one_at_a_time = threading.Lock()

    def run(self, host: HostRun) -> str | None:
        """Raises HostUnfit when no Consul can be had, CommandFailed when it does not start."""
        if not host.member.consul:
            return "consul is not set for it"
        if not self._servers.expected:
            raise HostUnfit(
                host.name,
                "no member that votes has consul=true, and Consul's servers run on these",
                hint="set it for the hosts that `sappers-deploy status` calls leader and follower",
            )
        program, version = self._ensure_program(host)
        if not self._ensure_user(host) or self._identity is None or self._secrets is None:
            host.changes += [*(f"file {path}" for path in _FILES), "consul started"]
            return None
        server = host.name in self._servers.names
        certificate = self._ensure_certificate(host, self._identity, server=server)
        settings = consul_settings(
            host.name,
            host.member.address,
            self._secrets,
            servers=self._expected(host) if server else None,
            version=version,
        )
        unit = render_consul_unit(program)
        self._write(host, SETTINGS_PATH, settings)
        self._write(host, JOIN_PATH, join_settings(self._plan.consul_addresses))
        self._write(host, CA_PATH, self._identity.authority.cert_pem)
        host.write_file(CONSUL_TOKEN_PATH, f"{self._secrets.token}\n".encode(), mode=0o600)
        host.write_file(_UNIT_PATH, unit)
        wanted = consul_fingerprint(settings, unit, certificate, repr(version).encode())
        self._ensure_running(host, wanted, program)
        return None

    def settle(self, host: HostRun) -> None:
        """Wait until it serves and knows a leader, and let whoever has no token read.

        Raises:
            HostError: It does not work; carries the end of its log.
        """
        program = self._program_of(host)
        if _POLICY not in self._await_ready(host, program):
            with self._one_at_a_time:
                self._open_for_reading(host, program)

    def _expected(self, host: HostRun) -> int:
        """How many servers begin together: decided once, for it matters only then."""
        before = host.executor.read_file(SETTINGS_PATH) or b"{}"
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(before, type=_Settled).bootstrap_expect or (
                self._servers.expected
            )
        return self._servers.expected

    # -- the program -------------------------------------------------------------------------------

    def _ensure_program(self, host: HostRun) -> tuple[str, tuple[int, int]]:
        """The host's own Consul, else Debian's binary; its path and version."""
        program = self._program_of(host)
        if host.executor.stat([program])[program] is None:
            host.changes.append(f"consul {CONSUL_VERSION}")
            if host.check:
                return program, CONSUL_LEAST_VERSION
            self._fetch(host)
        if program == OWN_PROGRAM and host.executor.ensure_link(_LINK, program, check=host.check):
            host.changes.append(f"link {_LINK}")
        return program, self._version(host, program)

    def _program_of(self, host: HostRun) -> str:
        found = host.executor.run(["sh", "-c", "command -v consul"]).stdout.strip()
        return OWN_PROGRAM if found in ("", _LINK) else found

    def _fetch(self, host: HostRun) -> None:
        host.note("fetching consul")
        try:
            with self._apt.options(host) as options, self._apt.updates.turn():
                self._apt.fetch(host, ["sh", "-c", FETCH_CONSUL, "sh", OWN_PROGRAM, *options])
        except CommandFailed as error:
            raise HostUnfit(
                host.name,
                f"there is no consul on it, and Debian's cannot be had: {error.output[-500:]}",
                hint="put a consul binary (1.8 or newer) into its /usr/bin, or set consul=false; "
                "hosts without internet get Debian's through apt-cacher-ng on this machine",
            ) from error

    def _version(self, host: HostRun, program: str) -> tuple[int, int]:
        shown = host.executor.run([program, "version"]).stdout
        match = re.match(r"Consul v(\d+)\.(\d+)", shown)
        version = (int(match[1]), int(match[2])) if match else (0, 0)
        if version < CONSUL_LEAST_VERSION:
            raise HostUnfit(
                host.name,
                f"{program} is no consul that can be used: {shown.strip()[:100] or 'no answer'}",
                hint="1.8 is the oldest that can; replace it, or remove it to get Debian's",
            )
        return version

    # -- files -------------------------------------------------------------------------------------

    def _ensure_user(self, host: HostRun) -> bool:
        """The user and its folders; False in check mode, where there is none yet."""
        known = host.executor.run(["getent", "passwd", CONSUL_USER]).exit_code == 0
        if not known:
            host.changes.append(f"user {CONSUL_USER}")
            if host.check:
                return False
            host.executor.check(
                ["useradd", "--system", "--user-group", "--no-create-home",
                 "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin", CONSUL_USER]
            )  # fmt: skip
        self._ensure_folders(host)
        return True

    def _ensure_folders(self, host: HostRun) -> None:
        found = host.executor.stat([CONSUL_FOLDER])[CONSUL_FOLDER]
        wanted = (_FOLDER_MODE, "root", CONSUL_USER)
        if (
            found is not None
            and (found.mode, found.owner, found.group) != wanted
            and not host.check
        ):
            host.executor.check(["sh", "-c", TAKE_OVER, "sh", CONSUL_FOLDER, CONSUL_USER])
        for folder, owner, mode in (
            (CONSUL_FOLDER, "root", _FOLDER_MODE),
            (DATA_FOLDER, CONSUL_USER, 0o700),
        ):
            changed = host.executor.ensure_folder(
                folder, mode=mode, owner=owner, group=CONSUL_USER, check=host.check
            )
            if changed:
                host.changes.append(f"folder {folder}")

    def _ensure_certificate(
        self, host: HostRun, identity: ControlIdentity, *, server: bool
    ) -> bytes:
        """The host's certificate for Consul. A server's has Consul's name for servers."""
        names = (SERVER_NAME,) if server else (f"{host.name}.consul",)
        has_key = host.executor.stat([KEY_PATH])[KEY_PATH] is not None
        found = host.executor.read_file(CERTIFICATE_PATH) if has_key else None
        if found is not None and identity.service_renewal_of(found, names) is None:
            return found
        if host.check:
            host.changes.append(f"file {CERTIFICATE_PATH}")
            return b""
        if not has_key:
            host.executor.check(["sh", "-c", MAKE_KEY, "sh", KEY_PATH, CONSUL_USER])
            host.changes.append(f"file {KEY_PATH}")
        request = host.executor.check(
            ["openssl", "req", "-new", "-key", KEY_PATH, "-subj", f"/CN={host.name}"]
        )
        try:
            signed = identity.sign_service(request.stdout.encode(), host.node_id, names)
        except IdentityError as error:
            raise HostUnfit(host.name, error.message, hint=error.hint) from error
        self._write(host, CERTIFICATE_PATH, signed)
        return signed

    def _write(self, host: HostRun, path: str, content: bytes) -> None:
        changed = host.executor.write_file(
            path, content, mode=_FILE_MODE, group=CONSUL_USER, check=host.check
        )
        if changed:
            host.changes.append(f"file {path}")

    # -- running -----------------------------------------------------------------------------------

    def _ensure_running(self, host: HostRun, wanted: str, program: str) -> None:
        shown = _show(host)
        if shown.get("NeedDaemonReload") == "yes" and not host.check:
            host.executor.check(["systemctl", "daemon-reload"])
        if shown.get("UnitFileState") != "enabled":
            host.changes.append(f"{CONSUL_UNIT} enabled")
            if not host.check:
                host.executor.check(["systemctl", "--quiet", "enable", CONSUL_UNIT])
        active = shown.get("ActiveState") == "active"
        started_with = host.executor.read_file(_STARTED_WITH_PATH) or b""
        if active and started_with.decode(errors="replace").strip() == wanted:
            return
        host.changes.append("consul restarted" if active else "consul started")
        if host.check:
            return
        if active:
            # One server after the other: together they would lose their leader for longer.
            with self._one_at_a_time:
                self._restart(host)
                self._await_ready(host, program)
        else:
            self._restart(host)
        host.executor.write_file(_STARTED_WITH_PATH, f"{wanted}\n".encode(), mode=0o600)

    def _restart(self, host: HostRun) -> None:
        host.executor.run(["systemctl", "reset-failed", CONSUL_UNIT])
        done = host.executor.run(
            ["systemctl", "restart", CONSUL_UNIT], timeout_seconds=_START_SECONDS
        )
        if done.exit_code:
            self._fail(host, done.output)

    def _await_ready(self, host: HostRun, program: str) -> str:
        """Until it knows who leads, and the token; what whoever has none may do."""
        host.note("waiting for a leader of Consul")
        deadline = time.monotonic() + _LEADER_SECONDS
        while True:
            if _show(host).get("ActiveState") != "active":
                self._fail(host, "it has ended")
            asked = _ask(host, [program, "operator", "raft", "list-peers"])
            if asked.exit_code == 0 and "leader" in asked.stdout:
                asked = _ask(host, [program, "acl", "token", "read", "-id", _ANONYMOUS])
                if asked.exit_code == 0:
                    return asked.stdout
            if time.monotonic() > deadline:
                self._fail(host, asked.output)
            time.sleep(_PAUSE_SECONDS)

    def _fail(self, host: HostRun, output: str) -> NoReturn:
        log = host.executor.run(
            ["journalctl", "--unit", CONSUL_UNIT, "--lines=15", "--no-pager", "--output=cat"]
        )
        raise HostError(
            host.name,
            f"its Consul does not work: {output.strip()[-300:]}\n{log.output.strip()[-1500:]}",
            hint=f"journalctl -u {CONSUL_UNIT} on the host says more; are ports 8300 and 8301 "
            "reachable between the hosts, and 8500 of its loopback free?",
        )

    def _open_for_reading(self, host: HostRun, program: str) -> None:
        """Let whoever has no token read the catalogue; true for the whole cluster at once."""
        if _POLICY in self._await_ready(host, program):
            return
        host.changes.append("consul readable without token")
        if _ask(host, [program, "acl", "policy", "read", "-name", _POLICY]).exit_code:
            self._demand(
                host,
                [program, "acl", "policy", "create", "-name", _POLICY, "-rules", "-"],
                ANONYMOUS_RULES,
            )
        self._demand(
            host,
            [program, "acl", "token", "update", "-id", _ANONYMOUS, "-merge-policies",
             "-policy-name", _POLICY, "-description", "Anonymous"],
        )  # fmt: skip

    def _demand(self, host: HostRun, command: list[str], stdin: str = "") -> None:
        done = _ask(host, command, stdin)
        if done.exit_code:
            self._fail(host, done.output)


def _ask(host: HostRun, command: list[str], stdin: str = "") -> CommandResult:
    """Run Consul's own command with the token that may do everything."""
    environment = {"CONSUL_HTTP_TOKEN_FILE": CONSUL_TOKEN_PATH}
    return host.executor.run(command, stdin=stdin.encode(), environment=environment)


def _show(host: HostRun) -> dict[str, str]:
    shown = host.executor.check(
        ["systemctl", "show", CONSUL_UNIT,
         "--property=UnitFileState,ActiveState,NeedDaemonReload"]
    )  # fmt: skip
    return dict(line.partition("=")[::2] for line in shown.stdout.splitlines())

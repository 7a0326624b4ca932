"""A healer's certificate against a real sshd: it opens one host, for minutes, for commands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from sappers.errors import HostUnreachable
from sappers.model.repair import RepairLogin
from sappers.provisioner.bootstrap.host_plays import HostPlays
from sappers.provisioner.bootstrap.plan import PlannedMember
from sappers.provisioner.bootstrap.repair_key import healers_account, healers_line, repair_login_of
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.connection.ssh import Connection
from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.places import PLAYBOOKS
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.repair.access import access_line, with_member_access
from sappers.provisioner.repair.login import RepairKeyPair, RepairTarget, open_executor
from sappers.security.repair_authority import RepairAuthority, create_repair_authority, sign_login
from tests.integration.ssh_server import SshServer, make_home, make_host, ssh_server

MEMBER = "lab1-0a1b2c"


@pytest.fixture(scope="module")
def authority() -> RepairAuthority:
    return create_repair_authority()


@pytest.fixture(scope="module")
def server(authority: RepairAuthority) -> Iterator[SshServer]:
    with ssh_server() as running:
        path = running.folder / "authorized_keys"
        line = access_line(authority.public, MEMBER)
        path.write_bytes(with_member_access(path.read_bytes(), line, MEMBER))
        yield running


def target(server: SshServer, **changes: object) -> RepairTarget:
    known = server.known_hosts.read_text().split()
    given: dict[str, object] = {
        "name": "lab1",
        "address": "127.0.0.1",
        "port": server.port,
        "user": "root",
        "become": False,
        "host_keys": (" ".join(known[1:3]),),
    }
    return RepairTarget(**(given | changes))  # type: ignore[arg-type]


def certificate(
    authority: RepairAuthority, key: RepairKeyPair, member_id: str = MEMBER, seconds: float = 600
) -> str:
    now = time.time()
    return sign_login(
        authority, key.public, member_id=member_id, key_id="r/1", now=now, until=now + seconds
    )


def test_a_healer_is_root_for_commands(server: SshServer, authority: RepairAuthority):
    key = RepairKeyPair()
    with open_executor(target(server), key, certificate(authority, key)) as executor:
        assert executor.check(["id", "-u"]).stdout == "0\n"
        assert executor.gather_facts().is_root


def test_by_sudo_where_the_login_user_is_another(server: SshServer, authority: RepairAuthority):
    key = RepairKeyPair()
    free = target(server, user="free", become=True)
    with open_executor(free, key, certificate(authority, key)) as executor:
        assert executor.check(["id", "-u"]).stdout == "0\n"


@pytest.mark.parametrize(
    ("member_id", "seconds"), [("lab2-0a1b2c", 600.0), (MEMBER, -1.0), ("lab1", 600.0)]
)
def test_another_hosts_and_an_ended_certificate_are_refused(
    server: SshServer, authority: RepairAuthority, member_id: str, seconds: float
):
    key = RepairKeyPair()
    signed = certificate(authority, key, member_id, seconds)
    with (
        pytest.raises(HostUnreachable, match="is refused with the certificate"),
        open_executor(target(server), key, signed),
    ):
        pass


def test_another_authoritys_certificate_is_refused(server: SshServer):
    key = RepairKeyPair()
    signed = certificate(create_repair_authority(), key)
    with (
        pytest.raises(HostUnreachable, match="is refused"),
        open_executor(target(server), key, signed),
    ):
        pass


def test_a_certificate_is_of_no_use_with_another_key(server: SshServer, authority: RepairAuthority):
    mine, theirs = RepairKeyPair(), RepairKeyPair()
    with (
        pytest.raises((HostUnreachable, ValueError)),
        open_executor(target(server), theirs, certificate(authority, mine)),
    ):
        pass


def test_a_host_that_shows_another_key_gets_nothing(server: SshServer, authority: RepairAuthority):
    key = RepairKeyPair()
    liar = target(server, host_keys=(RepairKeyPair().public,))
    with (
        pytest.raises(HostUnreachable, match="another host key"),
        open_executor(liar, key, certificate(authority, key)),
    ):
        pass


def test_a_host_that_is_away_is_told_as_such(authority: RepairAuthority, tmp_path: Path):
    key = RepairKeyPair()
    away = RepairTarget("lab1", "127.0.0.1", 9, "root", become=False, host_keys=())
    with (
        pytest.raises(HostUnreachable, match="port 9: Connection refused"),
        open_executor(away, key, certificate(authority, key)),
    ):
        pass


def test_no_terminal_and_no_forwarding(server: SshServer, authority: RepairAuthority):
    key = RepairKeyPair()
    transport = paramiko.Transport(("127.0.0.1", server.port))
    try:
        transport.start_client(timeout=60)
        transport.auth_publickey("root", key.certified(certificate(authority, key)))
        session = transport.open_session(timeout=60)
        with pytest.raises(paramiko.SSHException):
            session.get_pty()
        with pytest.raises(paramiko.SSHException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", server.port), ("127.0.0.1", 0))
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("127.0.0.1", 0)
    finally:
        transport.close()


def test_bootstrap_lets_healers_in_with_one_line_and_touches_no_other(
    server: SshServer, authority: RepairAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_home(tmp_path, monkeypatch)
    host = make_host(server, tmp_path, ansible_user="free", ansible_become="true")
    keys = server.folder / "home-free" / ".ssh" / "authorized_keys"

    def let_in(public: str, *, check: bool = False) -> list[str] | None:
        with Connection.open(host) as connection:
            run = HostRun(
                host=host,
                member=PlannedMember(name="lab1", address="127.0.0.1", voter_tag=False),
                check=check,
                note=print,
                connection=connection,
                node_id=MEMBER,
            )
            plays = HostPlays(
                "lab1",
                load_inventory(tmp_path / "inventory.ini"),
                connection,
                connection.start_executor(runs_tasks=True),
                check=check,
                given={
                    "sappers_healers_user": healers_account(run)[0],
                    "sappers_healers_line": healers_line(public, MEMBER),
                },
                lookups={},
                note=print,
            )
            logins.append(repair_login_of(run))
            return plays.run(play)

    logins: list[RepairLogin | None] = []
    (tmp_path / "roles").symlink_to(PLAYBOOKS / "roles")
    (tmp_path / "play.yml").write_text("- {hosts: all, become: true, roles: [healers]}")
    (play,) = load_playbook(tmp_path / "play.yml")
    assert let_in(authority.public, check=True)
    assert not keys.exists()
    changes = let_in(authority.public)
    assert changes is not None
    assert changes[-1] == f"repair access in {keys}"
    line = access_line(authority.public, MEMBER)
    assert keys.read_text() == f"{line}\n"
    found = keys.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4001, 4001, 0o600)
    assert keys.parent.stat().st_mode & 0o777 == 0o700
    login = logins[-1]
    assert login is not None
    assert (login.user, login.port, login.become) == ("free", server.port, True)
    assert login.host_keys == target(server).host_keys
    assert let_in(authority.public) == []

    keys.write_text(f"ssh-ed25519 AAAA somebody\n{line}\n")
    keys.chmod(0o640)
    other = create_repair_authority().public
    assert let_in(other)
    assert keys.read_text() == f"ssh-ed25519 AAAA somebody\n{access_line(other, MEMBER)}\n"
    assert keys.stat().st_mode & 0o777 == 0o640

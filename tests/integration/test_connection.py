"""Connections to a real sshd: what gets in, what is refused, and what people are told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sappers.errors import (
    HostUnfit,
    HostUnreachable,
    InventoryError,
    PrivilegeError,
    SappersError,
)
from sappers.provisioner.connection.ssh import Connection
from sappers.provisioner.executor import channel as executor_channel
from sappers.provisioner.inventory.inventory import Host
from tests.integration.ssh_server import (
    PASSWORD,
    SshServer,
    make_home,
    make_host,
    needs_doas,
    ssh_server,
)
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


def refusal(host: Host, timeout_seconds: float = 60.0) -> HostUnreachable:
    with pytest.raises(HostUnreachable) as caught:
        Connection.open(host, connect_timeout_seconds=timeout_seconds).close()
    assert caught.value.host == "lab1"
    assert str(caught.value).startswith("lab1: ")
    return caught.value


def test_connects_with_authenticated_encryption_and_gathers_facts(
    server: SshServer, tmp_path: Path
) -> None:
    with Connection.open(make_host(server, tmp_path)) as connection:
        facts = connection.start_executor().gather_facts(
            disk_paths=["/", "/not/there/yet"], packages=["dpkg", "no-such-package"]
        )
    assert facts.is_root
    assert facts.python_version >= (3, 11)
    assert Path(facts.python_path).exists()
    assert facts.free_disk_mib["/not/there/yet"] > 0
    assert list(facts.packages) == ["dpkg"]
    assert abs(facts.clock_offset_seconds) <= facts.clock_uncertainty_seconds + 0.01
    ours = [found for found in facts.listeners if found.port == server.port]
    assert [(found.protocol, found.address, found.process) for found in ours] == [
        ("tcp", "127.0.0.1", "sshd")
    ]


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_what_to_do(
    server: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    error = refusal(
        make_host(server, tmp_path, ansible_ssh_common_args=f"-o UserKnownHostsFile={known}")
    )
    listed = subprocess.run(
        ["ssh-keygen", "-lf", server.folder / "host_key.pub"], capture_output=True, text=True
    ).stdout
    assert listed.split()[1] in error.message
    assert error.hint is not None
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> {known}" in error.hint


def test_the_command_of_the_hint_lets_the_host_in(server: SshServer, tmp_path: Path) -> None:
    known = tmp_path / "known"
    host = make_host(server, tmp_path, ansible_ssh_common_args=f"-o UserKnownHostsFile={known}")
    hint = refusal(host).hint or ""
    subprocess.run(hint.split("run: ")[1], shell=True, check=True, capture_output=True)
    Connection.open(host).close()


def test_a_changed_host_key_is_refused_and_names_the_line_that_differs(
    server: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    other = server.folder / "user_key.pub"
    known.write_text(f"# comment\n[127.0.0.1]:{server.port} {other.read_text()}")
    for checking in ("yes", "accept-new"):
        arguments = f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking={checking}"
        error = refusal(make_host(server, tmp_path, ansible_ssh_common_args=arguments))
        assert "has changed" in error.message
        assert f"{known}:2" in error.message
        assert "ssh-keygen -f" in (error.hint or "")


def test_another_kind_of_key_does_not_pass_for_a_new_one(server: SshServer, tmp_path: Path) -> None:
    """Somebody in between shows a kind that is not on file."""
    known, other = tmp_path / "known", tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", other], check=True)
    known.write_text(f"[127.0.0.1]:{server.port} {other.with_suffix('.pub').read_text()}")
    before = known.read_text()
    arguments = f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=accept-new"
    host = make_host(server, tmp_path, ansible_ssh_common_args=arguments)
    error = refusal(host)
    assert "of a kind that is not on file: it is ssh-ed25519" in error.message
    assert f"{known}:1 holds ecdsa-sha2-nistp256" in error.message
    assert known.read_text() == before
    subprocess.run((error.hint or "").split("run: ")[1], shell=True, check=True)
    Connection.open(host).close()


def test_of_the_kinds_that_a_host_has_the_one_on_file_is_asked_for(tmp_path: Path) -> None:
    """Whatever the library likes best; but none that is revoked, in whose place a new one came."""
    for kind in ("ecdsa", "rsa"):
        key = tmp_path / f"key-{kind}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
    with ssh_server(f"HostKey {tmp_path}/key-ecdsa\nHostKey {tmp_path}/key-rsa") as server:
        name = f"[127.0.0.1]:{server.port}"
        revoked = (server.folder / "user_key.pub").read_text()
        for kind in ("ecdsa", "rsa"):
            known = tmp_path / f"known-{kind}"
            public = (tmp_path / f"key-{kind}.pub").read_text()
            known.write_text(f"{name} {public}@revoked {name} {revoked}")
            arguments = f"-o UserKnownHostsFile={known}"
            Connection.open(make_host(server, tmp_path, ansible_ssh_common_args=arguments)).close()


def test_accept_new_remembers_the_key_and_hashed_names_are_found(
    server: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "deep" / "known"
    arguments = f"-o UserKnownHostsFile={known}"
    new = f"{arguments} -o StrictHostKeyChecking=accept-new"
    Connection.open(make_host(server, tmp_path, ansible_ssh_common_args=new)).close()
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert known.read_text().startswith("|1|")
    Connection.open(make_host(server, tmp_path, ansible_ssh_common_args=arguments)).close()


def test_ssh_config_applies_beneath_the_inventory(
    server: SshServer, tmp_path: Path, home: Path
) -> None:
    (home / ".ssh" / "config").write_text(
        f"Host nick\n  HostName 127.0.0.1\n  Port {server.port}\n  User mere\n"
        f"  IdentityFile {server.key}\n  UserKnownHostsFile {server.known_hosts}\n"
    )
    nothing = dict.fromkeys(
        ("ansible_port", "ansible_user", "ansible_ssh_private_key_file", "ansible_ssh_common_args")
    )
    with Connection.open(
        make_host(server, tmp_path, **{**nothing, "ansible_host": "nick"})
    ) as plain:
        assert (plain.address, plain.user) == ("127.0.0.1", "mere")
    over = {**nothing, "ansible_host": "nick", "ansible_user": "root"}
    with Connection.open(make_host(server, tmp_path, **over)) as root:
        assert root.start_executor().gather_facts().is_root


def test_a_broken_ssh_config_is_an_error_of_that_file(
    server: SshServer, tmp_path: Path, home: Path
) -> None:
    (home / ".ssh" / "config").write_text("Host *\n  Port none\n")
    with pytest.raises(InventoryError, match="config"):
        Connection.open(make_host(server, tmp_path, ansible_port=None))


def test_jumps_through_another_server(server: SshServer, tmp_path: Path) -> None:
    jump = f"-J mere@127.0.0.1:{server.port},free@127.0.0.1:{server.port}"
    arguments = f"-o UserKnownHostsFile={server.known_hosts} {jump}"
    host = make_host(server, tmp_path, ansible_ssh_common_args=arguments)
    with Connection.open(host) as connection:
        assert connection.start_executor().gather_facts().is_root


def proxy_command(server: SshServer, user: str = "mere") -> str:
    """As it is written in most inventories."""
    options = f"-q -i {server.key} -o UserKnownHostsFile={server.known_hosts} -p {server.port}"
    return f"ssh -W %h:%p {options} {user}@127.0.0.1"


def test_a_proxy_command_is_the_way_there_and_ends_with_the_connection(
    server: SshServer, tmp_path: Path, home: Path
) -> None:
    known = f"-o UserKnownHostsFile={server.known_hosts}"
    before = set(server.sessions())
    arguments = f"{known} -o ProxyCommand='{proxy_command(server)}'"
    with Connection.open(make_host(server, tmp_path, ansible_ssh_common_args=arguments)) as one:
        assert one.start_executor().check(["id", "-un"]).stdout == "root\n"
    wait_until("the way is closed", lambda: set(server.sessions()) <= before)
    (home / ".ssh/config").write_text(f"Host *\n  ProxyCommand {proxy_command(server)}\n")
    Connection.open(make_host(server, tmp_path)).close()


def test_a_proxy_command_that_fails_is_shown_with_what_it_said(
    server: SshServer, tmp_path: Path, home: Path
) -> None:
    (home / ".ssh/config").write_text("Host *\n  ProxyCommand echo no way to %h >&2; exit 1\n")
    error = refusal(make_host(server, tmp_path))
    assert "ProxyCommand `echo no way to 127.0.0.1 >&2; exit 1`: no way to 127" in error.message


def test_a_new_key_behind_a_jump_is_asked_for_by_the_same_way(
    server: SshServer, tmp_path: Path, home: Path
) -> None:
    (home / ".ssh/config").write_text("Host gate\n  HostName 127.0.0.1\n  HostKeyAlias gate\n")
    known = tmp_path / "known"
    known.write_text(f"gate {server.known_hosts.read_text().split(maxsplit=1)[1]}")
    jump = f"-J mere@gate:{server.port}"
    arguments = f"-o UserKnownHostsFile={known} {jump}"
    error = refusal(make_host(server, tmp_path, ansible_ssh_common_args=arguments))
    assert f"-p {server.port} {jump} root@127.0.0.1 true" in (error.hint or "")


def test_nothing_to_log_in_with_is_said(server: SshServer, tmp_path: Path) -> None:
    error = refusal(make_host(server, tmp_path, ansible_ssh_private_key_file=None))
    assert "nothing to log in with as root" in error.message
    assert "--ask-pass" in (error.hint or "")


def test_an_unreachable_address_behind_a_jump_host_says_so(
    server: SshServer, tmp_path: Path
) -> None:
    jump = f"-o UserKnownHostsFile={server.known_hosts} -J root@127.0.0.1:{server.port}"
    error = refusal(make_host(server, tmp_path, ansible_port=1, ansible_ssh_common_args=jump))
    assert "jump host" in error.message


def test_a_wrong_key_and_a_wrong_user_are_told_apart_from_a_dead_host(
    server: SshServer, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong], check=True)
    error = refusal(make_host(server, tmp_path, ansible_ssh_private_key_file=wrong))
    assert "root is refused" in error.message
    assert "authorized_keys" in (error.hint or "")
    assert (
        "no-one is refused" in refusal(make_host(server, tmp_path, ansible_user="no-one")).message
    )


def test_damaged_missing_and_locked_keys(server: SshServer, tmp_path: Path) -> None:
    missing = make_host(server, tmp_path, ansible_ssh_private_key_file=tmp_path / "gone")
    assert "does not exist" in refusal(missing).message
    damaged = tmp_path / "damaged"
    damaged.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n")
    refusal(make_host(server, tmp_path, ansible_ssh_private_key_file=damaged))
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "word", "-f", locked], check=True)
    error = refusal(make_host(server, tmp_path, ansible_ssh_private_key_file=locked))
    assert "passphrase" in error.message
    assert "ssh-add" in (error.hint or "")


def test_nobody_there_no_ssh_there_no_such_name(server: SshServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    assert "nothing listens" in refusal(make_host(server, tmp_path, ansible_port=free)).message
    unknown = make_host(server, tmp_path, ansible_host="no-such-host.invalid")
    assert "cannot be resolved" in refusal(unknown).message
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = make_host(server, tmp_path, ansible_port=silent.getsockname()[1])
        refusal(host, timeout_seconds=0.5)


def test_garbage_instead_of_ssh(server: SshServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            peer, _ = listener.accept()
            with contextlib.suppress(OSError):
                peer.sendall(os.urandom(4096).replace(b"S", b"\n") + b"\n" * 200)
            peer.close()

        thread = threading.Thread(target=talk)
        thread.start()
        refusal(make_host(server, tmp_path, ansible_port=listener.getsockname()[1]), 2.0)
        thread.join()


def test_nothing_is_printed_by_the_library(
    server: SshServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    test_garbage_instead_of_ssh(server, tmp_path)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_logs_in_by_password(server: SshServer, tmp_path: Path) -> None:
    host = make_host(
        server,
        tmp_path,
        ansible_user="mere",
        ansible_ssh_private_key_file=None,
        ansible_password=PASSWORD,
    )
    assert PASSWORD not in repr(host) + repr(host.variables)
    with Connection.open(host) as connection:
        assert not connection.start_executor().gather_facts().is_root


@pytest.mark.parametrize(
    ("user", "password"), [("free", None), ("free", "not needed"), ("asked", PASSWORD)]
)
def test_becomes_root_by_sudo(
    server: SshServer, tmp_path: Path, user: str, password: str | None
) -> None:
    host = make_host(
        server,
        tmp_path,
        ansible_user=user,
        ansible_become="yes",
        ansible_become_password=password,
    )
    with Connection.open(host) as connection:
        executor = connection.start_executor()
        assert executor.check(["id", "-u"]).stdout == "0\n"
        if password:
            everything = executor.check(["sh", "-c", "cat /proc/*/cmdline 2>/dev/null || :"])
            assert password not in everything.output


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        ("asked", None, "wants a password"),
        ("asked", "wrong", "refuses the password"),
        ("mere", PASSWORD, "not in the sudoers file"),
    ],
)
def test_sudo_that_refuses(
    server: SshServer, tmp_path: Path, user: str, password: str | None, said: str
) -> None:
    host = make_host(
        server,
        tmp_path,
        ansible_user=user,
        ansible_become=True,
        ansible_become_password=password,
    )
    with Connection.open(host) as connection, pytest.raises(PrivilegeError, match=said) as caught:
        connection.start_executor()
    assert caught.value.hint
    assert not password or password not in str(caught.value)


def test_a_host_without_sudo(tmp_path: Path) -> None:
    with ssh_server("SetEnv PATH=/nowhere") as bare:
        variables = {"ansible_user": "free", "ansible_become": "yes"}
        host = make_host(bare, tmp_path, **variables, ansible_python_interpreter="/usr/bin/python3")
        with (
            Connection.open(host) as connection,
            pytest.raises(PrivilegeError, match="sudo: not found"),
        ):
            connection.start_executor()
        plain = make_host(bare, tmp_path, **variables)
        with Connection.open(plain) as connection, pytest.raises(HostUnfit, match="python3: not"):
            connection.start_executor()


def test_no_python_and_one_that_is_too_old(server: SshServer, tmp_path: Path) -> None:
    host = make_host(server, tmp_path, ansible_python_interpreter="/no/python3")
    with Connection.open(host) as connection, pytest.raises(HostUnfit, match="not found"):
        connection.start_executor()
    old = server.folder / "old-python"
    old.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && exit 1\nprintf "\\n%s python 3.7 420d0d0a\\n" "$5"\n'
    )
    old.chmod(0o755)
    host = make_host(server, tmp_path, ansible_python_interpreter=old)
    with Connection.open(host) as connection, pytest.raises(HostUnfit, match=r"is Python 3\.7"):
        connection.start_executor()


def test_a_talkative_login_shell_does_not_confuse(server: SshServer, tmp_path: Path) -> None:
    wrapper = server.folder / "talking-python"
    wrapper.write_text('#!/bin/sh\necho "Welcome!"; echo "python 2" >&2\nexec python3 "$@"\n')
    wrapper.chmod(0o755)
    host = make_host(server, tmp_path, ansible_python_interpreter=wrapper)
    with Connection.open(host) as connection:
        assert connection.start_executor().check(["echo", "well"]).stdout == "well\n"


@contextlib.contextmanager
def echo_server() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    threading.Thread(target=echo, args=(peer,), daemon=True).start()

        def echo(peer: socket.socket) -> None:
            with peer:
                while data := peer.recv(65536):
                    peer.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def echoed(address: tuple[str, int], data: bytes) -> bytes:
    received = b""
    with socket.create_connection(address, timeout=60) as stream:
        sender = threading.Thread(target=lambda: (stream.sendall(data), stream.shutdown(1)))
        sender.start()
        while part := stream.recv(65536):
            received += part
        sender.join()
    return received


def test_tunnels_carry_bytes_both_ways_and_end_with_their_block(
    server: SshServer, tmp_path: Path
) -> None:
    data = os.urandom(1_000_000)
    with Connection.open(make_host(server, tmp_path)) as connection, echo_server() as echo:
        with (
            connection.open_reverse_tunnel(0, echo) as first,
            connection.open_forward(("127.0.0.1", first)) as near,
        ):
            with connection.open_reverse_tunnel(0, echo) as second:
                assert echoed(("127.0.0.1", second), data) == data
            with pytest.raises(OSError):
                echoed(("127.0.0.1", second), b"?")
            assert echoed(("127.0.0.1", first), data) == data
            assert echoed(near, data) == data
        with pytest.raises(OSError):
            echoed(near, b"?")


def test_a_tunnel_to_nowhere_closes(server: SshServer, tmp_path: Path) -> None:
    with Connection.open(make_host(server, tmp_path)) as connection:
        with connection.open_forward(("127.0.0.1", 1)) as near, contextlib.suppress(OSError):
            assert echoed(near, b"?") == b""
        with (
            connection.open_reverse_tunnel(0, ("127.0.0.1", 1)) as far,
            contextlib.suppress(OSError),
        ):
            assert echoed(("127.0.0.1", far), b"?") == b""
            assert list(connection._reverse) == [far]  # no other port leads anywhere
        assert not connection._reverse


def test_an_sshd_that_forwards_nothing_says_so(tmp_path: Path) -> None:
    with (
        ssh_server("AllowTcpForwarding no") as strict,
        Connection.open(make_host(strict, tmp_path)) as connection,
        pytest.raises(HostUnreachable, match="opens no port") as caught,
        connection.open_reverse_tunnel(0, ("127.0.0.1", 1)),
    ):
        pass
    assert "AllowTcpForwarding" in (caught.value.hint or "")


def test_a_killed_session_is_noticed_at_once(server: SshServer, tmp_path: Path) -> None:
    before = set(server.sessions())
    with Connection.open(make_host(server, tmp_path)) as connection:
        executor = connection.start_executor()
        executor.check(["true"])
        (session,) = set(server.sessions()) - before
        began = time.monotonic()
        threading.Timer(0.2, os.kill, (session, signal.SIGKILL)).start()
        with pytest.raises(HostUnreachable):
            executor.run(["sleep", "300"])
        assert time.monotonic() - began < 200
        with pytest.raises(HostUnreachable):
            executor.run(["true"])
        with pytest.raises(SappersError):
            connection.start_executor()


def test_a_host_that_falls_silent_is_given_up(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_channel, "PING_SECONDS", 0.2)
    monkeypatch.setattr(executor_channel, "SILENCE_MAX_SECONDS", 1.0)
    before = set(server.sessions())
    with Connection.open(make_host(server, tmp_path)) as connection:
        executor = connection.start_executor()
        executor.check(["true"])
        (session,) = set(server.sessions()) - before
        os.kill(session, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(HostUnreachable, match="nothing heard"):
                executor.run(["sleep", "300"])
            assert time.monotonic() - began < 200
        finally:
            os.kill(session, signal.SIGCONT)


def test_a_long_command_is_no_silence(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_channel, "PING_SECONDS", 0.1)
    monkeypatch.setattr(executor_channel, "SILENCE_MAX_SECONDS", 2.0)
    with Connection.open(make_host(server, tmp_path)) as connection:
        assert connection.start_executor().run(["sleep", "3"]).exit_code == 0


@pytest.mark.parametrize(
    ("user", "method", "password", "said"),
    [
        ("mere", "su", None, "su wants a password"),
        ("mere", "su", "wrong", "su refuses: su: Authentication failure"),
        ("asked", "doas", None, "doas refuses: doas: Authentication required"),
        ("asked", "doas", "wrong", "doas refuses"),
        ("mere", "doas", PASSWORD, "doas refuses: doas: Operation not permitted"),
    ],
)
def test_su_and_doas_that_refuse(
    server: SshServer, tmp_path: Path, user: str, method: str, password: str | None, said: str
) -> None:
    if method == "doas":
        needs_doas()
    host = make_host(
        server,
        tmp_path,
        ansible_user=user,
        ansible_become=True,
        ansible_become_method=method,
        ansible_become_user="free",
        ansible_become_password=password,
    )
    with Connection.open(host) as connection, pytest.raises(PrivilegeError, match=said) as caught:
        connection.start_executor()
    assert caught.value.hint


def test_logs_in_with_a_key_of_the_agent(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket_path = tmp_path / "agent"
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL
    ) as agent:
        try:
            while not socket_path.exists():
                assert agent.poll() is None
                time.sleep(0.02)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
            subprocess.run(["ssh-add", "-q", server.key], check=True)
            host = make_host(server, tmp_path, ansible_ssh_private_key_file=None)
            with Connection.open(host) as connection:
                assert connection.user == "root"
        finally:
            agent.terminate()

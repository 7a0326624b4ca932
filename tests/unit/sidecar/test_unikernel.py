"""The sidecar of a unikernel: its control port over TCP, the program that shares its process."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from sappers.sidecar import unikernel
from sappers.sidecar.settings import HealthCheck, ImageSettings, Launch
from sappers.sidecar.unikernel_control import TcpControlPort


@pytest.fixture
def member():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60.0)
        yield server


def test_messages_come_and_go_and_a_line_that_is_cut_is_dialled_again(member):
    port = TcpControlPort(member.getsockname())
    line, _ = member.accept()
    line.sendall(b'{"a": 1}\n{"b": ')
    assert port.wait_for_message() == [{"a": 1}]
    port.send({"ok": True})
    line.settimeout(60.0)
    assert json.loads(line.recv(100)) == {"ok": True}
    line.close()
    answers: list = []
    reader = threading.Thread(target=lambda: answers.extend(port.wait_for_message()))
    reader.start()
    line, _ = member.accept()
    with line:
        line.settimeout(60.0)
        assert json.loads(line.recv(100).splitlines()[0]) == {"waiting": True}
        line.sendall(b'{"c": 3}\n')
        reader.join(60.0)
    assert answers == [{"c": 3}]  # and half a line of before is forgotten
    os.close(port.fileno())


def test_a_port_that_is_not_there_yet_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as place:
        address = place.getsockname()
    ports: list = []
    dialler = threading.Thread(target=lambda: ports.append(TcpControlPort(address)))
    dialler.start()
    with socket.create_server(address) as server:
        server.settimeout(60.0)
        line, _ = server.accept()
        dialler.join(60.0)
        assert len(ports) == 1
        line.close()
        os.close(ports[0].fileno())


def program(tmp_path, text: str, *arguments: str) -> unikernel.Program:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    launch = Launch(kind="script", arguments=arguments)
    return unikernel.Program(ImageSettings(application=str(path), launch=launch))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pass", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('no')", 1),
        ("1 / 0", 1),
        ("import sys; assert sys.argv[1:] == ['-v'] and __name__ == '__main__'", 0),
    ],
)
def test_how_a_program_ended_is_known(text, code, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    it = program(tmp_path, text, "-v")
    assert it.exit_text == ""
    it.run()
    assert it.exit_text == f"the application ended with exit code {code}"


def test_a_prepared_module_goes_on_where_it_was_prepared(tmp_path, monkeypatch):
    (tmp_path / "prepared_app.py").write_text(
        "import os\n"
        "def prepare():\n"
        "    early = os.environ.get('SAPPERS_ALLOCATION_ID', 'nobody')\n"
        "    port = os.environ['SAPPERS_PORT']\n"
        "    return lambda: done.append((early, os.environ['SAPPERS_ALLOCATION_ID'], port))\n"
        "done = []\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    check = HealthCheck(kind="http", port=8080)
    launch = Launch(prepare="prepare")
    it = unikernel.Program(ImageSettings("prepared_app", check=check, launch=launch))
    it.prepare()
    os.environ["SAPPERS_ALLOCATION_ID"] = "web-1"
    it.run()
    assert it.exit_text == "the application ended with exit code 0"
    assert sys.modules.pop("prepared_app").done == [("nobody", "web-1", "8080")]


def test_a_program_that_listens_to_sigterm_ends_itself_and_others_are_not_waited_for(tmp_path):
    text = """
        import os, signal, sys, threading, time
        from sappers.sidecar import unikernel
        from sappers.sidecar.settings import ImageSettings, Launch
        it = unikernel.Program(ImageSettings(sys.argv[1], launch=Launch(kind="script")))
        def end():
            while not os.path.exists("up"): time.sleep(0.01)
            begin = time.monotonic(); it.end(200.0)
            print(it.exit_text or "still there", time.monotonic() - begin < 100, flush=True)
            os._exit(0)
        threading.Thread(target=end, daemon=True).start()
        it.run()
        time.sleep(600)
    """
    runner, app = tmp_path / "runner.py", tmp_path / "app.py"
    runner.write_text(textwrap.dedent(text))
    listens = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    for words, said in (
        (listens, "the application ended with exit code 0 True"),
        ("import time\n", "still there True"),
    ):
        (tmp_path / "up").unlink(missing_ok=True)
        app.write_text(f"{words}open('up', 'w').close()\nwhile True: time.sleep(0.05)\n")
        done = subprocess.run(
            [sys.executable, str(runner), str(app)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.stdout.strip() == said, done.stderr


async def test_unconnected_sockets_say_that_they_are(monkeypatch):
    told = socket.socket.getpeername
    monkeypatch.setattr(socket.socket, "getpeername", lambda self: ("0.0.0.0", 0))
    unikernel.mend_sockets()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            own.getpeername()
        own.bind(("127.0.0.1", 0))
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=own)
        assert transport.get_extra_info("peername") is None
        transport.close()
    monkeypatch.setattr(socket.socket, "getpeername", told)

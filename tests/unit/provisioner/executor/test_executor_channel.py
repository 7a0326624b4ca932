"""A host's executor is not trusted: what it says is bounded, and an answer only if it is one."""

from __future__ import annotations

import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from sappers.errors import HostError, HostUnreachable
from sappers.provisioner.executor.executor import Executor
from sappers.provisioner.executor.start import _Dialogue
from sappers.provisioner.executor.task_session import TaskSession
from sappers.provisioner.remote import wire


class SocketChannel(socket.socket):
    """A socket that also has what only an SSH channel has."""

    def send_ready(self) -> bool:
        return True

    def shutdown_write(self) -> None:
        self.shutdown(socket.SHUT_WR)


ONE_TASK = [{"tasks": [{"module": "ping"}], "goes_on": False}]
Host = Callable[[socket.socket, int], None]


@pytest.fixture
def meet() -> Iterator[Callable[[Host], Executor]]:
    """An executor whose other end answers each call as told."""
    opened: list[Executor] = []

    def begin(answer: Host) -> Executor:
        here, there = socket.socketpair()

        def serve() -> None:
            file = there.makefile("rb")
            while (frame := wire.decode(lambda n: file.read(n) or None)) is not None:
                if frame[0]["id"]:
                    answer(there, frame[0]["id"])

        threading.Thread(target=serve, daemon=True).start()
        channel = SocketChannel(here.family, here.type, fileno=here.detach())
        opened.append(Executor("evil", channel))  # type: ignore[arg-type]
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def raw(text: str) -> bytes:
    return struct.pack(">II", len(text), 0) + text.encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 1, "result": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"id": 1}',
        '{"id": 1, "event": "\\u001b[2J"}',
        '{"id": 1, "error": "no"}',
        '{"id": 1, "error": {"kind": "os", "message": [], "errno": "x"}}',
        "[]",
        "no JSON",
    ],
)
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_is_no_answer_ends_the_connection(meet, text: str) -> None:
    executor = meet(lambda there, _: there.sendall(raw(text)))
    with pytest.raises(HostUnreachable, match="the executor is gone"):
        executor.run(["true"])


@pytest.mark.parametrize("result", ['"x"', "{}", "[1]", "null", '{"/": {"kind": "evil"}}'])
def test_a_result_of_the_wrong_kind_is_the_hosts_failure(meet, result: str) -> None:
    executor = meet(
        lambda there, number: there.sendall(raw(f'{{"id": {number}, "result": {result}}}'))
    )
    for ask in (
        lambda: executor.run(["true"]),
        executor.gather_facts,
        lambda: executor.stat(["/"]) == {"/": None} and executor.gather_facts(),
    ):
        with pytest.raises(HostError, match="makes no sense"):
            ask()


@pytest.mark.parametrize(
    "result",
    [
        "[]",
        '{"diff": 1}',
        '{"diff": ["x"]}',
        '{"ansible_facts": [1]}',
        "1",
        '{"a": ' + "[" * 99_999,
    ],
)
def test_what_is_no_tasks_result_is_the_hosts_failure(meet, result: str) -> None:
    body = zlib.compress(result.encode())
    executor = meet(
        lambda there, number: there.sendall(wire.encode({"id": number, "event": "task"}, body))
    )
    executor.runs_tasks = True
    with pytest.raises(HostError, match="makes no sense"):
        TaskSession(executor).run(ONE_TASK, {}, lambda *_: None)


def test_no_more_results_are_taken_than_there_are_tasks(meet) -> None:
    def flood(there: socket.socket, number: int) -> None:
        for _ in range(100):
            there.sendall(wire.encode({"id": number, "event": "task"}, zlib.compress(b"{}")))

    executor = meet(flood)
    executor.runs_tasks = True
    taken: list[dict[str, object]] = []
    with pytest.raises(HostError, match="more tasks than it has"):
        TaskSession(executor).run(ONE_TASK, {}, lambda _, result: taken.append(result))
    assert taken == [{}]


def test_what_nobody_asked_for_is_not_kept(meet) -> None:
    def flood(there: socket.socket, number: int) -> None:
        for other in range(number + 1, number + 200):
            there.sendall(wire.encode({"id": other, "event": "stdout"}, b"x" * 1000))
        there.sendall(wire.encode({"id": number, "result": 0}))

    executor = meet(flood)
    assert executor.run(["true"]).output == ""
    assert executor._channel._answers.qsize() == 0


def test_a_host_that_talks_more_than_is_taken_has_to_wait(meet) -> None:
    sent: list[int] = []
    full = threading.Event()

    def talk(there: socket.socket, number: int) -> None:
        there.settimeout(0.5)
        try:
            for _ in range(10_000):
                there.sendall(wire.encode({"id": number, "event": "stdout"}, b"x" * 10_000))
                sent.append(1)
        except TimeoutError:
            full.set()

    executor = meet(talk)
    with executor._channel.exclusive():
        executor._channel.begin({"op": "run"})
        assert full.wait(60)
    assert len(sent) < 1000


@pytest.mark.parametrize(
    "said",
    ["python", "python 3", "python a.b", "evil", "python 3.11", "python 3.11 a70d0d0a \x1b"],
)
def test_a_greeting_that_is_none_is_the_hosts_failure(said: str) -> None:
    here, there = socket.socketpair()
    there.sendall(f"\nword {said}\n".encode())
    channel = SocketChannel(here.family, here.type, fileno=here.detach())
    host = SimpleNamespace(name="evil", become_password=None)
    with pytest.raises(HostUnreachable, match="no Python answered"):
        _Dialogue(channel, host, "word").until_started()  # type: ignore[arg-type]
    channel.close()
    there.close()

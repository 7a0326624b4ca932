"""The connections of a run: one a host, opened when first needed, an executor for each user."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from sappers.errors import HostError, HostOffline
from sappers.provisioner.connection.dial import dial
from sappers.provisioner.connection.ssh_import import import_ssh
from sappers.provisioner.inventory.host import Host
from sappers.provisioner.inventory.host_values import Secret
from sappers.provisioner.modules.step import Completed
from sappers.provisioner.playbook.tasks.ways import Reached

if TYPE_CHECKING:
    from sappers.provisioner.connection.local import LocalConnection
    from sappers.provisioner.connection.ssh import Connection
    from sappers.provisioner.executor.task_session import TaskSession

CLOSED_AT_ONCE = 16
_Key = tuple[str, Reached]


class Account(msgspec.Struct, frozen=True):
    """Whom an executor runs as."""

    name: str
    become: bool
    become_user: str
    become_method: str
    become_password: Secret | None
    python_interpreter: str | None


class HostLink:
    """One host of a run. Calls from several threads take turns.

    Attributes:
        connect_seconds: How long it took to log in and to start executors, so far.
    """

    def __init__(self, host: Host, clock: Callable[[], float] = time.monotonic) -> None:
        self.host = host
        self.connect_seconds = 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: Connection | LocalConnection | None = None
        self._sessions: dict[tuple[str | None, str | None], TaskSession] = {}
        self._coming: tuple[str | None, str | None, Future[None]] | None = None

    def approach(self, user: str | None, method: str | None = None) -> None:
        """Begin to get what `session` will be asked for next; what goes wrong it tells then."""
        if self._coming is not None or self._sessions:
            return
        coming: Future[None] = Future()
        self._coming = user, method, coming

        def come() -> None:
            try:
                self._timed_session(user, method)
                coming.set_result(None)
            except BaseException as error:  # for who waits for it
                coming.set_exception(error)

        threading.Thread(target=come, daemon=True).start()

    def session(self, user: str | None, method: str | None = None) -> TaskSession:
        """The executor of a user.

        Args:
            user: None: who logs in.
            method: How to become the user; None: as the inventory says.

        Raises:
            HostUnreachable: No connection can be had.
            HostError: No executor, or the user may not become another.
        """
        if self._coming is not None and self._coming[:2] == (user, method):
            coming, self._coming = self._coming[2], None
            coming.result()
        return self._timed_session(user, method)

    def _timed_session(self, user: str | None, method: str | None) -> TaskSession:
        with self._lock:
            began = self._clock()
            try:
                return self._session(user, method)
            finally:
                self.connect_seconds += self._clock() - began

    def is_offline(self) -> bool:
        """Log in, if it is not done; whether nobody answers. Who refuses is not offline."""
        with self._lock:
            began = self._clock()
            try:
                self._opened()
            except HostOffline:
                return True
            except HostError:
                return False  # the first task meets it again, and tells
            finally:
                self.connect_seconds += self._clock() - began
            return False

    def _session(self, user: str | None, method: str | None) -> TaskSession:
        connection = self._opened()
        if user == connection.user:
            user = None
        key = (user, method if user else None)
        if key not in self._sessions:
            from sappers.provisioner.executor.task_session import TaskSession  # as `_opened`

            account = Account(
                self.host.name,
                user is not None,
                user or "root",
                method or self.host.become_method,
                self.host.become_password,
                self.host.python_interpreter,
            )
            self._sessions[key] = TaskSession(connection.start_executor(account, runs_tasks=True))
        return self._sessions[key]

    def raw(
        self, user: str | None, method: str | None, line: str, executable: str | None
    ) -> Completed:
        """How a command line ended that was run in the host's shell, as a user.

        Raises:
            HostUnreachable: No connection can be had.
        """
        from sappers.provisioner.executor.raw_command import RawCommand  # as `_opened`

        with self._lock:
            connection = self._opened()
            user = None if user == connection.user else user
            method = method or self.host.become_method
            command = RawCommand(line, executable, user, self.host.become_password, method)
            return connection.run_raw(command)

    def _opened(self) -> Connection | LocalConnection:
        # SSH and what runs over it are imported late, once all hosts are dialled: see `dial`.
        if self._connection is None and self.host.is_local:
            from sappers.provisioner.connection.local import LocalConnection

            self._connection = LocalConnection(self.host)
        elif self._connection is None:
            dialled = dial(self.host)
            import_ssh()
            from sappers.provisioner.connection.ssh import Connection

            self._connection = Connection.over(dialled, self.host)
        return self._connection

    def close(self) -> None:
        """End all executors and the connection; may be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            self._sessions.clear()


class HostLinks:
    """The links of all hosts of a run, by name.

    Args:
        become_password, password: For hosts of which the inventory says none.
    """

    def __init__(
        self, become_password: Secret | None = None, password: Secret | None = None
    ) -> None:
        self._become_password = become_password
        self._password = password
        self._links: dict[_Key, HostLink] = {}
        self._lock = threading.Lock()

    def adopt(self, name: str, link: HostLink) -> None:
        """Use a link that was there before the run."""
        self._links[name, ()] = link

    def link(self, host: Host, reached: Reached = ()) -> HostLink:
        """The link to a host; the same one each time.

        Args:
            reached: Fields of the host that are others now, with their values.
        """
        key = (host.name, reached)
        with self._lock:
            if key not in self._links:
                host = replace(host, **dict(reached))
                if self._become_password and host.become_password is None:
                    host = replace(host, become_password=self._become_password)
                if self._password and host.password is None:
                    host = replace(host, password=self._password)
                self._links[key] = HostLink(host)
            return self._links[key]

    def drop(self, name: str) -> None:
        """Close a host's links; the next task opens another."""
        with self._lock:
            links = [self._links.pop(key) for key in list(self._links) if key[0] == name]
        for link in links:
            link.close()

    def connect_seconds(self) -> dict[str, float]:
        """How long it took to get into each host."""
        with self._lock:
            taken: dict[str, float] = {}
            for (name, _), link in self._links.items():
                taken[name] = taken.get(name, 0.0) + link.connect_seconds
            return taken

    def close(self) -> None:
        """End all connections, side by side: each waits until its executors have ended."""
        links = list(self._links.values())
        with ThreadPoolExecutor(max_workers=max(1, min(len(links), CLOSED_AT_ONCE))) as pool:
            list(pool.map(lambda link: link.close(), links))

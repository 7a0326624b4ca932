"""The connections of a run: one a host, opened when first needed, an executor for each user."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from sappers.provisioner.connection import Connection
from sappers.provisioner.host import Host
from sappers.provisioner.host_values import Secret
from sappers.provisioner.local_connection import LocalConnection
from sappers.provisioner.task_session import TaskSession


@dataclass(frozen=True)
class Account:
    """Whom an executor runs as."""

    name: str
    become: bool
    become_user: str
    become_password: Secret | None
    python_interpreter: str | None


class HostLink:
    """One host of a run. Calls from several threads take turns."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._lock = threading.Lock()
        self._connection: Connection | LocalConnection | None = None
        self._sessions: dict[str | None, TaskSession] = {}

    def session(self, user: str | None) -> TaskSession:
        """The executor of a user; None: who logs in.

        Raises:
            HostUnreachable: No connection can be had.
            HostError: No executor, or the user may not become another.
        """
        with self._lock:
            connection = self._opened()
            if user == connection.user:
                user = None
            if user not in self._sessions:
                account = Account(
                    self.host.name,
                    user is not None,
                    user or "root",
                    self.host.become_password,
                    self.host.python_interpreter,
                )
                self._sessions[user] = TaskSession(connection.start_executor(account))
            return self._sessions[user]

    def _opened(self) -> Connection | LocalConnection:
        if self._connection is None:
            if self.host.is_local:
                self._connection = LocalConnection(self.host)
            else:
                self._connection = Connection.open(self.host)
        return self._connection

    def close(self) -> None:
        """End all executors and the connection; may be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            self._sessions.clear()


def local_host(name: str = "localhost") -> Host:
    """This machine, where the inventory does not name it."""
    return Host(name=name, groups=("all", "ungrouped"), variables={}, address=name, is_local=True)


class HostLinks:
    """The links of all hosts of a run, by name."""

    def __init__(self, become_password: Secret | None = None) -> None:
        self._become_password = become_password
        self._links: dict[str, HostLink] = {}
        self._lock = threading.Lock()

    def link(self, host: Host) -> HostLink:
        """The link to a host; the same one each time."""
        with self._lock:
            if host.name not in self._links:
                if self._become_password and host.become_password is None:
                    host = replace(host, become_password=self._become_password)
                self._links[host.name] = HostLink(host)
            return self._links[host.name]

    def drop(self, name: str) -> None:
        """Close a host's link; the next task opens another."""
        with self._lock:
            link = self._links.pop(name, None)
        if link:
            link.close()

    def close(self) -> None:
        """End all connections."""
        for link in list(self._links.values()):
            link.close()

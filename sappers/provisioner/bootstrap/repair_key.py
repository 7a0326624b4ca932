"""The cluster's own key for repairs: made by bootstrap, accepted by hosts, given to the cluster.

The control machine keeps it (0600) so that each run can give it again. To replace it, remove the
file and bootstrap: hosts and cluster get the new one, and the old one opens nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from sappers.durable import write_durably
from sappers.model.repair import KnownAccess, RepairKey, RepairLogin
from sappers.provisioner.bootstrap.run import HostRun
from sappers.provisioner.control.identity import load_control_identity
from sappers.provisioner.repair.access import access_line
from sappers.security.repair_authority import (
    RepairAuthority,
    create_repair_authority,
    load_repair_authority,
    renew_access,
)

KEY_FILE = "repair.key"


class ClusterRepairKey(Protocol):
    """The running cluster as the key's place; the composition root gives one."""

    def repair_access(self, hosts: Sequence[HostRun]) -> KnownAccess:
        """What the cluster has. Raises ApiError."""

    def give_repair_key(
        self, hosts: Sequence[HostRun], key: RepairKey, logins: Sequence[RepairLogin]
    ) -> None:
        """Have it keep the key. Raises ApiError."""


def load_repair_key(folder: Path) -> RepairAuthority | None:
    """The cluster's repair key, or None before the first run.

    Raises:
        IdentityError: The file is damaged.
    """
    try:
        return load_repair_authority((folder / KEY_FILE).read_bytes())
    except FileNotFoundError:
        return None


def ensure_repair_key(folder: Path) -> RepairAuthority:
    """The same, made if it is missing."""
    found = load_repair_key(folder)
    if found is None:
        found = create_repair_authority()
        write_durably(folder / KEY_FILE, found.private)
    return found


def healers_line(public: str | None, member_id: str) -> str:
    """What lets healers in, for `authorized_keys`; `public` is None before the first real run."""
    return access_line(public or "(a key that the first run makes)", member_id)


def healers_account(host: HostRun) -> tuple[str, bool]:
    """Who a healer logs in as, and whether by sudo: who bootstrap did, if that needs no password.

    Nobody keeps a password for sudo, so where one is needed root itself lets healers in. So it
    does where sudo is not what bootstrap became root by.
    """
    by_sudo = host.host.become_method == "sudo" and host.host.become_password is None
    if host.connection is None or (host.host.become and not by_sudo):
        return "root", False
    return host.connection.user, host.host.become


def repair_login_of(host: HostRun) -> RepairLogin | None:
    """How healers log in to a member that lets them; None without a connection."""
    if host.connection is None:
        return None
    user, become = healers_account(host)
    return RepairLogin(
        member_id=host.node_id,
        port=host.connection.port,
        user=user,
        become=become,
        host_keys=host.connection.host_keys,
    )


def give_repair_key(
    hosts: Sequence[HostRun],
    cluster: ClusterRepairKey,
    folder: Path,
    image_key: str | None,
    note: Callable[[str], None],
    now: float,
) -> list[str]:
    """Give the running cluster its key, encrypted, and how to log in, signed; what changed.

    Args:
        hosts: Each with how healers log in to it.
        cluster: Takes it.
        folder: The cluster's, with all its secrets.
        image_key: Healers' images must be signed by it: this machine's, if it has one.
        note: Told what is done.
        now: Unix time in seconds.

    Raises:
        ApiError: The cluster does not take it.
    """
    authority, identity = ensure_repair_key(folder), load_control_identity(folder)
    assert identity is not None, "hosts are members only once it is there"
    logins = [host.repair_login for host in hosts if host.repair_login is not None]
    image_keys = (image_key,) if image_key else ()
    known = cluster.repair_access(hosts)
    # Every member has the hub's seed, and no replicated state has it.
    seed = identity.hub.account_seed
    given = renew_access(authority, seed, logins, image_keys, known, now)
    if given is None:
        return []
    note("giving the cluster its repair key")
    cluster.give_repair_key(hosts, *given)
    same_key = (known.public, known.image_keys) == (authority.public, image_keys)
    return ["repair logins"] if same_key else ["repair key"]

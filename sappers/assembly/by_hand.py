"""An agent that nobody provisioned: identity from the cluster's keys, settings from flags.

The *cluster keys* are a folder like the one that `sappers-deploy` keeps for a cluster: authority,
gossip key, hub account, image signing key. Who has it can make members and operators.

Invariant: keys are made once, by the agent that founds the cluster, and never replaced; one agent
founds, even if several are told to. STATE_DIR has `agent.toml` only once its identity is whole.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sappers.agent.address import own_address
from sappers.agent.flags import StartFlags, first_settings, with_flags
from sappers.agent.me import load_node_id
from sappers.config import (
    AgentSettings,
    ConsulSettings,
    StateFolder,
    agent_settings_text,
    load_agent_settings,
)
from sappers.durable import write_durably
from sappers.errors import ConfigError, GatewayError, IdentityError
from sappers.gateway.haproxy import find_haproxy
from sappers.hub.credentials import create_hub_account
from sappers.model.image import ImageKey
from sappers.provisioner.control.identity import (
    ControlIdentity,
    HubSecrets,
    ensure_control_identity,
    load_control_identity,
)
from sappers.provisioner.control.record import (
    OPERATOR_CERTIFICATE_FILE,
    OPERATOR_KEY_FILE,
    RECORD_FILE,
    ClusterRecord,
    RecordedMember,
    load_record,
    save_record,
)
from sappers.security.authority import authority_name, create_request
from sappers.security.identity import load_identity
from sappers.security.repair_authority import (
    RepairAuthority,
    create_repair_authority,
    load_repair_authority,
)
from sappers.security.signing import SigningKey, load_or_create_signing_key
from sappers.security.tls import Identity

KEYS_FOLDER = "cluster"
CLUSTER_NAME = "sappers"
SIGNING_KEY_FILE = "image-signing.key"
REPAIR_KEY_FILE = "repair.key"  # as bootstrap calls it
CONSUL_SECONDS = 0.5
_FOUNDER_FILE = "founding.json"
_LOCK_FILE = ".lock"


class ClusterKeys(msgspec.Struct, frozen=True):
    """A cluster's keys, complete.

    Attributes:
        cluster: The cluster's name.
        signing_key: Images that it signed run in the cluster from its beginning.
    """

    folder: Path
    cluster: str
    identity: ControlIdentity
    signing_key: SigningKey

    def __repr__(self) -> str:
        return f"ClusterKeys({self.folder})"


class _Founder(msgspec.Struct, frozen=True):
    """Who founds the cluster; the file is the one that bootstrap keeps."""

    founder: str
    voters: int


def keys_folder(folder: StateFolder, given: Path | None) -> Path:
    """Where the cluster's keys are: as given, else beside STATE_DIR."""
    return given.absolute() if given else folder.root.parent / KEYS_FOLDER


def prepare_by_hand(folder: StateFolder, flags: StartFlags, given: Path | None) -> AgentSettings:
    """The settings of an agent, whose STATE_DIR has all it needs to start once this returns.

    Args:
        folder: STATE_DIR; claimed by the caller.
        flags: What this start was told.
        given: The folder with the cluster's keys; beside STATE_DIR when None.

    Raises:
        SappersError: Keys are missing, not ours, or a flag makes no sense; says what to do.
    """
    path = keys_folder(folder, given)
    try:
        if folder.settings.exists():
            settings = with_flags(load_agent_settings(folder.settings), flags)
            keys = _keys_to_renew_with(folder, path, required=given is not None)
            if keys is None:
                return settings
            node_id = _take_identity(folder, settings, flags.node_id, keys)
            return _unless_another_founds(path, settings, node_id)
        return _first_start(folder, flags, path)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error


def load_cluster_keys(folder: Path) -> ClusterKeys | None:
    """The keys in a folder, or None when it has not all of them.

    Raises:
        IdentityError: A key is damaged, or others can read or replace it.
    """
    _refuse_others(folder)
    identity = load_control_identity(folder)
    if identity is None:
        return None
    signing_key = load_or_create_signing_key(folder / SIGNING_KEY_FILE)
    return ClusterKeys(folder, authority_name(identity.authority), identity, signing_key)


def _refuse_others(folder: Path) -> None:
    """Nothing, for a folder that only its user can reach; else whoever made it has the cluster."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise IdentityError(
            f"{folder} is no folder, or a link to one",
            hint="name the folder itself with --cluster-keys",
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise IdentityError(
            f"{folder}: another user owns it, and would have the cluster's keys",
            hint="keep STATE_DIR and the keys where nobody else may write, or name the keys with "
            "--cluster-keys",
        )
    if found.st_mode & 0o077:
        raise IdentityError(
            f"{folder}: other users can reach the cluster's keys",
            hint=f"chmod -R go= {folder}; if others may have read them, found the cluster anew",
        )


def ensure_repair_authority(keys: ClusterKeys) -> RepairAuthority:
    """What signs the certificates that healers log in with; made when it is first asked for.

    Raises:
        IdentityError: The file is damaged.
    """
    path = keys.folder / REPAIR_KEY_FILE
    with _locked(keys.folder):
        if not path.exists():
            write_durably(path, create_repair_authority().private)
        return load_repair_authority(path.read_bytes())


def operator_identity(
    folder: StateFolder, given: Path | None
) -> tuple[Identity, ClusterKeys | None]:
    """Whom a command on this machine is to a member, and the cluster's keys if they are here.

    An operator where they are; else the member of STATE_DIR itself, which may ask for most.

    Raises:
        IdentityError: A key or certificate is missing, damaged, or readable by others.
    """
    path = keys_folder(folder, given)
    keys = _keys_to_renew_with(folder, path, required=given is not None)
    if keys is None:
        return load_identity(folder.pki), None
    with _locked(path):
        ensure_control_identity(path, keys.cluster, _create_hub)  # an operator's lasts a year
    identity = load_identity(path, cert=OPERATOR_CERTIFICATE_FILE, key=OPERATOR_KEY_FILE)
    return identity, keys


def _first_start(folder: StateFolder, flags: StartFlags, path: Path) -> AgentSettings:
    if flags.bootstrap:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not path.is_dir():
        raise _no_keys(path)
    _refuse_others(path)
    with _locked(path):
        if flags.bootstrap:
            ensure_control_identity(path, CLUSTER_NAME, _create_hub)
        keys = load_cluster_keys(path)
        if keys is None:
            raise _no_keys(path)
        settings = first_settings(
            flags,
            cluster=keys.cluster,
            host_name=socket.gethostname(),
            image_keys=(ImageKey(keys.signing_key.public, f"keys of cluster {keys.cluster}"),),
            consul=_consul_of_this_host(),
            has_gateway=_has_haproxy(),
        )
        node_id = _take_identity(folder, settings, flags.node_id, keys)
        if settings.bootstrap and not (path / _FOUNDER_FILE).exists():
            founder = msgspec.json.encode(_Founder(node_id, settings.bootstrap))
            write_durably(path / _FOUNDER_FILE, founder + b"\n")
        settings = _unless_another_founds(path, settings, node_id)
        if not settings.bootstrap and not settings.peers:
            raise ConfigError(
                "this agent has nobody to meet",
                hint="--peers HOST:PORT names an agent of the cluster; one agent founds it with "
                "--bootstrap N",
            )
        _record_member(path, keys, settings, node_id)
    write_durably(folder.settings, agent_settings_text(settings).encode())
    return settings


def _take_identity(
    folder: StateFolder, settings: AgentSettings, node_id: str | None, keys: ClusterKeys
) -> str:
    """Leave this member's key and a certificate for it, and what all members share; its id."""
    address = own_address(settings.address, settings.peers)
    member_id = load_node_id(folder.node_id, settings.node_name, node_id)
    for part in (folder.pki, folder.hub):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    hub = keys.identity.hub
    for path, content in (
        (folder.pki / "ca.pem", keys.identity.authority.cert_pem.decode()),
        (folder.hub_seed, hub.account_seed),
        (folder.hub / "operator.jwt", hub.operator_jwt),
        (folder.hub / "account.jwt", hub.account_jwt),
    ):
        _share(path, content.strip() + "\n", keys)
    if not folder.gossip_key.exists():  # a copy of the keys' folder may have an older one
        write_durably(folder.gossip_key, f"{keys.identity.gossip_key.strip()}\n".encode())
    certificate = folder.pki / "cert.pem"
    try:
        ours = load_identity(folder.pki).node_id == member_id
    except IdentityError:
        ours = False
    if not ours or keys.identity.renewal_of(certificate.read_bytes(), address) is not None:
        # The certificate last, and none while the key is being replaced.
        key_pem, request = create_request(member_id)
        signed = keys.identity.sign_agent(request, member_id, address)
        certificate.unlink(missing_ok=True)
        write_durably(folder.pki / "key.pem", key_pem)
        write_durably(certificate, signed, mode=0o644)
    return member_id


def _share(path: Path, content: str, keys: ClusterKeys) -> None:
    if path.exists():
        if path.read_text().strip() == content.strip():
            return
        raise IdentityError(
            f"{path} is not that of the cluster whose keys are in {keys.folder}",
            hint="an agent stays in its cluster; use another STATE_DIR, or name the right keys "
            "with --cluster-keys",
        )
    write_durably(path, content.encode())


def _keys_to_renew_with(folder: StateFolder, path: Path, *, required: bool) -> ClusterKeys | None:
    """The cluster's keys, if they are here; an agent that has its certificate can do without."""
    keys = load_cluster_keys(path) if path.is_dir() else None
    if keys is None:
        if required:
            raise _no_keys(path)
        return None
    own = folder.pki / "ca.pem"
    ours = own.exists() and own.read_bytes().strip() == keys.identity.authority.cert_pem.strip()
    return keys if ours or required else None


def _unless_another_founds(path: Path, settings: AgentSettings, node_id: str) -> AgentSettings:
    """The settings, without `bootstrap` where these keys' cluster has another founder."""
    decided = bool(settings.bootstrap) and (path / _FOUNDER_FILE).exists()
    if decided and _founder_of(path).founder != node_id:
        return msgspec.structs.replace(settings, bootstrap=0)
    return settings


def _founder_of(path: Path) -> _Founder:
    try:
        return msgspec.json.decode((path / _FOUNDER_FILE).read_bytes(), type=_Founder)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"{path / _FOUNDER_FILE}: {error}", hint="it names the agent that founds the cluster"
        ) from error


def _record_member(path: Path, keys: ClusterKeys, settings: AgentSettings, node_id: str) -> None:
    """Let `sappers-deploy --cluster FOLDER` find this member."""
    if (path / RECORD_FILE).exists():
        record = load_record(path)
        if record.inventory:  # bootstrap's own
            return
    else:
        record = ClusterRecord(name=keys.cluster, members=())
    address = own_address(settings.address, settings.peers)
    me = RecordedMember(settings.node_name, node_id, address, settings.ports.http)
    others = tuple(one for one in record.members if one.node_id != node_id)
    save_record(path, msgspec.structs.replace(record, members=(*others, me)))


def _consul_of_this_host() -> ConsulSettings:
    """Consul is used where one answers when the agent is started for the first time."""
    settings = ConsulSettings()
    try:
        with socket.create_connection(settings.endpoint, CONSUL_SECONDS):
            return msgspec.structs.replace(settings, enabled=True)
    except OSError:
        return settings


def _has_haproxy() -> bool:
    try:
        find_haproxy()
    except GatewayError:
        return False
    return True


def _create_hub(cluster: str) -> HubSecrets:
    account = create_hub_account(cluster)
    return HubSecrets(account.operator_jwt, account.account_jwt, account.account_seed)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with (path / _LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _no_keys(path: Path) -> IdentityError:
    return IdentityError(
        f"{path} does not have the cluster's keys, which a new member needs",
        hint="copy that folder from the machine of the agent that was started with --bootstrap "
        f"(scp -rp HOST:…/{path.name} {path.parent}/), or say where it is with --cluster-keys; "
        "to found a new cluster instead, --bootstrap N",
    )

"""Frozen, typed settings, validated when loaded. One file per agent: `agent.toml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from sappers.errors import ConfigError
from sappers.model.image import ImageKey, is_public_key
from sappers.model.member import Ports
from sappers.model.policy import (
    ElectorateSettings,
    EventSettings,
    FencingSettings,
    HealthSettings,
    ImageSettings,
)

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
# Users that guests run as: between what systemd keeps for containers and the end, nobody's.
GUEST_USER_IDS = range(0x70000000, 0x71000000)
GATEWAY_USER_ID = GUEST_USER_IDS.stop  # not a guest's: it may reach what guests may not
# Users that mesh proxies run as, each that of its guest and so much more.
PROXY_USERS_BEYOND = GUEST_USER_IDS.stop + 1 - GUEST_USER_IDS.start
HUB_USER_ID = GUEST_USER_IDS.stop + PROXY_USERS_BEYOND  # the one after them
# Sets of nftables' `inet sappers`: ports of loopback that are a link, and which user may use which.
LINK_PORTS_SET, LINK_USERS_SET, LINK_SERVERS_SET = "link_ports", "link_users", "link_servers"


ELECTORATE_SIZES = (0, 1, 3, 5)
# Below, a lease is shorter than an election and a few retries; above, a lost guest waits for long.
LEASE_SECONDS = (6.0, 300.0)
FORGET_MEMBER_HOURS = 72.0  # where nobody says otherwise

_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[1-9][0-9]{0,4}")


class RaftSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Timings and limits of consensus. The reasons stand in docs/adr/."""

    tick_seconds: float = 0.02
    election_timeout_min_seconds: float = 0.4
    election_timeout_max_seconds: float = 0.9
    append_entries_seconds: float = 0.1
    connection_timeout_seconds: float = 2.0
    connection_retry_seconds: float = 0.2
    leader_fallback_seconds: float = 1.5
    agent_silence_seconds: float = 5.0
    ping_seconds: float = 0.25
    compaction_min_entries: int = 20_000
    compaction_min_bytes: int = 64 * 2**20
    compaction_max_seconds: float = 3600.0
    max_command_bytes: int = 256 * 1024


class ConsulSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The host's Consul agent.

    Attributes:
        enabled: Guests are registered with it.
        address: `host:port` of its HTTP API.
        token_file: File with the ACL token to show, one line; none when empty.
    """

    enabled: bool = False
    address: str = "127.0.0.1:8500"
    token_file: str = ""

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


class AgentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything an agent is told from outside.

    Attributes:
        cluster: The cluster's name; gossip ignores other clusters.
        node_name: What people call this member.
        address: IP address that other members reach this one at.
        bind_address: What to listen on; `address` when empty.
        peers: `host:port` of gossip to meet first.
        bootstrap: 0: join only. N: found the cluster once N agents have met.
        zone: Failure domain, or empty.
        forget_member_hours: A member that has been dead, or left, for so long is forgotten.
        image_keys: Whose images run here while no replicated state says so; a founder's begin it.
    """

    cluster: str
    node_name: str
    address: str
    bind_address: str = ""
    ports: Ports = Ports()
    peers: tuple[str, ...] = ()
    bootstrap: int = 0
    voter_tag: bool = False
    zone: str = ""
    log_level: Literal["DEBUG", "INFO", "WARN", "ERROR"] = "INFO"
    loop_seconds: float = 1.0
    forget_member_hours: float = FORGET_MEMBER_HOURS
    raft: RaftSettings = RaftSettings()
    health: HealthSettings = HealthSettings()
    images: ImageSettings = ImageSettings()
    events: EventSettings = EventSettings()
    image_keys: tuple[ImageKey, ...] = ()
    consul: ConsulSettings = ConsulSettings()
    electorate: ElectorateSettings = ElectorateSettings()
    fencing: FencingSettings = FencingSettings()

    def __post_init__(self) -> None:
        self._check_voters()
        for field, value in (("cluster", self.cluster), ("node_name", self.node_name)):
            if not NAME_PATTERN.fullmatch(value):
                raise ConfigError(
                    f"{field} = {value!r}: a name has 1 to 63 lower-case letters, digits, `-`, `.`"
                )
        if self.bootstrap < 0:
            raise ConfigError(f"bootstrap = {self.bootstrap}: 0 joins, 1 or more founds a cluster")
        for field, least in (
            ("uploads_at_once", 1),
            ("downloads_at_once", 1),
            ("download_mbit_per_second", 0),
            ("upload_mbit_per_second", 0),
        ):
            if not (value := getattr(self.images, field)) >= least:  # NaN neither
                raise ConfigError(f"images.{field} = {value}: it is {least} or more")
        for field, kept in msgspec.structs.asdict(self.events).items():
            if not kept >= 1:
                raise ConfigError(f"events.{field} = {kept}: it is 1 or more")
        if self.ports.gateway and not self.consul.enabled:
            raise ConfigError(
                f"ports.gateway = {self.ports.gateway}: the gateway is routed from Consul",
                hint="set [consul] enabled = true, or ports.gateway = 0",
            )
        if not _ENDPOINT.fullmatch(self.consul.address):
            raise ConfigError(f"consul.address = {self.consul.address!r}: host:port is expected")
        for one in self.image_keys:
            if not is_public_key(one.key):
                raise ConfigError(f"image_keys: {one.key!r} is no public key: 64 hex digits are")

    def _check_voters(self) -> None:
        if self.electorate.size not in ELECTORATE_SIZES:
            raise ConfigError(
                f"electorate.size = {self.electorate.size}: 1, 3 or 5 voters, or 0 to let the "
                "cluster choose"
            )
        if not self.forget_member_hours > 0:
            raise ConfigError(f"forget_member_hours = {self.forget_member_hours}: it is above 0")
        shortest, longest = LEASE_SECONDS
        if not shortest <= (lease := self.fencing.lease_seconds) <= longest:
            raise ConfigError(
                f"fencing.lease_seconds = {lease:g}: it is from {shortest:g} to {longest:g}"
            )

    @property
    def forget_after_seconds(self) -> float:
        """`forget_member_hours`, as decisions count."""
        return self.forget_member_hours * 3600.0

    @property
    def listen_address(self) -> str:
        """The address that all listeners bind to."""
        return self.bind_address or self.address


class StateFolder(msgspec.Struct, frozen=True):
    """Where an agent keeps what must survive: the layout of STATE_DIR."""

    root: Path

    @property
    def settings(self) -> Path:
        """`agent.toml`, written by the provisioner or by hand."""
        return self.root / "agent.toml"

    @property
    def node_id(self) -> Path:
        """The member's id, one line."""
        return self.root / "node-id"

    @property
    def pki(self) -> Path:
        """`ca.pem`, `cert.pem`, `key.pem`."""
        return self.root / "pki"

    @property
    def gossip_key(self) -> Path:
        """The gossip key, base64, one line."""
        return self.root / "gossip.key"

    @property
    def hub_seed(self) -> Path:
        """The hub account's signing seed (an nkey), one line."""
        return self.root / "hub.seed"

    @property
    def hub_key(self) -> Path:
        """The seed of this member's own key for the hub (an nkey), one line; nobody else has it."""
        return self.root / "hub.key"

    @property
    def genesis(self) -> Path:
        """The cluster's id and first voters, written once by the founder's word."""
        return self.root / "genesis.json"

    @property
    def former_genesis(self) -> Path:
        """There once this member has lost a vote: it never founds a cluster then."""
        return self.root / "former-genesis.json"

    @property
    def no_vote(self) -> Path:
        """There while this member knows from the cluster that it has no vote, and uses none."""
        return self.root / "no-vote.json"

    @property
    def invited(self) -> Path:
        """Of a founder: the first voters that have taken the genesis, which none takes twice."""
        return self.root / "invited.json"

    @property
    def damaged_raft(self) -> Path:
        """What a voter began again without; for whoever wants to know what happened."""
        return self.root / "raft-damaged"

    @property
    def raft(self) -> Path:
        """Journal, term and vote, snapshots of a voter."""
        return self.root / "raft"

    @property
    def replica(self) -> Path:
        """The state and its index, as a follower saved them last."""
        return self.root / "replica"

    @property
    def raft_started(self) -> Path:
        """There once this member's raft folder has been in use."""
        return self.root / "raft-started"

    @property
    def known_members(self) -> Path:
        """Addresses of every member ever met, re-dialled for ever."""
        return self.root / "known-members.json"

    @property
    def images(self) -> Path:
        """The image store."""
        return self.root / "images"

    @property
    def events(self) -> Path:
        """What happened: one JSON object a line, chained by digests."""
        return self.root / "events"

    @property
    def guests(self) -> Path:
        """One folder an allocation: its record, sockets and serial log; no credentials."""
        return self.root / "guests"

    @property
    def templates(self) -> Path:
        """Machines saved as they wait, that guests start from; may be removed at any time."""
        return self.root / "templates"

    @property
    def spares(self) -> Path:
        """Machines that stand still until they are guests; on the file system of `guests`."""
        return self.root / "spares"

    @property
    def gateway(self) -> Path:
        """HAProxy's configuration, sockets and log."""
        return self.root / "gateway"

    @property
    def mesh(self) -> Path:
        """The ports of mesh proxies, and one folder for each."""
        return self.root / "mesh"

    @property
    def hub(self) -> Path:
        """The hub server's settings and storage."""
        return self.root / "hub"

    @property
    def processes(self) -> Path:
        """Without systemd: one file for each process that outlives the agent."""
        return self.root / "processes"

    @property
    def running(self) -> Path:
        """Locked while an agent runs here; says who and where it is."""
        return self.root / "agent.lock"


def load_agent_settings(path: Path) -> AgentSettings:
    """Read and check `agent.toml`.

    Raises:
        ConfigError: The file is missing, is no TOML, or a setting is wrong; says which.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=AgentSettings)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file", hint="run sappers-deploy bootstrap") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def agent_settings_text(settings: AgentSettings) -> str:
    """An `agent.toml` that says what differs from agent to agent; the rest stays as it is built.

    JSON's strings, numbers and lists are TOML's, too, but for one control code.
    """

    def value(of: Any) -> str:
        return msgspec.json.encode(of).decode().replace("\x7f", "\\u007f")

    kept = ("cluster", "node_name", "address", "bind_address", "peers", "bootstrap", "zone")
    keys = ", ".join(
        f"{{ key = {value(one.key)}, owner = {value(one.owner)} }}" for one in settings.image_keys
    )
    lines = [
        "# Written by the first start of `sappers`; a flag given later goes before it.",
        *(f"{name} = {value(getattr(settings, name))}" for name in kept),
        f"image_keys = [{keys}]",
        "",
        "[ports]",
        *(f"{name} = {port}" for name, port in msgspec.to_builtins(settings.ports).items()),
        "",
        "[consul]",
        *(f"{name} = {value(of)}" for name, of in msgspec.structs.asdict(settings.consul).items()),
    ]
    return "\n".join(lines) + "\n"


class ControlHome(msgspec.Struct, frozen=True):
    """Where the control machine keeps what it knows; 0700, one folder a cluster and a lab.

    Attributes:
        data: Clusters, labs, images; must not be lost.
        cache: May be deleted at any time.
    """

    data: Path
    cache: Path

    def cluster(self, name: str) -> Path:
        """CA, operator's certificate, gossip key, members of one cluster."""
        return self.data / "clusters" / name

    def lab(self, name: str) -> Path:
        """Keys, overlays and processes of one lab."""
        return self.data / "labs" / name

    @property
    def runs(self) -> Path:
        """Journals of runs of playbooks, the newest of each."""
        return self.data / "runs"

    @property
    def images(self) -> Path:
        """The control machine's image store."""
        return self.data / "images"

    @property
    def image_signing_key(self) -> Path:
        """The key that signs images built here; made with the first build."""
        return self.data / "image-signing.key"

    @property
    def last_cluster(self) -> Path:
        """Name of the cluster that was bootstrapped last, one line."""
        return self.data / "last-cluster"


def control_home(environment: Mapping[str, str]) -> ControlHome:
    """`SAPPERS_HOME` (with its `cache/`), or the XDG folders; an empty variable is no variable."""
    told = {name: Path(value) for name, value in environment.items() if value}
    home = told.get("HOME", Path("/root"))
    if own := told.get("SAPPERS_HOME"):
        return ControlHome(own, told.get("SAPPERS_CACHE", own / "cache"))
    data = told.get("XDG_DATA_HOME", home / ".local/share") / "sappers"
    cache = told.get("XDG_CACHE_HOME", home / ".cache") / "sappers"
    return ControlHome(data, told.get("SAPPERS_CACHE", cache))

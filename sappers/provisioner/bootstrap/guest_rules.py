"""What nftables lets guests reach of their host, and how much of it. Pure."""

from __future__ import annotations

from sappers.config import (
    GUEST_USER_IDS,
    LINK_PORTS_SET,
    LINK_SERVERS_SET,
    LINK_USERS_SET,
)
from sappers.model.member import Ports

# A sidecar has one connection to the hub, two for a moment when its credentials are renewed.
HUB_CONNECTIONS_MAX = 16
AGENT_CONNECTIONS_MAX = 4
HUB_KBYTES_PER_SECOND = 1024
# Each costs a handshake, and more work than the guest has with it.
OPENINGS_PER_SECOND, OPENINGS_AT_ONCE = 5, 20

_GUESTS = f"meta skuid {GUEST_USER_IDS.start}-{GUEST_USER_IDS.stop - 1}"
_PER_GUEST = "typeof meta skuid; size 4096; flags dynamic;"


def guest_rules() -> str:
    """What guests may not reach, for nft; set anew as a whole each time.

    But for the links of the mesh: each has one user that may open connections to it, and one that
    may answer there: whoever had the port before its proxy is not heard. What is in the sets stays
    as it is; units of proxies put it there and take it away.
    """
    link = f"ip daddr 127.0.0.0/8 tcp dport @{LINK_PORTS_SET}"
    # With ACK it is an answer, without one it might meet the guest's own half way.
    answer = f"ip saddr 127.0.0.0/8 tcp sport @{LINK_PORTS_SET} tcp flags & syn == syn"
    return (
        "table inet sappers; flush table inet sappers; table inet sappers { "
        f"set {LINK_USERS_SET} {{ typeof meta skuid . tcp dport; }}; "
        f"set {LINK_SERVERS_SET} {{ typeof meta skuid . tcp sport; }}; "
        f"set {LINK_PORTS_SET} {{ type inet_service; }}; "
        "chain guests { type filter hook output priority filter; "
        f"{answer} meta skuid . tcp sport @{LINK_SERVERS_SET} accept; {answer} drop; "
        f"ip daddr 127.0.0.1 meta skuid . tcp dport @{LINK_USERS_SET} accept; "
        # What comes later has no user once its socket is closed, and must not be lost.
        f"{link} tcp flags & (syn | ack) == syn reject with tcp reset; "
        # A private guest answers its own proxy: it is the other side that opened.
        f"{_GUESTS} ip daddr 127.0.0.1 tcp flags & (syn | ack) != syn accept; "
        f"{_GUESTS} ip daddr {{ 127.0.0.0/8, 169.254.0.0/16 }} reject; "
        f"{_GUESTS} ip6 daddr {{ ::1, fe80::/10 }} reject; }}; }}"
    )


def guest_limits() -> str:
    """How much of the cluster's own ports each guest may take, for nft; each has its own user id.

    It is counted on the guest's own host, the only place that knows which guest it is.
    """
    ports = Ports()
    agents = sorted((ports.raft, ports.http, ports.hub_routes))
    others = ", ".join(str(port) for port in agents)
    new, over = "ct state new add", "reject with tcp reset"
    return (
        "table inet sappers_limits; delete table inet sappers_limits; table inet sappers_limits { "
        f"set hub {{ {_PER_GUEST} }}; set agents {{ {_PER_GUEST} }}; "
        f"set opening {{ {_PER_GUEST} timeout 1m; }}; set bytes {{ {_PER_GUEST} timeout 1m; }}; "
        "chain guests { type filter hook output priority filter; "
        f"{_GUESTS} meta l4proto {{ tcp, udp }} th dport {ports.gossip} reject; "
        # First, so that nothing is counted as open that is not let open.
        f"{_GUESTS} tcp dport {{ {ports.hub}, {others} }} ct state new update @opening "
        f"{{ meta skuid limit rate over {OPENINGS_PER_SECOND}/second "
        f"burst {OPENINGS_AT_ONCE} packets }} {over}; "
        f"{_GUESTS} tcp dport {ports.hub} {new} "
        f"@hub {{ meta skuid ct count over {HUB_CONNECTIONS_MAX} }} {over}; "
        f"{_GUESTS} tcp dport {{ {others} }} {new} "
        f"@agents {{ meta skuid ct count over {AGENT_CONNECTIONS_MAX} }} {over}; "
        f"{_GUESTS} tcp dport {ports.hub} update @bytes "
        f"{{ meta skuid limit rate over {HUB_KBYTES_PER_SECOND} kbytes/second "
        f"burst {4 * HUB_KBYTES_PER_SECOND} kbytes }} drop; }}; }}"
    )

"""Routes as the text that HAProxy reads. Pure.

Invariant: nothing reaches this text that was not checked here to be a name, an address or a port,
whoever vouched for it before. Reason: a name with a line end in it would be configuration.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from sappers.errors import GatewayError
from sappers.model.route import ROUTABLE_NAME, Backend, Route

# Backends cannot be made while HAProxy runs, so they are there before there are services for them:
# no reload, which ends idle connections and leaves others with a process that learns nothing more.
SLOTS = 250
SERVICES_MAP = "services.map"
RUNTIME_SOCKET = "runtime.sock"
MASTER_SOCKET = "master.sock"
# A guest that has just become healthy is warmed up: its share grows over so long.
SERVER_OPTIONS = "slowstart 3s"

_CONNECTIONS_MAX = 4000


class Listen(msgspec.Struct, frozen=True):
    """Where requests come in."""

    address: str
    port: int


# Which backend a service has: by number, for as long as the service is routed.
Slots = Mapping[str, int]


def choose_slots(services: Iterable[str], before: Slots, occupied: Collection[int]) -> Slots:
    """A backend for each service: the one that it has, else a free one.

    Args:
        services: All that are to be routed.
        before: What they, and others, have so far.
        occupied: Those in which guests of a service that is gone may still answer; taken last.

    Raises:
        GatewayError: There are more services than backends.
    """
    wanted = sorted(set(services))
    chosen = {service: before[service] for service in wanted if service in before}
    free = sorted(
        set(range(SLOTS)) - set(chosen.values()), key=lambda slot: (slot in occupied, slot)
    )
    lacking = [service for service in wanted if service not in chosen]
    if len(lacking) > len(free):
        raise GatewayError(
            f"{len(wanted)} services are more than the {SLOTS} that a gateway can route",
            hint="remove workloads with a port that need none",
        )
    return chosen | dict(zip(lacking, free, strict=False))


def configuration(
    listen: Listen, routes: Sequence[Route], slots: Slots, user_id: int | None = None
) -> str:
    """HAProxy's configuration, with its paths relative to the folder that it starts in.

    Args:
        listen: Where requests come in.
        routes: Where they go.
        slots: Which backend each service has.
        user_id: Whom all but its master runs as, or None to stay who starts it.

    Raises:
        GatewayError: A name, an address or a port is none.
    """
    head = _HEAD.format(
        user="" if user_id is None else f"    uid {user_id}\n    gid {user_id}\n",
        connections=_CONNECTIONS_MAX,
        runtime=RUNTIME_SOCKET,
        errors="\n".join(
            f"    http-error status {code} {_PLAIN} {text}" for code, text in _ERRORS.items()
        ),
        bind=_endpoint(listen.address, listen.port),
        services=SERVICES_MAP,
        plain=_PLAIN,
    )
    shape = hashlib.sha256(f"{SLOTS} {head}".encode()).hexdigest()[:16]
    guests = {slots[route.service]: route.backends for route in routes}
    backends = "".join(_backend(slot, guests.get(slot, ())) for slot in range(SLOTS))
    return f"{head.replace(_SHAPE, shape)}{backends}"


def services_map(slots: Slots) -> str:
    """The file that tells HAProxy which backend a service has.

    Raises:
        GatewayError: A name is none.
    """
    return "".join(
        f"{checked_name(service)} {slot_name(slot)}\n" for service, slot in sorted(slots.items())
    )


def shape_of(text: str) -> str:
    """Digest of all but services and guests; where it differs, HAProxy must be reloaded."""
    found = re.search(r"^    description (\S+)$", text, re.M)
    assert found is not None, "every configuration has one"
    return found[1]


def slot_name(slot: int) -> str:
    """What HAProxy calls a backend."""
    return f"slot-{slot}"


def checked_name(name: str) -> str:
    """The name itself.

    Raises:
        GatewayError: It is none.
    """
    if not ROUTABLE_NAME.fullmatch(name):
        raise GatewayError(f"{name!r} cannot be routed: it is no name of letters, digits, `-`")
    return name


def endpoint(backend: Backend) -> str:
    """`address:port` of a guest, as HAProxy takes it.

    Raises:
        GatewayError: It is none.
    """
    return _endpoint(backend.address, backend.port)


def _endpoint(address: str, port: int) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError as error:
        raise GatewayError(f"{address!r} is no IP address") from error
    if not 0 < port < 65_536 or getattr(ip, "scope_id", None):
        raise GatewayError(f"{address} port {port}: nothing can listen there")
    # With its family, else HAProxy takes the last group of an IPv6 address for the port.
    return f"ipv{ip.version}@[{ip}]:{port}" if ip.version == 6 else f"ipv4@{ip}:{port}"


def _backend(slot: int, guests: Sequence[Backend]) -> str:
    lines = [f"backend {slot_name(slot)}"]
    lines += [
        f"    server {checked_name(one.id)} {endpoint(one)} {SERVER_OPTIONS}" for one in guests
    ]
    return "\n".join((*lines, ""))


_SHAPE = "@SHAPE@"
_PLAIN = "content-type text/plain string"
_HEAD = """\
# Written by the sappers agent; changes are lost.
global
    description @SHAPE@
{user}    maxconn {connections}
    stats socket unix@{runtime} mode 600 level admin expose-fd listeners
    stats timeout 10s
    # A port that another program has is an error, and not shared with it.
    noreuseport
    # After a reload busy connections are told to close with an answer, over so long.
    close-spread-time 5s
    hard-stop-after 1h

defaults
    mode http
    maxconn {connections}
    balance roundrobin
    # A guest that has just died must cost no request: what it did not take goes to another. So does
    # what it took and did not begin to answer, where asking twice does no harm.
    retries 4
    option redispatch 1
    retry-on conn-failure empty-response
    timeout connect 1s
    timeout queue 5s
    timeout server 60s
    timeout tunnel 1h
    # Whoever sends a request slowly, or keeps a connection for nothing, loses it.
    timeout http-request 10s
    timeout http-keep-alive 30s
    timeout client 60s
{errors}

frontend gateway
    bind {bind}
    http-request set-var(txn.service) path,field(2,/)
    # Only names that the agent wrote there lead anywhere, and only these are passed on.
    http-request set-var(txn.slot) var(txn.service),map({services})
    acl routed var(txn.slot) -m found
    http-request return status 404 {plain} "ask for /NAME of a service\\n" if {{ path / }}
    http-request return status 404 {plain} "no service of that name\\n" unless routed
    # What may have had its effect is not asked for twice.
    http-request disable-l7-retry unless {{ method GET HEAD OPTIONS }}
    # What a client claims of itself is not passed on.
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Prefix /%[var(txn.service)]
    http-request del-header Forwarded
    http-request replace-path '/[^/]+/?(.*)' '/\\1'
    use_backend %[var(txn.slot)]

"""
_ERRORS = {
    "400": '"bad request\\n"',
    "408": '"the request took too long\\n"',
    "502": '"the service broke off\\n"',
    "503": '"no healthy guest of this service\\n" hdr Retry-After 1',
    "504": '"the service does not answer\\n"',
}

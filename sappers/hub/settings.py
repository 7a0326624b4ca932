"""The settings file of this member's nats-server: pure, and the one place that knows its form.

Servers know each other by certificate, not by address: a host whose address changes must be let
in again, and a stranger at a known address must not. docs/adr/0003-hub-authentication.md says why
a route to `agent.sappers` stands first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sappers.hub.credentials import account_id
from sappers.model.member import Member
from sappers.security.tls import AGENT_SERVER_NAME, Identity

_MAX_PAYLOAD = 1024 * 1024  # four times the largest command of the log
_MAX_PENDING = 16 * 1024 * 1024
_LOG_BYTES = 4 * 1024 * 1024
# A guest under full emulation needs seconds for a handshake.
_CLIENT_TLS_SECONDS = 10


def server_settings(
    me: Member,
    listen_address: str,
    servers: Sequence[Member],
    identity: Identity,
    operator_jwt: str,
    account_jwt: str,
    log_file: Path,
) -> bytes:
    """The file's content; JSON, which nats-server's own form contains."""
    settings: dict[str, Any] = {
        "server_name": me.id,
        "host": listen_address,
        "port": me.ports.hub,
        "operator": operator_jwt.strip(),
        "resolver": "MEMORY",
        "resolver_preload": {account_id(account_jwt): account_jwt.strip()},
        "tls": {
            **_certificate(identity),
            "timeout": _CLIENT_TLS_SECONDS,
            # Clients that begin with TLS give nothing away and cannot be talked out of it;
            # those that wait for the greeting get it after 50 ms.
            "handshake_first": "auto",
        },
        "cluster": {
            "name": identity.cluster,
            "host": listen_address,
            "port": me.ports.hub_routes,
            "no_advertise": True,  # clients learn their servers from gossip and the log
            "connect_backoff": True,
            "tls": {
                **_certificate(identity),
                "timeout": 5,
                "verify_cert_and_check_known_urls": True,
            },
            "routes": [
                _route(AGENT_SERVER_NAME, me.ports.hub_routes),
                *(_route(one.address, one.ports.hub_routes) for one in servers if one.id != me.id),
            ],
        },
        "authorization": {"timeout": _CLIENT_TLS_SECONDS},
        "max_payload": _MAX_PAYLOAD,
        "max_pending": _MAX_PENDING,
        "max_connections": 4096,
        "max_control_line": 2048,
        "write_deadline": "5s",
        "ping_interval": "10s",
        "ping_max": 2,
        "log_file": str(log_file),
        "logfile_size_limit": _LOG_BYTES,
        "logfile_max_num": 2,
    }
    return msgspec.json.format(msgspec.json.encode(settings))


def _certificate(identity: Identity) -> dict[str, str]:
    return {
        "cert_file": str(identity.cert),
        "key_file": str(identity.key),
        "ca_file": str(identity.ca),
        "min_version": "1.3",
    }


def _route(host: str, port: int) -> str:
    return f"nats-route://{f'[{host}]' if ':' in host else host}:{port}"

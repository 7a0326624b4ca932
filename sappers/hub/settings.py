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

from sappers.hub.credentials import TrustedAccounts
from sappers.model.member import Member
from sappers.security.tls import AGENT_SERVER_NAME, Identity

_MAX_PAYLOAD = 1024 * 1024  # four times the largest command of the log
_MAX_PENDING = 16 * 1024 * 1024
_LOG_BYTES = 4 * 1024 * 1024
STORE_BYTES = 4 * 1024 * 1024 * 1024
_STORE_MEMORY_BYTES = 16 * 1024 * 1024  # no stream is kept in memory
# A guest under full emulation needs seconds for a handshake.
_CLIENT_TLS_SECONDS = 10


def server_settings(
    me: Member,
    listen_address: str,
    servers: Sequence[Member],
    identity: Identity,
    operator_jwt: str,
    accounts: TrustedAccounts,
    log_file: Path,
    store: Path,
    name: str = "",
    servers_show: Sequence[str] = (),
) -> bytes:
    """The file's content; JSON, which nats-server's own form contains.

    The server is called `name`, or as the member where that is empty.
    Durable messages are kept in `store` where the account allows them. Other servers must show a
    certificate of `servers_show`, or any agent's where that is empty.
    """
    settings: dict[str, Any] = {
        "server_name": name or me.id,
        "host": listen_address,
        "port": me.ports.hub,
        "operator": operator_jwt.strip(),
        "resolver": "MEMORY",
        "resolver_preload": accounts.jwts,
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
                # Certificates of members that were revoked are good to the line above.
                **({"pinned_certs": list(servers_show)} if servers_show else {}),
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
    if accounts.system:
        alone = len(servers) == 1
        if alone:
            # One of several waits for another before it keeps messages; an only one does not.
            del settings["cluster"]
        settings["system_account"] = accounts.system
        settings["jetstream"] = {
            # Apart: a server throws away, unasked, streams that its cluster does not know.
            "store_dir": str(store / "alone" if alone else store),
            "max_file_store": STORE_BYTES,
            "max_memory_store": _STORE_MEMORY_BYTES,
            # Otherwise what was acknowledged within two minutes is lost when the power goes.
            "sync_interval": "always",
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

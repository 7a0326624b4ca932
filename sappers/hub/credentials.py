"""Who may do what on the hub: decentralised NATS authentication.

Invariant: every server trusts one operator key, which signed one account; whoever holds the
account's seed (every agent does) admits users to it, by signing what they may publish and
subscribe. The operator's seed is thrown away once the account is signed, so no other account can
ever appear. A user proves its own key when it connects; its credentials are of no use to a server.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from typing import Any

import msgspec
import nkeys

from sappers.errors import HubError
from sappers.model import subjects

_ALLOCATION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")  # one token of a subject, no wildcard
_NO_LIMIT = -1
_HOLDERS_MAX = 4096

_AGENT_SUBJECTS = ["sappers.>", "_INBOX.>"]
_GUEST_LIMITS = {"subs": 32, "data": _NO_LIMIT, "payload": 64 * 1024}
_USER_LIMITS = {"subs": _NO_LIMIT, "data": _NO_LIMIT, "payload": _NO_LIMIT}
# No leaf nodes, no JetStream, no imports or exports: what is not listed is 0.
_ACCOUNT_LIMITS = {
    "subs": _NO_LIMIT,
    "data": _NO_LIMIT,
    "payload": _NO_LIMIT,
    "conn": _NO_LIMIT,
    "imports": 0,
    "exports": 0,
    "wildcards": True,
}


class HubAccount(msgspec.Struct, frozen=True):
    """What a cluster's hub servers trust (public) and what admits users to it (secret).

    Attributes:
        operator_jwt: Public.
        account_jwt: Public.
        account_seed: Secret; on each host in `hub.seed`, readable by its owner only.
    """

    operator_jwt: str
    account_jwt: str
    account_seed: str

    def __repr__(self) -> str:
        return "HubAccount(…)"


def create_hub_account(cluster: str) -> HubAccount:
    """A new account for a cluster, signed by an operator key that nobody keeps."""
    operator = _new_key(nkeys.PREFIX_BYTE_OPERATOR)
    account = _new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    operator_jwt = _sign(operator, operator, cluster, {"type": "operator"})
    account_jwt = _sign(operator, account, cluster, {"type": "account", "limits": _ACCOUNT_LIMITS})
    return HubAccount(operator_jwt, account_jwt, account.seed.decode())


def account_id(account_jwt: str) -> str:
    """The public key that an account's JWT is about.

    Raises:
        HubError: It is no JWT.
    """
    try:
        payload = account_jwt.strip().split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["sub"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise HubError(
            "the hub account's JWT cannot be read", hint="run sappers-deploy bootstrap"
        ) from error


class AgentCredentials:
    """Mints credentials files; satisfies `ports.GuestCredentials`."""

    def __init__(self, account_seed: str) -> None:
        """Raises HubError when the seed is none of an account."""
        try:
            seed = account_seed.strip().encode()
            prefix, _ = nkeys.decode_seed(seed)
            self._account = nkeys.from_seed(seed)
        except Exception as error:  # nkeys raises many kinds; none may show the seed
            raise HubError(
                "the hub account's seed is damaged", hint="run sappers-deploy bootstrap"
            ) from error
        self._holders: dict[str, str] = {}
        if prefix != nkeys.PREFIX_BYTE_ACCOUNT:
            raise HubError("the hub account's seed is of another kind of key")

    def agent(self, node_id: str) -> str:
        """A credentials file for a member: all of `sappers.>` and of the inboxes."""
        allowed = {"allow": _AGENT_SUBJECTS}
        return self._mint(node_id, {"pub": allowed, "sub": allowed, **_USER_LIMITS})

    def mint(self, allocation_id: str) -> str:
        """A credentials file for a guest: its own subjects only.

        A guest that calls somebody must keep its inbox below its own prefix
        (`inbox_prefix=subjects.guest(id) + ".inbox"`).

        Raises:
            HubError: The id is no single token of a subject.
        """
        if not _ALLOCATION_ID.fullmatch(allocation_id):
            raise HubError(f"{allocation_id!r} cannot be part of a subject")
        own = {"allow": [f"{subjects.guest(allocation_id)}.>"]}
        credentials = self._mint(allocation_id, {"pub": own, "sub": own, **_GUEST_LIMITS})
        self._holders[_user_of(credentials)] = allocation_id
        if len(self._holders) > _HOLDERS_MAX:
            del self._holders[next(iter(self._holders))]
        return credentials

    def holder(self, user: str) -> str | None:
        """Whom a user's public key was made for here; only the newest are remembered."""
        return self._holders.get(user)

    def operator(self) -> str:
        """A credentials file for a person: hears everything, says nothing."""
        return self._mint(
            "operator", {"pub": {"deny": [">"]}, "sub": {"allow": [">"]}, **_USER_LIMITS}
        )

    def _mint(self, name: str, permissions: dict[str, Any]) -> str:
        user = _new_key(nkeys.PREFIX_BYTE_USER)
        claims = {"type": "user", "allowed_connection_types": ["STANDARD"], **permissions}
        jwt = _sign(self._account, user, name, claims)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n"
            "------END USER NKEY SEED------\n"
        )


def _user_of(credentials: str) -> str:
    """The public key that a credentials file is about."""
    return account_id(credentials.splitlines()[1])


def _new_key(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), prefix))


def _sign(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, name: str, nats: dict[str, Any]) -> str:
    """A JWT as nats-io/jwt version 2 makes them."""
    claims = {
        "iat": int(time.time()),
        "iss": _public(issuer),
        "name": name,
        "nats": {**nats, "version": 2},
        "sub": _public(subject),
    }
    digest = hashlib.sha256(msgspec.json.encode(claims)).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    header = _encode(msgspec.json.encode({"typ": "JWT", "alg": "ed25519-nkey"}))
    signed = f"{header}.{_encode(msgspec.json.encode(claims))}"
    return f"{signed}.{_encode(issuer.sign(signed.encode()))}"


def _public(key: nkeys.KeyPair) -> str:
    return str(key.public_key.decode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

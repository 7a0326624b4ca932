"""Who may do what on the hub: decentralised NATS authentication.

Invariant: every server trusts one operator, whose key its own member has and nobody else; that one
says which members' keys admit users to the account, by signing what they may publish and subscribe.
A user proves its own key when it connects; its credentials are of no use to a server.

An account is known by the public half of the hub's seed, which every member has. That seed admits
users only where there are members of before, which had no key of their own: who is revoked keeps
it. Guests' keys follow from it, so that any member can have the guest of any allocation refused,
whoever minted its credentials.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec
import nkeys

from sappers.errors import FIT_OUT_AGAIN, HubError
from sappers.model import subjects
from sappers.model.guest_scope import GuestScope
from sappers.model.hub import HubAccess
from sappers.security.derivation import derive_key

GUEST_PAYLOAD_BYTES = 68 * 1024  # 64 KiB of an application, and what the sidecar says of it
GUEST_SUBSCRIPTIONS = 32

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")  # one token of a subject, no wildcard
_NO_LIMIT = -1
_HOLDERS_MAX = 4096
_FOR_GOOD = 2**40  # Unix time: refuses what is signed later, too

_AGENT_HEARS = ["sappers.>"]
_AGENT_SAYS = [*_AGENT_HEARS, "$JS.API.>", "$JS.ACK.>"]
# The server keeps these two for each connection; it bounds neither their number nor their rate.
_GUEST_LIMITS = {"subs": GUEST_SUBSCRIPTIONS, "data": _NO_LIMIT, "payload": GUEST_PAYLOAD_BYTES}
_USER_LIMITS = {"subs": _NO_LIMIT, "data": _NO_LIMIT, "payload": _NO_LIMIT}
# No leaf nodes, no imports or exports, no streams in memory: what is not listed is 0.
_ACCOUNT_LIMITS = {
    "subs": _NO_LIMIT,
    "data": _NO_LIMIT,
    "payload": _NO_LIMIT,
    "conn": _NO_LIMIT,
    "imports": 0,
    "exports": 0,
    "wildcards": True,
    "disk_storage": _NO_LIMIT,  # each server's own limit counts, and each stream's
    "streams": _NO_LIMIT,
    "consumer": _NO_LIMIT,
    "max_bytes_required": True,
}
_SYSTEM_LIMITS = dict.fromkeys(("subs", "data", "payload", "conn"), _NO_LIMIT) | {
    "imports": _NO_LIMIT,
    "exports": _NO_LIMIT,
    "wildcards": True,
}


class HubAccount(msgspec.Struct, frozen=True):
    """What a cluster's hub servers trust (public) and what admits users to it (secret).

    Attributes:
        operator_jwt: Public.
        account_jwt: Public; a second line has the servers' own account, which JetStream needs.
        account_seed: Secret; on each host in `hub.seed`, readable by its owner only.
    """

    operator_jwt: str
    account_jwt: str
    account_seed: str

    def __repr__(self) -> str:
        return "HubAccount(…)"


class TrustedAccounts(msgspec.Struct, frozen=True):
    """What an account's file says.

    Attributes:
        account: Public key of the account that users are admitted to.
        jwts: By public key.
        system: Public key of the servers' own account; empty in clusters of before JetStream, which
            can keep no durable messages.
    """

    account: str
    jwts: dict[str, str]
    system: str = ""


def create_hub_account(cluster: str) -> HubAccount:
    """A new account for a cluster, signed by the operator that follows from its seed."""
    account = _new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    seed = account.seed.decode()
    operator = _derived(seed, nkeys.PREFIX_BYTE_OPERATOR, "operator")
    system = _derived(seed, nkeys.PREFIX_BYTE_ACCOUNT, "system")
    jwts = (
        _sign(operator, account, cluster, {"type": "account", "limits": _ACCOUNT_LIMITS}),
        _sign(operator, system, "SYS", {"type": "account", "limits": _SYSTEM_LIMITS}),
    )
    operator_jwt = _sign(operator, operator, cluster, {"type": "operator"})
    return HubAccount(operator_jwt, "\n".join(jwts), seed)


def read_accounts(account_jwt: str) -> TrustedAccounts:
    """What an account's file says.

    Raises:
        HubError: It has no JWT, or more than two.
    """
    found = {_subject_of(jwt): jwt for jwt in account_jwt.split()}
    match tuple(found):
        case (account,):
            return TrustedAccounts(account, found)
        case (account, system):
            return TrustedAccounts(account, found, system)
        case _:
            raise HubError("the hub account's file has no JWT", hint=FIT_OUT_AGAIN)


def _subject_of(jwt: str) -> str:
    return str(_claims_of(jwt)["sub"])


def _claims_of(jwt: str) -> dict[str, Any]:
    """What a JWT says, unverified; servers verify.

    Raises:
        HubError: It is none.
    """
    try:
        payload = jwt.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if not isinstance(claims, dict) or not {"sub", "iss", "nats"} <= claims.keys():
            raise TypeError("claims are missing")
    except (IndexError, TypeError, ValueError) as error:
        raise HubError("the hub account's JWT cannot be read", hint=FIT_OUT_AGAIN) from error
    return claims


def create_hub_key() -> str:
    """The seed of a new key that admits users to the hub: one member's own."""
    return str(_new_key(nkeys.PREFIX_BYTE_ACCOUNT).seed.decode())


class AgentCredentials:
    """Mints credentials files; satisfies `ports.GuestCredentials`.

    Args:
        account_seed: The hub's, which all members have.
        own_seed: This member's own key. Without one, users are signed by the account's key.
        uses_own: Whether the hub's servers know that key by now.
        stale_before: See `ports.GuestCredentials`.
    """

    def __init__(
        self,
        account_seed: str,
        own_seed: str = "",
        uses_own: Callable[[], bool] = lambda: True,
        stale_before: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Raises HubError when a seed is none of an account."""
        self._account = _account_key(account_seed, "the hub account's seed")
        own = _account_key(own_seed, "this member's seed for the hub") if own_seed else None
        self._own = own or self._account
        self._seed = account_seed.strip()
        self._uses_own = uses_own
        self._stale_before = stale_before
        self._holders: dict[str, str] = {}

    @property
    def signs(self) -> str:
        """The public half of this member's own key."""
        return _public(self._own)

    def agent(self, node_id: str) -> str:
        """A credentials file for a member: all of `sappers.>`, the inboxes, and the streams."""
        permissions = {"pub": {"allow": _AGENT_SAYS}, "sub": {"allow": _AGENT_HEARS}}
        return self._mint(node_id, {**permissions, **_USER_LIMITS})

    def mint(self, scope: GuestScope, expires_at: float) -> str:
        """A credentials file for a guest, of no use after a moment in Unix time.

        A guest may not ask JetStream itself, nor publish what a stream keeps: the server answers
        to whatever subject a request names, its own API's included. Agents do it for guests.

        Raises:
            HubError: A name is no single token of a subject.
        """
        for name in (scope.allocation_id, scope.workload, *scope.links):
            if not _TOKEN.fullmatch(name):
                raise HubError(f"{name!r} cannot be part of a subject")
        credentials = self._mint(
            scope.allocation_id,
            {"pub": _may_say(scope), "sub": {"allow": _may_hear(scope)}, **_GUEST_LIMITS},
            expires_at,
            self._guest_key(scope.allocation_id),
        )
        self._holders[_user_of(credentials)] = scope.allocation_id
        if len(self._holders) > _HOLDERS_MAX:
            del self._holders[next(iter(self._holders))]
        return credentials

    def stale_before(self) -> float:
        """As the port says."""
        return self._stale_before()

    def holder(self, user: str) -> str | None:
        """Whom a user's public key was made for here; only the newest are remembered."""
        return self._holders.get(user)

    def operator_jwt(self) -> str:
        """Whom this member's hub server trusts: a key that follows from this member's own.

        Strict: an account's own key admits nobody, unless the account lists it.
        """
        operator, signer = self._operator("operator"), self._operator("accounts")
        nats = {
            "type": "operator",
            "signing_keys": [_public(signer)],
            "strict_signing_key_usage": True,
            "version": 2,
        }
        name = _public(operator)
        return _signed(operator, {"iat": 0, "iss": name, "name": "hub", "nats": nats, "sub": name})

    def accounts(
        self, account_jwt: str, refused: Collection[str], access: HubAccess
    ) -> TrustedAccounts:
        """The accounts of a file, as this member's server is to know them.

        Equal arguments make equal texts. Guests of the allocations in `refused` are cut off and
        refused, whatever they show, and so is everybody whom `access` does not name.

        Raises:
            HubError: The file has no JWT.
        """
        found = read_accounts(account_jwt)
        until = dict.fromkeys(access.seen_guests, int(access.seen_until))
        until |= dict.fromkeys(refused, _FOR_GOOD)
        users = {_public(self._guest_key(name)): until[name] for name in sorted(until)}
        jwts = {
            name: self._account_jwt(jwt, access, users if name == found.account else {})
            for name, jwt in found.jwts.items()
        }
        return msgspec.structs.replace(found, jwts=jwts)

    def _account_jwt(self, jwt: str, access: HubAccess, revoked: Mapping[str, int]) -> str:
        claims, signer = _claims_of(jwt), self._operator("accounts")
        signers = {*access.signers, *((claims["sub"],) if access.seed_signs else ())}
        nats = {**claims["nats"], "signing_keys": sorted(signers)}
        if revoked:
            nats["revocations"] = revoked
        kept = {key: value for key, value in claims.items() if key != "jti"}
        return _signed(signer, {**kept, "iss": _public(signer), "nats": nats})

    def _operator(self, purpose: str) -> nkeys.KeyPair:
        return _derived(self._own.seed.decode(), nkeys.PREFIX_BYTE_OPERATOR, purpose)

    def _guest_key(self, allocation_id: str) -> nkeys.KeyPair:
        return _derived(self._seed, nkeys.PREFIX_BYTE_USER, f"guest {allocation_id}")

    def operator(self) -> str:
        """A credentials file for a person: hears everything, says nothing."""
        return self._mint(
            "operator", {"pub": {"deny": [">"]}, "sub": {"allow": [">"]}, **_USER_LIMITS}
        )

    def system(self, node_id: str) -> str:
        """A credentials file for a member in the servers' own account: JetStream's own servers.

        Of no use in clusters whose account is of before.
        """
        account = _derived(self._seed, nkeys.PREFIX_BYTE_ACCOUNT, "system")
        return self._mint(node_id, {"pub": {}, "sub": {}, **_USER_LIMITS}, account=account)

    def _mint(
        self,
        name: str,
        permissions: dict[str, Any],
        expires_at: float | None = None,
        key: nkeys.KeyPair | None = None,
        account: nkeys.KeyPair | None = None,
    ) -> str:
        user, account = key or _new_key(nkeys.PREFIX_BYTE_USER), account or self._account
        claims = {"type": "user", "allowed_connection_types": ["STANDARD"], **permissions}
        own = self._own is not self._account and self._uses_own()
        signer = self._own if own else account
        if own:
            claims["issuer_account"] = _public(account)
        # A clock that is behind: what is made after a moment must not look as if it was before.
        made_at = max(time.time(), self._stale_before() + 1.0)
        jwt = _sign(signer, user, name, claims, expires_at, made_at)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n"
            "------END USER NKEY SEED------\n"
        )


def _user_of(credentials: str) -> str:
    """The public key that a credentials file is about."""
    return _subject_of(credentials.splitlines()[1])


def _may_say(scope: GuestScope) -> dict[str, list[str]]:
    own, linked = subjects.guest(scope.allocation_id), scope.links
    allowed = [f"{own}.>", f"{subjects.INBOXES}.>", f"{subjects.application(scope.workload)}.>"]
    allowed += [f"{subjects.application(name)}.>" for name in linked]
    if scope.role == "monitor":
        allowed.append(f"{subjects.ALERTS}.>")
    others = [name for name in linked if name != scope.workload]
    denied = [subjects.DURABLE_ALL, *(f"{subjects.announcements(name)}.>" for name in others)]
    return {"allow": allowed, "deny": denied}


def _may_hear(scope: GuestScope) -> list[str]:
    own, inbox = subjects.guest(scope.allocation_id), subjects.inbox(scope.allocation_id)
    allowed = [f"{own}.>", f"{inbox}.>", f"{subjects.application(scope.workload)}.>"]
    allowed += [f"{subjects.announcements(name)}.>" for name in scope.links]
    if scope.role == "monitor":
        allowed += [subjects.GUEST_HEALTH_ALL, f"{subjects.EVENTS}.>"]
    return allowed


def _account_key(seed: str, what: str) -> nkeys.KeyPair:
    try:
        encoded = seed.strip().encode()
        prefix, _ = nkeys.decode_seed(encoded)
        key = nkeys.from_seed(encoded)
    except Exception as error:  # nkeys raises many kinds; none may show the seed
        raise HubError(f"{what} is damaged", hint=FIT_OUT_AGAIN) from error
    if prefix != nkeys.PREFIX_BYTE_ACCOUNT:
        raise HubError(f"{what} is of another kind of key")
    return key


def _new_key(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), prefix))


def _derived(seed: str, prefix: int, purpose: str) -> nkeys.KeyPair:
    raw = derive_key(seed, f"sappers hub {purpose}".encode())
    return nkeys.from_seed(nkeys.encode_seed(raw, prefix))


def _sign(
    issuer: nkeys.KeyPair,
    subject: nkeys.KeyPair,
    name: str,
    nats: dict[str, Any],
    expires_at: float | None = None,
    made_at: float | None = None,
) -> str:
    """A JWT as nats-io/jwt version 2 makes them."""
    claims: dict[str, Any] = {
        "iat": int(time.time() if made_at is None else made_at),
        "iss": _public(issuer),
        "name": name,
        "nats": {**nats, "version": 2},
        "sub": _public(subject),
    }
    if expires_at is not None:
        claims["exp"] = int(expires_at)
    return _signed(issuer, claims)


def _signed(issuer: nkeys.KeyPair, claims: dict[str, Any]) -> str:
    digest = hashlib.sha256(msgspec.json.encode(claims)).digest()
    claims = {**claims, "jti": base64.b32encode(digest).decode().rstrip("=")}
    header = _encode(msgspec.json.encode({"typ": "JWT", "alg": "ed25519-nkey"}))
    signed = f"{header}.{_encode(msgspec.json.encode(claims))}"
    return f"{signed}.{_encode(issuer.sign(signed.encode()))}"


def _public(key: nkeys.KeyPair) -> str:
    return str(key.public_key.decode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

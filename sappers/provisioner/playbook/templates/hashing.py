"""Hashes of passwords, as /etc/shadow keeps them: the filter `password_hash`."""

from __future__ import annotations

from typing import Any

_SHORT = {
    "md5": "md5_crypt",
    "blowfish": "bcrypt",
    "sha256": "sha256_crypt",
    "sha512": "sha512_crypt",
}
# As in Ansible; left to the library, hashes would change with its version.
_SETTINGS: dict[str, dict[str, Any]] = {
    "md5_crypt": {},
    "bcrypt": {"rounds": 12, "ident": "2b"},
    "sha256_crypt": {"rounds": 535_000},
    "sha512_crypt": {"rounds": 656_000},
}


def is_kind(name: str) -> bool:
    """Whether there is such a hash."""
    return name in _SHORT or name in _SETTINGS


def password_hash(
    password: Any,
    hashtype: str = "sha512",
    salt: str | None = None,
    salt_size: int | None = None,
    rounds: int | None = None,
    ident: str | None = None,
) -> str:
    """The hash of a password; without `salt` another one each time.

    Raises:
        ValueError: There is no such kind of hash, or it cannot be made so.
    """
    import passlib.hash
    from passlib.utils.binary import bcrypt64

    kind = _SHORT.get(hashtype, hashtype)
    if kind not in _SETTINGS:
        raise ValueError(f"{hashtype} is not in the list of supported algorithms: {[*_SHORT]}")
    settings = dict(_SETTINGS[kind])
    if salt and kind == "bcrypt":
        salt = bcrypt64.repair_unused(salt)
    if kind != "bcrypt":
        ident = None
    given = {"salt": salt, "salt_size": salt_size, "rounds": rounds, "ident": ident}
    settings.update({name: value for name, value in given.items() if value})
    return str(getattr(passlib.hash, kind).using(**settings).hash(str(password)))

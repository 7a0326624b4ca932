"""This machine's images: the store, whose signatures it trusts, and who builds each kind."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

import sappers
from sappers.config import ControlHome
from sappers.durable import write_durably
from sappers.errors import ConfigError, ImageError
from sappers.images.builder import Builder
from sappers.images.definition import ImageDefinition
from sappers.images.store import FolderImageStore
from sappers.model.image import ImageKey
from sappers.security.signing import SigningKey, load_or_create_signing_key

_PROJECT = Path(sappers.__file__).resolve().parents[1]
_OWNER_MAX = 80
TRUSTED_KEYS_FILE = "trusted-image-keys.json"


class LocalImages:
    """The images that the control machine has built, pulled or imported.

    Attributes:
        store: Trusts what this machine signed, and the keys that `trust` was told.
    """

    def __init__(self, home: ControlHome) -> None:
        self._home = home
        self._signing_key: SigningKey | None = None
        self._on_trial: tuple[ImageKey, ...] = ()
        self.store = FolderImageStore(home.images, self.trusted)

    def trusted(self) -> frozenset[str]:
        """Public keys whose images may be used here."""
        own = self.own_key()
        others = {one.key for one in (*self._other_keys(), *self._on_trial)}
        return frozenset(others | ({own.key} if own else set()))

    def own_key(self, *, create: bool = False) -> ImageKey | None:
        """What this machine signs with; None while it has no key and none is to be made.

        Raises:
            IdentityError: The key's file is damaged or others can read it.
        """
        if self._signing_key is None:
            if not create and not self._home.image_signing_key.exists():
                return None
            self._signing_key = load_or_create_signing_key(self._home.image_signing_key)
        return ImageKey(self._signing_key.public, _owner())

    def trust(self, *keys: ImageKey) -> None:
        """Let images that others signed be used here, too.

        Raises:
            ConfigError: The list of keys is damaged.
        """
        known = {one.key: one for one in (*self._other_keys(), *keys)}
        self._home.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = msgspec.json.encode(list(known.values()))
        write_durably(self._keys_path, msgspec.json.format(content, indent=2) + b"\n")

    @contextmanager
    def trusting(self, *keys: ImageKey) -> Iterator[None]:
        """A block in which these keys are trusted, too; they stay so if nothing in it fails."""
        self._on_trial = keys
        try:
            yield
            if keys:
                self.trust(*keys)
        finally:
            self._on_trial = ()

    def builder(self, kind: str) -> Builder[ImageDefinition]:
        """What builds images of a kind."""
        self.own_key(create=True)
        assert self._signing_key is not None
        make = _BUILDERS.get(kind)
        if make is None:
            raise ImageError(f"no builder makes images of kind {kind}")
        return make(self.store, self._home.cache / "images", self._signing_key)

    @property
    def _keys_path(self) -> Path:
        return self._home.data / TRUSTED_KEYS_FILE

    def _other_keys(self) -> tuple[ImageKey, ...]:
        try:
            return msgspec.json.decode(self._keys_path.read_bytes(), type=tuple[ImageKey, ...])
        except FileNotFoundError:
            return ()
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"{self._keys_path}: {error}",
                hint="remove it, and trust those keys again with image import --trust",
            ) from error


def _owner() -> str:
    """This user on this machine; as members keep it, in plain ASCII."""
    text = f"{getpass.getuser()}@{socket.gethostname()}"
    return "".join(one if " " <= one <= "~" else "?" for one in text)[:_OWNER_MAX]


def definitions_folders(current: Path) -> tuple[Path, ...]:
    """Where definitions are looked for when nobody says: here, else beside the code."""
    places = ("unikernels", "images/packer")
    here = tuple(current / place for place in places if (current / place).is_dir())
    return here or tuple(_PROJECT / place for place in places)


# Builders are imported late: each brings its own tools, and most commands build nothing.
def _microvm(store: FolderImageStore, cache: Path, key: SigningKey) -> Builder[ImageDefinition]:
    from sappers.images.microvm import MicrovmBuilder

    return MicrovmBuilder(store, cache, _PROJECT / "requirements" / "agent.lock", key)


def _nanos(store: FolderImageStore, cache: Path, key: SigningKey) -> Builder[ImageDefinition]:
    from sappers.images.nanos import NanosBuilder

    lock, tools = _PROJECT / "requirements" / "agent.lock", cache.parent / "tools"
    return NanosBuilder(store, cache, lock, key, os.environ, tools)


def _appliance(store: FolderImageStore, cache: Path, key: SigningKey) -> Builder[ImageDefinition]:
    from sappers.assembly.appliance import appliance_builder

    return appliance_builder(store, cache, key)


_BUILDERS: Mapping[
    str, Callable[[FolderImageStore, Path, SigningKey], Builder[ImageDefinition]]
] = {
    "microvm": _microvm,
    "nanos": _nanos,
    "appliance": _appliance,
}

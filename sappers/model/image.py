"""Images: what guests boot from, by content, in chunks, signed by whoever built them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

ARCHITECTURE = "x86_64"
"""Whose instructions guests run: that of the hosts."""
CHUNK_BYTES = 1 << 20
FRAME_BYTES_MAX = CHUNK_BYTES + (CHUNK_BYTES >> 8) + 64
"""No chunk travels in more, whatever its content: zstd's own bound."""

DIGEST_SHOWN = 12  # digits, where people are told which image, chunk or key is meant

_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")


Kind = Literal["microvm", "nanos", "appliance"]
MemoryMib = Annotated[int, Meta(ge=64, le=65536)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(ge=0.1, le=60)]
"""Of checks of health."""


class Blob(msgspec.Struct, frozen=True):
    """One file of an image.

    Attributes:
        digest: SHA-256 of the content, 64 hex digits.
        size_bytes: Length of the content.
        chunks: SHA-256 of each `CHUNK_BYTES` of the content, in order; the last may be shorter.
    """

    digest: str
    size_bytes: int
    chunks: tuple[str, ...]


class MicrovmBoot(msgspec.Struct, frozen=True, tag="microvm", tag_field="kind"):
    """A Linux micro-VM.

    Attributes:
        kernel: Uncompressed Linux kernel with a PVH entry.
        initrd: The root file system as an initramfs; a small one that mounts `root` where that is.
        root: A read-only root file system (erofs), for what is too large for an initramfs.
    """

    kernel: Blob
    initrd: Blob
    root: Blob | None = None


class NanosBoot(msgspec.Struct, frozen=True, tag="nanos", tag_field="kind"):
    """A Nanos unikernel: kernel and application in one raw disk."""

    disk: Blob


class ApplianceBoot(msgspec.Struct, frozen=True, tag="appliance", tag_field="kind"):
    """A whole host with the agent installed, as a raw disk. It becomes a member, never a guest."""

    disk: Blob


Boot = MicrovmBoot | NanosBoot | ApplianceBoot


class Manifest(msgspec.Struct, frozen=True):
    """What an image is made of; the SHA-256 of its canonical JSON is the image's digest.

    Attributes:
        memory_mib: What a guest needs when nobody says otherwise.
        guest_port: Port the application listens on, or None.
        health_interval_seconds: How often the sidecar pushes health.
        stateful: Whether the guest holds state that its end would lose.
    """

    name: str
    architecture: str
    boot: Boot
    memory_mib: MemoryMib = 128
    guest_port: Port | None = None
    health_interval_seconds: Seconds = 1.0
    stateful: bool = False

    @property
    def kind(self) -> str:
        """`microvm`, `nanos` or `appliance`: how it boots."""
        return str(self.boot.__struct_config__.tag)

    @property
    def size_bytes(self) -> int:
        """Length of all its files."""
        return sum(blob.size_bytes for blob in self.blobs())

    def blobs(self) -> tuple[Blob, ...]:
        """Every file the image needs."""
        match self.boot:
            case MicrovmBoot(kernel=kernel, initrd=initrd, root=None):
                return (kernel, initrd)
            case MicrovmBoot(kernel=kernel, initrd=initrd, root=Blob() as root):
                return (kernel, initrd, root)
            case NanosBoot(disk=disk) | ApplianceBoot(disk=disk):
                return (disk,)
        raise AssertionError(self.boot)

    def chunks(self) -> tuple[str, ...]:
        """Digest of every chunk the image needs, each once, in the order of first use."""
        return tuple(dict.fromkeys(chunk for blob in self.blobs() for chunk in blob.chunks))


class Signature(msgspec.Struct, frozen=True):
    """An Ed25519 signature of a manifest; see `security.signing`.

    Attributes:
        key: The public key, 64 hex digits.
        value: The signature, 128 hex digits.
    """

    key: str
    value: str


class SignedManifest(msgspec.Struct, frozen=True):
    """A manifest as it travels and is stored.

    Attributes:
        manifest: Its canonical JSON, whose SHA-256 is the image's digest.
    """

    manifest: bytes
    signatures: tuple[Signature, ...]


class ImageKey(msgspec.Struct, frozen=True):
    """A public key whose images the cluster runs.

    Attributes:
        key: Ed25519, 64 hex digits.
        owner: Whose it is, for people.
    """

    key: str
    owner: str


class ClusterImage(msgspec.Struct, frozen=True):
    """An image that the cluster's members keep and spread among themselves.

    Attributes:
        digest: SHA-256 of the manifest, 64 hex digits.
        size_bytes: Length of all its files.
        pushed_at: Unix time in seconds.
    """

    name: str
    digest: str
    kind: str
    size_bytes: int
    pushed_at: float


def build_command(name: str) -> str:
    """What an image of this name is built with; one that is called after its kind, as that."""
    definition, _, kind = name.rpartition("-")
    named = definition and kind in get_args(Kind)
    return f"sappers-deploy image build {f'{definition} --kind {kind}' if named else name}"


def is_public_key(text: str) -> bool:
    """Whether it is written as public keys are: 64 hex digits, no capitals."""
    return bool(_PUBLIC_KEY.fullmatch(text))

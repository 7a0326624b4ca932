"""`sappers-deploy image inspect`: what an image is made of, and who signed it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from sappers.api.image_calls import ImageCalls
from sappers.assembly.images import LocalImages
from sappers.cli.image_names import ImageName, cluster_image, local_digest
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.config import control_home
from sappers.errors import ImageError
from sappers.images.manifests import decode_manifest
from sappers.model.image import Blob, Manifest, SignedManifest, build_command
from sappers.security.signing import signers


class InspectedImage(msgspec.Struct, frozen=True):
    """What `image inspect -o json` prints.

    Attributes:
        signed_by: The public keys that truly signed it, 64 hex digits each.
    """

    digest: str
    kind: str
    size_bytes: int
    signed_by: tuple[str, ...]
    manifest: Manifest


def inspect(
    name: ImageName, *, cluster: Cluster = None, addr: Address = None, output: Form = Output.TEXT
) -> None:
    """Show what an image is made of and who signed it: this machine's, or the cluster's."""
    if cluster is not None or addr is not None:
        with open_cluster(cluster, addr) as client:
            calls = ImageCalls(client)
            digest = cluster_image(calls.images().images, name).image.digest
            signed = calls.signed(digest)
    else:
        digest, signed = _of_this_machine(name)
    manifest = decode_manifest(signed.manifest)
    image = InspectedImage(digest, manifest.kind, manifest.size_bytes, signers(signed), manifest)
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(image).decode())
    else:
        for line in image_lines(image):
            Console().print(line, soft_wrap=True, highlight=False)


def _of_this_machine(name: str) -> tuple[str, SignedManifest]:
    store = LocalImages(control_home(os.environ)).store
    digest = local_digest(store.named(), name)
    signed = store.signed(digest)
    if signed is None:
        raise ImageError(
            f"image {digest[:12]} is not here, is damaged, or nobody trusted signed it",
            hint=build_command(name),
        )
    return digest, signed


def image_lines(image: InspectedImage) -> list[Text]:
    """For people: a line for each thing that is known of it."""
    return [Text.assemble((f"{label:<10}", "dim"), plain(text)) for label, text in _known_of(image)]


def _known_of(image: InspectedImage) -> Iterator[tuple[str, str]]:
    manifest = image.manifest
    yield "name", manifest.name
    yield "digest", image.digest
    yield "kind", f"{image.kind}, {manifest.architecture}"
    yield "size", _size(image.size_bytes)
    if image.kind != "appliance":
        yield "memory", f"{manifest.memory_mib} MiB"
        yield "port", str(manifest.guest_port or "none")
        yield "health", f"pushed every {manifest.health_interval_seconds:g} s"
        yield "state", "holds some, which its end would lose" if manifest.stateful else "none"
    for name in manifest.boot.__struct_fields__:
        if isinstance(blob := getattr(manifest.boot, name), Blob):
            yield name, f"{blob.digest}, {_size(blob.size_bytes)}, {len(blob.chunks)} chunks"
    yield "signed by", ", ".join(image.signed_by) or "nobody"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"

"""`sappers-deploy image`: build images and look at what is built."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

import sappers
from sappers.config import control_home
from sappers.errors import ImageError
from sappers.images.definition import load_definition
from sappers.images.microvm import MicrovmBuilder
from sappers.images.store import FolderImageStore
from sappers.security.signing import load_or_create_signing_key

image_app = typer.Typer(help="Build images and see what is built.", no_args_is_help=True)

_PROJECT = Path(sappers.__file__).resolve().parents[1]
Definitions = Annotated[
    Path | None, typer.Option("--definitions", help="Folder of image definitions.")
]


def _store() -> FolderImageStore:
    home = control_home(os.environ)
    key = load_or_create_signing_key(home.image_signing_key).public
    return FolderImageStore(home.images, lambda: (key,))


@image_app.command()
def build(name: str, definitions: Definitions = None) -> None:
    """Build the image that DEFINITIONS/NAME/image.toml describes; nothing to do if it is built."""
    here = Path("unikernels")
    folder = definitions or (here if here.is_dir() else _PROJECT / "unikernels")
    home = control_home(os.environ)
    console = Console(stderr=True)
    started = time.monotonic()
    definition = load_definition(folder, name)
    store = _store()
    lock = _PROJECT / "requirements" / "agent.lock"
    key = load_or_create_signing_key(home.image_signing_key)
    builder = MicrovmBuilder(store, home.cache / "images", lock, key)
    with console.status(f"building {name}") as status:
        digest, built = builder.build(
            name, definition, folder / name, lambda text: status.update(f"{name}: {text}")
        )
    manifest = store.manifest(digest)
    assert manifest is not None
    size_mib = sum(blob.size_bytes for blob in manifest.blobs()) / 2**20
    seconds = time.monotonic() - started
    what = "built" if built else "is up to date:"
    console.print(
        f"{name} {what} {digest[:12]}, {size_mib:.1f} MiB, {seconds:.1f} s", highlight=False
    )
    typer.echo(digest)


@image_app.command("ls")
def list_images() -> None:
    """List the images built here."""
    store = _store()
    columns = ("NAME", "DIGEST", "KIND", "SIZE", "MEMORY", "PORT")
    table = Table(*columns, box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name, digest in store.named().items():
        manifest = store.manifest(digest)
        if manifest is None or store.missing_chunks(digest):
            table.add_row(name, digest[:12], "[red]damaged: build it again[/]", "", "", "")
            continue
        size_mib = sum(blob.size_bytes for blob in manifest.blobs()) / 2**20
        port = "-" if manifest.guest_port is None else str(manifest.guest_port)
        table.add_row(
            name,
            digest[:12],
            manifest.kind,
            f"{size_mib:.1f} MiB",
            f"{manifest.memory_mib} MiB",
            port,
        )
    Console().print(table)


@image_app.command()
def inspect(name: str) -> None:
    """Show the manifest of an image, by name or digest, as JSON; its blobs are read and checked."""
    store = _store()
    named = store.named()
    if name not in named and len(name) != 64:
        raise ImageError(f"no image is called {name}", hint=f"sappers-deploy image build {name}")
    digest = named.get(name, name)
    store.verify(digest)
    text = msgspec.json.encode({"digest": digest, "manifest": store.manifest(digest)})
    typer.echo(msgspec.json.format(text, indent=2).decode())

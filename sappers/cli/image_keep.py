"""`sappers-deploy image verify`, `rm`, `prune`, `export`, `import`: what is kept, and where."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from sappers.api.image_calls import ImageCalls
from sappers.api.wire import HeldImage
from sappers.assembly.images import LocalImages
from sappers.cli.image_names import ImageName, local_digest, one_of_name
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.config import control_home
from sappers.errors import ApiError, ImageError, ImageUntrusted
from sappers.images.archive_file import export_image, import_image, look_into
from sappers.images.disk_file import export_disk
from sappers.images.store import FolderImageStore
from sappers.model.image import ClusterImage, ImageKey, build_command

IN_USE = 409


def verify(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A name or digest; all images if not given."),
    ] = None,
) -> None:
    """Read images of this machine again, and check every chunk and signature."""
    store = _store()
    named = store.named()
    wanted = named if name is None else {name: local_digest(named, name)}
    console = Console(stderr=True)
    damaged = {}
    for one, digest in wanted.items():
        try:
            with console.status(plain(f"{one}: reading")):
                store.verify(digest)
            typer.echo(f"{one} {digest[:12]}: whole")
        except ImageError as error:
            damaged[one] = error
            typer.echo(f"{one} {digest[:12]}: {plain(error.message)}")
    if damaged:
        first = next(iter(damaged))
        raise ImageError(
            f"{len(damaged)} of {len(wanted)} images are not whole",
            hint=f"{build_command(first)}, or image pull {first}",
        )


def remove(name: ImageName, *, cluster: Cluster = None, addr: Address = None) -> None:
    """Forget an image here; with --cluster or --addr the cluster's members keep it no more."""
    if cluster is None and addr is None:
        store = _store()
        known = store.named()
        digest = local_digest(known, name)
        names = [name] if name in known else [one for one, it in known.items() if it == digest]
        for one in names:
            store.remove_name(one)
        what = f"{', '.join(names) or digest[:12]} is forgotten; image prune frees its room"
    else:
        with open_cluster(cluster, addr) as client:
            calls = ImageCalls(client)
            image = one_of_name(calls.images().images, name).image
            calls.remove(image.digest)
        what = f"{image.name} {image.digest[:12]} is kept no more"
    Console(stderr=True).print(plain(what), soft_wrap=True)


def prune(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what.")] = False,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Free what no image with a name needs here; of a cluster, remove outdated, unused images."""
    if cluster is not None or addr is not None:
        _prune_cluster(cluster, addr, dry_run=dry_run)
        return
    store = _store()
    files = store.unneeded(())
    freed_mb = sum(files.values()) / 1e6
    if not dry_run:
        store.prune(())
    verb = "would free" if dry_run else "freed"
    typer.echo(f"{verb} {freed_mb:.1f} MB in {len(files)} files")


def _prune_cluster(cluster: str | None, addr: str | None, *, dry_run: bool) -> None:
    with open_cluster(cluster, addr) as client:
        calls = ImageCalls(client)
        for one in older_images(calls.images().images):
            line = f"{one.name} {one.digest[:12]}, {one.size_bytes / 1e6:.1f} MB"
            if dry_run:
                typer.echo(f"would remove {line}, unless it is in use")
                continue
            try:
                calls.remove(one.digest)
                typer.echo(f"removed {line}")
            except ApiError as error:
                if error.status != IN_USE:
                    raise
                typer.echo(f"kept {line}: {plain(error.message)}")


def older_images(images: tuple[HeldImage, ...]) -> list[ClusterImage]:
    """Every image of the cluster that has a newer one of its name."""
    newest: dict[str, ClusterImage] = {}
    for one in sorted((held.image for held in images), key=lambda it: (it.pushed_at, it.digest)):
        newest[one.name] = one
    return [held.image for held in images if newest[held.image.name] != held.image]


def export(
    name: ImageName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    *,
    disk: Annotated[
        bool, typer.Option("--disk", help="The raw disk of an appliance or a Nanos image.")
    ] = False,
) -> None:
    """Write an image of this machine into one file, for hosts without network."""
    store = _store()
    digest = local_digest(store.named(), name)
    console = Console(stderr=True)
    began = time.monotonic()
    if disk:
        with console.status(plain(f"{name}: writing {file}")):
            export_disk(store, digest, file)
    else:
        with _chunks_done(console, name) as progress:
            export_image(store, digest, file, progress)
    seconds = time.monotonic() - began
    line = f"{name} {digest[:12]}: {file}, {file.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s"
    console.print(plain(line), soft_wrap=True)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `image export` wrote.")],
    *,
    trust: Annotated[
        bool, typer.Option("--trust", help="Trust whoever signed it, from now on.")
    ] = False,
    trust_key: Annotated[
        str, typer.Option(metavar="KEY", help="Trust this one of those who signed it.")
    ] = "",
) -> None:
    """Take an image out of a file that `export` wrote, and check all of it."""
    images = LocalImages(control_home(os.environ))
    console = Console(stderr=True)
    keys = _signer_to_trust(images, file, trust_key) if trust or trust_key else ()
    try:
        with images.trusting(*keys), _chunks_done(console, file.name) as progress:
            digest = import_image(images.store, file, progress)
    except ImageUntrusted as error:
        error.hint = f"it is signed by {', '.join(error.keys) or 'nobody'}; --trust if you know it"
        raise
    manifest = images.store.manifest(digest)
    assert manifest is not None
    for key in keys:
        console.print(plain(f"trusting {key.key}"), soft_wrap=True)
    console.print(plain(f"{manifest.name} {digest[:12]} is here, and whole"), soft_wrap=True)
    typer.echo(digest)


def _signer_to_trust(images: LocalImages, file: Path, wanted: str) -> tuple[ImageKey, ...]:
    """The one who signed the file and is to be trusted; none where one of them is already.

    Raises:
        ImageUntrusted: Several signed it, and anybody may add a signature: one must be named.
    """
    found = look_into(file)
    keys = [key for key in found.keys if wanted in ("", key)]
    if images.trusted().intersection(keys):
        return ()
    if len(keys) != 1:
        signers = ", ".join(found.keys) or "nobody"
        raise ImageUntrusted(
            f"{file} is signed by {signers}",
            keys=found.keys,
            hint="name the one that you know: --trust-key KEY",
        )
    return (ImageKey(keys[0], f"signed {found.manifest.name}"),)


@contextmanager
def _chunks_done(console: Console, name: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(str(plain(name)), markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _store() -> FolderImageStore:
    return LocalImages(control_home(os.environ)).store

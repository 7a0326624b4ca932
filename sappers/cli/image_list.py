"""`sappers-deploy image ls`: what is here, and what the cluster's members have."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sappers.api.image_calls import ImageCalls
from sappers.api.image_push import MemberShare
from sappers.api.operator_client import OperatorClient
from sappers.api.ways import ask_all
from sappers.api.wire import Images
from sappers.assembly.images import LocalImages
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.config import control_home
from sappers.images.store import FolderImageStore
from sappers.model.image import ClusterImage


class ListedImage(msgspec.Struct, frozen=True):
    """A line of `image ls`.

    Attributes:
        here: Whether this machine has it; `whole`: and nothing of it is missing.
        memory_mib, guest_port: Known of images that are here.
        members: How much of it each member has; None when no cluster was asked, or it has none.
    """

    name: str
    digest: str
    kind: str
    size_bytes: int
    memory_mib: int | None = None
    guest_port: int | None = None
    here: bool = False
    whole: bool = False
    members: tuple[MemberShare, ...] | None = None


def list_images(
    *, cluster: Cluster = None, addr: Address = None, output: Form = Output.TEXT
) -> None:
    """List the images of this machine; with --cluster or --addr those of the cluster, too."""
    listed = local_images(LocalImages(control_home(os.environ)).store)
    asked = cluster is not None or addr is not None
    if asked:
        with open_cluster(cluster, addr) as client:
            listed = with_cluster(listed, *images_of(client))
    if output is Output.JSON:
        typer.echo(msgspec.json.encode({"images": listed}).decode())
    else:
        Console().print(images_table(listed, asked=asked))


def local_images(store: FolderImageStore) -> tuple[ListedImage, ...]:
    """What has a name on this machine, by name."""
    listed = []
    for name, digest in store.named().items():
        manifest = store.manifest(digest)
        if manifest is None:
            listed.append(ListedImage(name, digest, "", 0, here=True))
            continue
        whole = not store.missing_chunks(digest)
        listed.append(
            ListedImage(
                name,
                digest,
                manifest.kind,
                manifest.size_bytes,
                manifest.memory_mib,
                manifest.guest_port,
                here=True,
                whole=whole,
            )
        )
    return tuple(listed)


def images_of(
    client: OperatorClient,
) -> tuple[tuple[ClusterImage, ...], Mapping[str, tuple[MemberShare, ...]]]:
    """The cluster's images, and by digest how much of each every member has."""
    calls = ImageCalls(client)
    members = client.everyone()
    answers = ask_all(members, calls.images_at)
    images: dict[str, ClusterImage] = {}
    shares: dict[str, list[MemberShare]] = {}
    for member, answer in answers.items():
        for one in answer.images if isinstance(answer, Images) else ():
            images[one.image.digest] = one.image
            # A member that has no manifest yet does not know how many chunks there are.
            of = one.chunks or 1
            share = MemberShare(member.name, one.chunks_here, of, one.reason)
            shares.setdefault(one.image.digest, []).append(share)
    ordered = sorted(images.values(), key=lambda one: (one.name, -one.pushed_at, one.digest))
    return tuple(ordered), {digest: tuple(all_of) for digest, all_of in shares.items()}


def with_cluster(
    local: Sequence[ListedImage],
    images: Sequence[ClusterImage],
    shares: Mapping[str, tuple[MemberShare, ...]],
) -> tuple[ListedImage, ...]:
    """Both lists as one: an image that both have stands there once for each of its names."""
    replace = msgspec.structs.replace
    known = {one.digest for one in local}
    both = [replace(one, members=shares.get(one.digest)) for one in local]
    others = [
        ListedImage(one.name, one.digest, one.kind, one.size_bytes, members=shares.get(one.digest))
        for one in images
        if one.digest not in known
    ]
    return tuple(sorted((*both, *others), key=lambda one: one.name))


def images_table(listed: Sequence[ListedImage], *, asked: bool) -> Table:
    """What `image ls` shows; `asked`: of a cluster, too."""
    columns = ["NAME", "DIGEST", "KIND", "SIZE", "MEMORY", "PORT", "HERE"]
    columns += ["MEMBERS"] if asked else []
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    # Rich narrows what may wrap before all else, and a name has no place to wrap at.
    table.add_column("NAME", overflow="ellipsis")
    for column in columns[1:]:
        table.add_column(column, no_wrap=True)
    for one in listed:
        table.add_row(*(_cells(one)[: len(columns)]))
    return table


def _cells(one: ListedImage) -> list[Text]:
    state = Text("whole", "green") if one.whole else Text("damaged", "red")
    return [
        plain(one.name),
        Text(one.digest[:12]),
        plain(one.kind or "-"),
        Text(f"{one.size_bytes / 2**20:.1f} MiB" if one.size_bytes else "-"),
        Text(f"{one.memory_mib} MiB" if one.memory_mib else "-"),
        Text(str(one.guest_port or "-")),
        state if one.here else Text("-"),
        _members(one.members),
    ]


def _members(shares: Sequence[MemberShare] | None) -> Text:
    if shares is None:
        return Text("-")
    whole = sum(share.is_whole for share in shares)
    return Text(f"{whole} of {len(shares)}", "green" if whole == len(shares) else "yellow")

"""`sappers-deploy image push`, `pull`, `warm`: images on their way to the members and back."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.api.image_calls import ImageCalls
from sappers.api.image_pull import Pulled, pull_image
from sappers.api.image_push import STALL_SECONDS, ImagePush, Pushed
from sappers.api.operator_client import OperatorClient
from sappers.api.ways import ask_all
from sappers.api.wire import Warmed
from sappers.assembly.images import LocalImages
from sappers.cli.image_names import ImageName, cluster_image, local_digest
from sappers.cli.image_progress import ImageProgress, share_text, size_text
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, finite, open_cluster
from sappers.cli.status_view import plain
from sappers.config import control_home
from sappers.errors import ApiError, ImageUntrusted, SappersError
from sappers.security.signing import signers

Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="Names or digests.")]


def push(
    names: Names,
    *,
    wait: Annotated[bool, typer.Option(help="Wait until all members have it whole.")] = True,
    timeout: Annotated[
        float,
        typer.Option(
            min=0, callback=finite, help="Seconds to wait for a member that gets no further."
        ),
    ] = STALL_SECONDS,
    cluster: Cluster = None,
    addr: Address = None,
    output: Form = Output.TEXT,
) -> None:
    """Give images to the cluster: only what no member has, and once; run it again to go on."""
    images = LocalImages(control_home(os.environ))
    digests = [local_digest(images.store.named(), name) for name in names]
    with open_cluster(cluster, addr) as client:
        pushed = [
            push_image(client, images, digest, wait=wait, stall_seconds=timeout)
            for digest in dict.fromkeys(digests)
        ]
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(pushed).decode())


def push_image(
    client: OperatorClient,
    images: LocalImages,
    digest: str,
    *,
    wait: bool = True,
    stall_seconds: float = STALL_SECONDS,
    quiet: bool = False,
) -> Pushed:
    """Push one image, and show it on stderr; raises as `ImagePush.push`.

    `quiet`: nothing is said of what had to be sent to nobody.
    """
    manifest = images.store.manifest(digest)
    console = Console(stderr=True)
    began = time.monotonic()
    with ImageProgress(console, manifest.name if manifest else digest[:12]) as progress:
        pushing = ImagePush(client, images.store, progress, wait=wait, stall_seconds=stall_seconds)
        pushed = pushing.push(digest)
    if pushed.chunks_sent or not quiet:
        console.print(plain(pushed_text(pushed, time.monotonic() - began)), soft_wrap=True)
    return pushed


def pushed_text(pushed: Pushed, seconds: float) -> str:
    """What a push did, one line."""
    sent = (
        f"sent {pushed.chunks_sent} of {pushed.chunks} chunks, {size_text(pushed.sent_bytes)}"
        if pushed.chunks_sent
        else "nothing to send"
    )
    name = f"{pushed.name} {pushed.digest[:12]}"
    return f"{name}: {sent}; {share_text(pushed.members)}; {seconds:.1f} s"


def pull(
    name: ImageName,
    *,
    trust: Annotated[
        bool, typer.Option("--trust", help="Trust whoever signed it, if the cluster does.")
    ] = False,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Fetch an image from the members; what is here already is not fetched again."""
    images = LocalImages(control_home(os.environ))
    console = Console(stderr=True)
    began = time.monotonic()
    with open_cluster(cluster, addr) as client:
        calls = ImageCalls(client)
        image = cluster_image(calls.images().images, name).image
        if trust:
            _trust_signers(images, calls, image.digest, console)
        try:
            with ImageProgress(console, image.name) as progress, images.store.holding():
                pulled = pull_image(client, images.store, image.digest, progress)
                images.store.give_name(pulled.name, image.digest)
        except ImageUntrusted as error:
            error.hint = f"sappers-deploy image pull {name} --trust, if you know whose it is"
            raise
    console.print(plain(_pulled_text(pulled, time.monotonic() - began)), soft_wrap=True)
    typer.echo(pulled.digest)


def _trust_signers(images: LocalImages, calls: ImageCalls, digest: str, console: Console) -> None:
    """Trust the keys that the cluster trusts and that the image names; others are not believed."""
    named = set(signers(calls.signed(digest))) - images.trusted()
    keys = [one for one in calls.keys().keys if one.key in named]
    for one in keys:
        console.print(plain(f"trusting {one.key} ({one.owner})"), soft_wrap=True)
    if keys:
        images.trust(*keys)


def _pulled_text(pulled: Pulled, seconds: float) -> str:
    fetched = (
        f"fetched {pulled.chunks_fetched} of {pulled.chunks} chunks"
        if pulled.chunks_fetched
        else "nothing to fetch"
    )
    return f"{pulled.name} {pulled.digest[:12]}: {fetched}; {seconds:.1f} s"


def warm(name: ImageName, *, cluster: Cluster = None, addr: Address = None) -> None:
    """Make the template that guests start from, on every member, and wait for it."""
    console = Console(stderr=True)
    with open_cluster(cluster, addr) as client:
        calls = ImageCalls(client)
        image = cluster_image(calls.images().images, name).image
        members = client.everyone()
        with console.status(f"{image.name}: warming on {len(members)} members"):
            answers = ask_all(members, lambda one: calls.warm_at(one, image.digest))
    failed: list[str] = []
    for member, answer in answers.items():
        if isinstance(answer, ApiError):
            failed.append(member.name)
        typer.echo(plain(warmed_text(member.name, answer)))
    if failed:
        raise SappersError(
            f"{image.name} is not warm on {_list(failed)}",
            hint="until this command succeeds guests boot cold there; sappers-deploy run works",
        )


def warmed_text(member: str, answer: Warmed | ApiError) -> str:
    """What one member answered; an error names it already."""
    return answer.message if isinstance(answer, ApiError) else f"{member}: {answer.text}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)

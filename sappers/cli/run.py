"""`sappers-deploy run`: have the cluster run a workload."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from sappers.api.image_calls import ImageCalls
from sappers.api.operator_client import OperatorClient
from sappers.api.wire import WantedImage, WantedWorkload, Written
from sappers.assembly.images import LocalImages
from sappers.cli.image_names import cluster_image, local_digest
from sappers.cli.image_transfer import push_image
from sappers.cli.session import Address, Cluster, WaitSeconds, checked_name, open_cluster
from sappers.cli.status_view import plain
from sappers.cli.waiting import wait_until
from sappers.config import control_home
from sappers.errors import ConfigError, ImageError
from sappers.images.manifests import decode_manifest
from sappers.model.allocation import Allocation, AllocationStatus
from sappers.model.image import Manifest, build_command
from sappers.model.view import ClusterView


def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The workload's name.")],
    image: Annotated[
        str,
        typer.Option("--image", help="An image of this machine or the cluster, by name or digest."),
    ],
    port: Annotated[
        str | None,
        typer.Option(
            "--port", metavar="GUEST[:HOST]", help="Port to publish; the image's if not given."
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=0, help="How many copies.")] = 1,
    memory: Annotated[
        int | None, typer.Option("--memory", min=16, help="MiB of each; the image's if not given.")
    ] = None,
    *,
    cold: Annotated[
        bool, typer.Option("--cold", help="Boot each copy from the beginning, from no template.")
    ] = False,
    service: Annotated[
        str | None,
        typer.Option("--service", help="Its name in Consul and at the gateway; NAME if not given."),
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            "--link",
            metavar="SERVICE",
            help="A service it may call, over hub and mesh; once for each.",
        ),
    ] = None,
    exclusive: Annotated[
        bool,
        typer.Option(
            "--exclusive",
            help="Never more copies at once than --count: one that may still run is waited for.",
        ),
    ] = False,
    private: Annotated[
        bool,
        typer.Option("--private", help="Only workloads that are linked to it reach its port."),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until all copies are healthy.")] = True,
    timeout: WaitSeconds = 180.0,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Have the cluster run a workload, wait until it is healthy, and say where it answers."""
    checked_name(name)
    console = Console(stderr=True)
    images = LocalImages(control_home(os.environ))
    with open_cluster(cluster, addr) as client:
        digest, manifest, here = find_image(client, images, image)
        wanted = wanted_workload(
            digest,
            manifest,
            port=port,
            count=count,
            memory_mib=memory,
            cold=cold,
            service=service,
            links=link or (),
            exclusive=exclusive,
            private=private,
        )
        published = wanted.host_port or wanted.guest_port
        warn_of_port(console, manifest, wanted.guest_port, f"--port {{}}:{published}")
        if here:
            # What was pushed before costs a question; the members spread the rest themselves.
            push_image(client, images, digest, wait=False, quiet=True)
        written = client.put_workload(name, wanted)
        if not wait:
            return
        revision = committed_revision(client, name, written, console)
        wait_until(
            lambda: how_healthy(client.view(), name, revision, count),
            what=name,
            timeout_seconds=timeout,
            hint=f"the cluster goes on trying: sappers-deploy ps, sappers-deploy logs {name}",
            console=console,
        )
        view = client.view()
    console.print(f"{name} is healthy", style="green", highlight=False)
    for place in where_it_answers(view, name, revision):
        typer.echo(place)


def find_image(
    client: OperatorClient, images: LocalImages, image: str
) -> tuple[str, Manifest, bool]:
    """Digest and manifest of an image, and whether this machine has it; else the cluster does.

    Raises:
        ImageError: There is none.
        ApiError: The cluster must be asked, and does not answer.
    """
    named = images.store.named()
    try:
        digest = local_digest(named, image)
    except ImageError:
        digest = ""
    manifest = images.store.manifest(digest) if digest else None
    if manifest is not None:
        return digest, manifest, True
    calls = ImageCalls(client)
    try:
        digest = cluster_image(calls.images().images, image).image.digest
    except ImageError as error:
        known = ", ".join(named) or "none"
        raise ImageError(
            f"no image is called {image}; built here: {known}; {error.message}",
            hint=build_command(image),
        ) from error
    return digest, decode_manifest(calls.signed(digest).manifest), False


def wanted_workload(
    digest: str,
    manifest: Manifest,
    *,
    port: str | None,
    count: int,
    memory_mib: int | None,
    cold: bool = False,
    service: str | None = None,
    links: Sequence[str] = (),
    exclusive: bool = False,
    private: bool = False,
) -> WantedWorkload:
    """What to ask for; the image says what the options do not.

    Raises:
        ConfigError: The port is none, or a service's name cannot be one.
    """
    for name in (service, *links):
        if name is not None:
            checked_name(name, "service")
    guest, host = _ports(port) if port is not None else (manifest.guest_port, None)
    return WantedWorkload(
        image=WantedImage(manifest.name, digest),
        memory_mib=memory_mib or manifest.memory_mib,
        guest_port=guest,
        host_port=host,
        count=count,
        cold=cold,
        service=service,
        links=tuple(links),
        exclusive=exclusive,
        private=private,
    )


def warn_of_port(
    console: Console, manifest: Manifest, guest_port: int | None, instead: str
) -> None:
    """Say so where a port is published that is not the image's own: health is judged by that.

    Args:
        instead: The option with `{}` for the image's port, which is most likely what is meant.
    """
    own = manifest.guest_port
    if own is None or guest_port in (None, own):
        return
    text = (
        f"image {manifest.name} says that it listens on port {own}; unless it does on "
        f"{guest_port} as well, nothing answers there: {instead.format(own)}"
    )
    console.print(plain(text, "yellow"), soft_wrap=True)


def _ports(text: str) -> tuple[int, int | None]:
    parts = text.split(":")
    numbers = [int(part) for part in parts if part.isdecimal() and 0 < int(part) < 65_536]
    if len(numbers) != len(parts) or len(parts) > 2:
        raise ConfigError(f"--port {text}: expected GUEST or GUEST:HOST, each from 1 to 65535")
    return numbers[0], numbers[1] if len(numbers) == 2 else None


def committed_revision(
    client: OperatorClient, name: str, written: Written, console: Console
) -> int:
    """The workload's revision, from a member that has applied the write."""
    found: list[int] = []

    def look() -> tuple[bool, str]:
        answer = client.workloads()
        found[:] = [one.revision for one in answer.workloads if one.name == name]
        return answer.index >= written.index and bool(found), "committed"

    wait_until(
        look, what=name, timeout_seconds=10, hint="see sappers-deploy status", console=console
    )
    return found[0]


def how_healthy(view: ClusterView, name: str, revision: int, count: int) -> tuple[bool, str]:
    """Whether `count` copies of the revision are healthy, and how far it is, for a person.

    Not yet where there are more than are wanted: some of these are about to go.
    """
    copies = _copies(view, name, revision)
    healthy = [one for one in copies if one.status is AllocationStatus.HEALTHY]
    names = {one.member.id: one.member.name for one in view.members}
    failed = [one for one in copies if one.status is AllocationStatus.FAILED]
    # A workload that fails again and again has many failed copies; the newest says enough.
    newest = sorted(failed, key=lambda one: (one.changed_at, one.id))[-1:]
    others = [one for one in copies if one not in healthy and one not in failed]
    said = [
        f"{one.id} on {names.get(one.member_id, one.member_id)} {one.status}"
        + (f" ({one.reason})" if one.reason else "")
        for one in (*others, *newest)
    ] or [text for text in view.attention if f" {name} " in text]
    progress = "; ".join((f"{len(healthy)} of {count} healthy", *said))
    wanted = max([count, *(one.count for one in view.workloads if one.name == name)])
    return len(healthy) >= count and len(copies) - len(failed) <= wanted, progress


def where_it_answers(view: ClusterView, name: str, revision: int) -> Sequence[str]:
    """One line a healthy copy: its URL, or its member where no port is published."""
    members = {one.member.id: one.member for one in view.members}
    lines = []
    for one in _copies(view, name, revision):
        member = members.get(one.member_id)
        if one.status is not AllocationStatus.HEALTHY or member is None:
            continue
        host = f"[{member.address}]" if ":" in member.address else member.address
        lines.append(
            f"http://{host}:{one.public_port}" if one.public_port else f"{one.id} on {member.name}"
        )
    return lines


def _copies(view: ClusterView, name: str, revision: int) -> list[Allocation]:
    return [
        one
        for one in view.allocations
        if one.workload == name
        and one.revision == revision
        and one.wanted
        and one.status is not AllocationStatus.LOST
    ]

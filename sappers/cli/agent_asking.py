"""`sappers` as a client: what it asks the agent that runs on a STATE_DIR, and how it shows that."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from sappers.agent.running import RunningAgent
from sappers.api.image_calls import ImageCalls
from sappers.api.image_push import ImagePush
from sappers.api.operator_client import OperatorClient
from sappers.api.ways import Endpoint
from sappers.api.wire import WantedImage, WantedWorkload
from sappers.assembly.by_hand import ClusterKeys, operator_identity
from sappers.cli.agent_requests import Launch, Requests
from sappers.cli.healer_access import let_healers_in
from sappers.cli.image_names import cluster_image
from sappers.cli.image_progress import ImageProgress
from sappers.cli.run import committed_revision, how_healthy, warn_of_port, where_it_answers
from sappers.cli.session import checked_name
from sappers.cli.status_view import plain
from sappers.cli.vm_image import opened_image, require_kind
from sappers.cli.waiting import wait_until
from sappers.config import StateFolder
from sappers.errors import IdentityError
from sappers.images.manifests import decode_manifest
from sappers.model.image import Manifest
from sappers.model.workload import Workload

QUORUM_SECONDS = 60.0
HEALTHY_SECONDS = 300.0
_NO_CONSUL = (
    "no member uses Consul, so that it is registered nowhere: start Consul, and set enabled = true "
    "below [consul] in the agents' agent.toml"
)


def ask(
    folder: StateFolder, running: RunningAgent, requests: Requests, cluster_keys: Path | None
) -> None:
    """Do what is asked for, one after the other, and say so.

    Raises:
        SappersError: As the calls do; what was done before stays.
    """
    identity, keys = operator_identity(folder, cluster_keys)
    endpoint = Endpoint(running.node_id, running.address, running.http_port, running.node_id)
    with OperatorClient(identity, [endpoint]) as client:
        if requests.log_level is not None:
            client.set_log_level(requests.log_level)
            typer.echo(f"{running.node_id} logs {requests.log_level} and above")
        if requests.snapshot:
            taken = client.take_snapshot()
            typer.echo(f"{running.node_id} took a snapshot at index {taken.index}")
        if requests.healers:
            typer.echo(let_healers_in(client, folder, running, keys))
        if requests.launch is not None:
            _launch(client, requests.launch, keys)


def _launch(client: OperatorClient, launch: Launch, keys: ClusterKeys | None) -> None:
    checked_name(launch.name)
    if launch.service:
        checked_name(launch.service, "service")
    console = Console(stderr=True)
    wait_until(
        lambda: (client.view().has_quorum, "no leader yet"),
        what=launch.name,
        timeout_seconds=QUORUM_SECONDS,
        hint="start more of its agents; sappers-deploy status says what is missing",
        console=console,
    )
    workloads = client.workloads(consistency="linearizable").workloads
    before = next((one for one in workloads if one.name == launch.name), None)
    digest, manifest = _image_for(client, launch, before, keys, console)
    wanted = wanted_workload(launch, digest, manifest, before)
    warn_of_port(console, manifest, wanted.guest_port, "--service-port {}")
    written = client.put_workload(launch.name, wanted)
    revision = committed_revision(client, launch.name, written, console)
    wait_until(
        lambda: how_healthy(client.view(), launch.name, revision, 1),
        what=launch.name,
        timeout_seconds=HEALTHY_SECONDS,
        hint=f"the cluster goes on trying; see what it prints: sappers-deploy logs {launch.name}",
        console=console,
    )
    console.print(plain(f"{launch.name} is healthy"), style="green", highlight=False)
    view = client.view()
    if launch.service and all(one.consul == "-" for one in view.members):
        console.print(_NO_CONSUL, soft_wrap=True, highlight=False)
    for place in where_it_answers(view, launch.name, revision):
        typer.echo(place)


def _image_for(
    client: OperatorClient,
    launch: Launch,
    before: Workload | None,
    keys: ClusterKeys | None,
    console: Console,
) -> tuple[str, Manifest]:
    """Digest and manifest of what is to run: the file's, what runs already, or the cluster's."""
    if launch.image is not None:
        return _push_file(client, launch, launch.image, keys, console)
    calls = ImageCalls(client)
    if before is not None:
        digest = before.image.digest
    else:
        digest = cluster_image(calls.images().images, launch.name).image.digest
    manifest = decode_manifest(calls.signed(digest).manifest)
    require_kind(manifest, launch)
    return digest, manifest


def wanted_workload(
    launch: Launch, digest: str, manifest: Manifest, before: Workload | None
) -> WantedWorkload:
    """What to ask for: of a workload that is there, what the flags do not say stays.

    Args:
        launch: What the flags say.
        digest: Of the image that is to run, which `manifest` is of.
        manifest: What it says counts for a new workload.
        before: The workload as it is, or None.
    """
    image = WantedImage(manifest.name, digest)
    if before is None:
        return WantedWorkload(
            image=image,
            memory_mib=manifest.memory_mib,
            guest_port=launch.port or manifest.guest_port,
            service=launch.service or None,
        )
    return WantedWorkload(
        image=image,
        # Another image may need more than the one before.
        memory_mib=max(before.memory_mib, manifest.memory_mib if launch.image else 0),
        guest_port=launch.port or before.guest_port,
        host_port=before.host_port,
        count=max(before.count, 1),
        cold=before.cold,
        service=launch.service or before.service or None,
        links=before.links,
        exclusive=before.exclusive,
        private=before.private,
    )


def _push_file(
    client: OperatorClient,
    launch: Launch,
    file: Path,
    keys: ClusterKeys | None,
    console: Console,
) -> tuple[str, Manifest]:
    """Give the image in a file to the cluster; its digest and manifest."""
    if keys is None:
        raise IdentityError(
            "--vm-image needs the cluster's keys, to sign the image",
            hint="run it where the cluster's keys are, or say where with --cluster-keys; or push "
            "the image with sappers-deploy image push, and leave out --vm-image",
        )
    with opened_image(file, launch, keys) as (store, digest):
        manifest = store.manifest(digest)
        assert manifest is not None
        with ImageProgress(console, manifest.name) as progress:
            ImagePush(client, store, progress, wait=False).push(digest)
    return digest, manifest

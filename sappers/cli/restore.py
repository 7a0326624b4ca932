"""`sappers-deploy restore`: a cluster on other hosts, as a backup says that it was."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sappers.api.image_calls import ImageCalls
from sappers.api.operator_client import OperatorClient
from sappers.api.problems import decoded
from sappers.api.ways import Reached, ask_all
from sappers.assembly.images import LocalImages
from sappers.cli.backup import contents, ranges
from sappers.cli.backup_file import open_backup
from sappers.cli.bootstrap import exit_code_of, run_bootstrap, show_bootstrap
from sappers.cli.host_options import Forks
from sappers.cli.image_transfer import push_image
from sappers.cli.output import Output
from sappers.cli.saved_record import SavedRecord
from sappers.cli.session import open_cluster
from sappers.cli.status_view import plain
from sappers.config import ControlHome, control_home
from sappers.decisions.backup import in_pieces
from sappers.durable import sync_folder
from sappers.errors import ApiError, BackupError, SappersError
from sappers.model.backup import Backup
from sappers.model.cluster_state import ClusterState
from sappers.model.commands import RestorePiece
from sappers.model.event import Event, EventFilter, event_line
from sappers.model.image import ImageKey
from sappers.model.member import MemberState
from sappers.model.view import ClusterView
from sappers.provisioner.bootstrap.founding import FOUNDING_FILE, load_founding
from sappers.provisioner.control.record import RECORD_FILE

ASIDE = ".before-restore"
PAGE_BYTES = 2 << 20  # of events in one call
ATTEMPTS = 3


class _Restored(msgspec.Struct, frozen=True):
    """What of a state's JSON is looked at."""

    restored: str = ""


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    inventory: Annotated[
        Path, typer.Argument(metavar="INVENTORY", help="The new hosts: INI or YAML.")
    ],
    *,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Even if a cluster answers there that runs workloads."),
    ] = False,
    confirm: Annotated[
        str | None,
        typer.Option(metavar="CLUSTER", help="With --replace: its name, instead of a question."),
    ] = None,
    trust_image_keys: Annotated[
        bool,
        typer.Option("--trust-image-keys", help="Those of the backup, without a question."),
    ] = False,
    forks: Forks = 20,
) -> None:
    """Make an inventory's hosts the cluster of a backup, wholly or not at all; repeat to go on."""
    saved = context.with_resource(open_backup(file))
    backup, state, record = saved.backup, saved.state, saved.record
    console = Console(stderr=True)
    taken = datetime.fromtimestamp(backup.taken_at).astimezone()
    what = f"cluster {backup.cluster} of {taken:%Y-%m-%d %H:%M:%S}, index {backup.taken.index}"
    console.print(plain(f"{file}: {what}: {contents(state, record.numbers)}"), soft_wrap=True)
    if missing := record.numbers.missing:
        text = f"it is without {ranges(missing)}; what lies before them stays in the file"
        console.print(plain(text, "yellow"), soft_wrap=True)
    home = control_home(os.environ)
    name, hosts = _named(inventory)
    with _left("no host was changed", console):
        if backup.cluster != name:
            _warn_of_old(backup, state, console)
        pieces = in_pieces(state, replace=replace)
        living = _living(name)
        if living is None:
            _set_aside(home, name, hosts, console)
        elif not _is_done(name, pieces[0].digest):
            _require_consent(living, name, replace=replace, confirm=confirm)
    with _left("the hosts may be no whole cluster yet; nothing is restored", console):
        recap, view = run_bootstrap(
            inventory, None, check=False, forks=forks, verbose=False, form=Output.TEXT
        )
    show_bootstrap(recap, view, check=False, told=False)
    if code := exit_code_of(recap):
        console.print("the hosts are no whole cluster yet; nothing is restored. Run it again")
        raise typer.Exit(code)
    with open_cluster(name, None) as client:
        with _left(f"cluster {name} stands, and nothing is restored", console):
            new = unknown_keys(state.image_keys, ImageCalls(client).keys().keys)
            require_trust(new, name, console, trusted=trust_image_keys)
        with _left(f"cluster {name} is restored wholly or not at all", console):
            give_pieces(client, pieces)
        with _left(
            f"{name} is what the backup says, but may lack images and older events", console
        ):
            _give_images(client, backup, state, LocalImages(home), console)
            for problem in give_record(client, record, state):
                console.print(plain(problem, "yellow"), soft_wrap=True)
    text = f"{name} is what the backup says; sappers-deploy status shows its guests come"
    console.print(plain(text), soft_wrap=True)


@contextlib.contextmanager
def _left(state: str, console: Console) -> Iterator[None]:
    """A block that says how all was left when Ctrl-C ends it, at a question, too."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):
        text = f"interrupted: {state}; run the same command again, and it goes on"
        console.print(plain(text), soft_wrap=True)
        raise


def _named(path: Path) -> tuple[str, set[str]]:
    """The cluster's name and its hosts'."""
    # Imported late: SSH and templates take a moment to load.
    from sappers.provisioner.bootstrap.plan import plan_cluster
    from sappers.provisioner.bootstrap.resolve import resolve_address
    from sappers.provisioner.connection.ssh_config import host_name, read_ssh_config
    from sappers.provisioner.inventory.inventory import load_inventory

    user = Path.home()
    ssh = read_ssh_config(user)
    inventory = load_inventory(path)
    plan = plan_cluster(inventory, resolve_address, lambda host: host_name(host, ssh, user))
    return plan.name, {member.name for member in plan.members}


def _living(name: str) -> ClusterView | None:
    """The cluster of that name, if one answers."""
    try:
        with open_cluster(name, None) as client:
            return client.view()
    except (ApiError, SappersError):
        return None


def _warn_of_old(saved: Backup, state: ClusterState, console: Console) -> None:
    """Two clusters that run the same are rarely meant."""
    old = _living(saved.cluster)
    if old is not None and old.cluster_id == state.cluster_id:
        text = f"cluster {saved.cluster} still answers: what it runs will run twice"
        console.print(plain(text, "bold yellow"), soft_wrap=True)


def _is_done(name: str, digest: str) -> bool:
    """Whether that cluster is of this very backup already: an interrupted run goes on."""
    try:
        with open_cluster(name, None) as client:
            return decoded(client.state_json(), _Restored).restored == digest
    except SappersError:
        return False


def _require_consent(living: ClusterView, name: str, *, replace: bool, confirm: str | None) -> None:
    """Asks twice before what runs is ended: by option and by name.

    Raises:
        BackupError: It was not said.
    """
    runs = [one.name for one in living.workloads if one.role == "application"]
    if not runs:
        return
    what = f"cluster {name} answers, and runs {', '.join(runs[:5])}"
    if not replace:
        hint = "restore onto other hosts; with --replace all that is not in the backup ends there"
        raise BackupError(what, hint=hint)
    if confirm is None and sys.stdin.isatty():
        confirm = typer.prompt(f"{what}. What is not in the backup ends. Type its name to go on")
    if confirm != name:
        raise BackupError(f"{what}; nothing was changed", hint=f"say --confirm {name} as well")


def unknown_keys(brought: Sequence[ImageKey], known: Sequence[ImageKey]) -> list[ImageKey]:
    """Keys of a backup that the cluster does not trust: never did, or does no more."""
    trusted = {one.key for one in known}
    return [one for one in brought if one.key not in trusted]


def require_trust(new: Sequence[ImageKey], name: str, console: Console, *, trusted: bool) -> None:
    """Lists keys whose images would run, and asks.

    Raises:
        BackupError: It was not said that they may.
    """
    if not new:
        return
    what = f"the backup brings keys that cluster {name} does not trust"
    console.print(plain(f"{what}; whatever they signed would run:", "bold yellow"), soft_wrap=True)
    for one in new:
        console.print(plain(f"  {one.key} {one.owner}"), soft_wrap=True)
    if trusted or (sys.stdin.isatty() and typer.confirm("Trust them?", err=True)):
        return
    raise BackupError(
        f"{what}; nothing is restored", hint="compare them with their owners; --trust-image-keys"
    )


def _set_aside(home: ControlHome, name: str, hosts: set[str], console: Console) -> None:
    """Forget who founded a cluster of that name on hosts that the inventory does not name."""
    folder = home.cluster(name)
    founding = load_founding(folder)
    if founding is None or founding.founder in hosts:
        return
    for file in (FOUNDING_FILE, RECORD_FILE):
        if (folder / file).exists():
            (folder / file).rename(folder / f"{file}{ASIDE}")
    sync_folder(folder)
    text = f"no member of the old cluster answers; its record is in {folder}/*{ASIDE}"
    console.print(plain(text), soft_wrap=True)


def give_record(client: OperatorClient, record: SavedRecord, state: ClusterState) -> list[str]:
    """Give each member the events of a backup that did not come with the state.

    Returns:
        What did not come to be on record there, and why.

    Raises:
        ApiError: As `OperatorClient.call`.
    """
    first = record.proven_from
    if not first:
        return []

    def give(member: Reached) -> int:
        # Whoever answers this has applied the restore.
        client.events_at(member, EventFilter(first=state.event_count), 1)
        before, has_from = 0, client.give_events_at(member, ())
        while has_from > first and has_from != before:
            page = _last_that_fit(record.before(has_from))
            before, has_from = has_from, client.give_events_at(member, page)
        return has_from

    reached = client.everyone()
    alive = {
        one.member.name for one in client.view().members if one.member.state is MemberState.ALIVE
    }
    problems = [
        f"{name} cannot be reached, and has not all events from {first} on"
        for name in sorted(alive - {member.name for member in reached})
    ]
    for member, answer in ask_all(reached, give).items():
        if isinstance(answer, ApiError):
            why = f"{answer.message}; run it again"
        elif answer > first:
            why = f"it keeps them from {answer} on, by its limits on size and age"
        else:
            continue
        problems.append(f"{member.name} has not all events from {first} on: {why}")
    return problems


def _last_that_fit(events: Sequence[Event]) -> Sequence[Event]:
    """The newest of some events that one call can bring."""
    size = 0
    for count, event in enumerate(reversed(events)):
        size += len(event_line(event)) + 1
        if size > PAGE_BYTES:
            return events[len(events) - count :]
    return events


def give_pieces(client: OperatorClient, pieces: Sequence[RestorePiece]) -> None:
    """Give the cluster a backup's state; it is the backup's when this returns.

    Raises:
        BackupError: It keeps not all pieces until the last one comes.
        ApiError: As `OperatorClient.call`.
    """
    for _ in range(ATTEMPTS):
        for piece in pieces:
            _give_piece(client, piece)
        if decoded(client.state_json(), _Restored).restored == pieces[0].digest:
            return
    raise BackupError(
        f"the cluster keeps not all of {len(pieces)} pieces of the backup: nothing is restored",
        hint="is a member's clock an hour ahead or behind, or does somebody restore another one?",
    )


def _give_piece(client: OperatorClient, piece: RestorePiece) -> None:
    try:
        client.give_piece(piece)
    except ApiError as error:
        if error.status == HTTPStatus.CONFLICT and not error.hint:
            error.hint = "restore onto other hosts, or say --replace"
        raise


def _give_images(
    client: OperatorClient,
    saved: Backup,
    state: ClusterState,
    local: LocalImages,
    console: Console,
) -> None:
    """Push what this machine has; of the rest the manifests are in the backup."""
    manifests = {hashlib.sha256(one.manifest).hexdigest(): one for one in saved.taken.manifests}
    for digest, image in sorted(state.images.items()):
        if local.store.manifest(digest) is not None and not local.store.missing_chunks(digest):
            push_image(client, local, digest, wait=False, quiet=True)
            continue
        if digest in manifests:
            ImageCalls(client).put(digest, manifests[digest])
        text = f"image {image.name} ({digest[:12]}) is not on this machine: guests wait for it"
        console.print(plain(text, "yellow"), soft_wrap=True)
        console.print(plain("  sappers-deploy image push, from where it was built"), soft_wrap=True)

"""`sappers-deploy image trust`: whose images the cluster runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sappers.api.image_calls import ImageCalls
from sappers.assembly.images import LocalImages
from sappers.cli.image_names import PREFIX_MIN
from sappers.cli.output import Form, Output
from sappers.cli.session import Address, Cluster, open_cluster
from sappers.cli.status_view import plain
from sappers.config import control_home
from sappers.errors import ConfigError
from sappers.model.image import ImageKey, is_public_key

trust_app = typer.Typer(help="Whose images the cluster runs.", no_args_is_help=True)


@trust_app.command("ls")
def list_keys(*, cluster: Cluster = None, addr: Address = None, output: Form = Output.TEXT) -> None:
    """List the public keys that the cluster trusts; this machine's is marked."""
    with open_cluster(cluster, addr) as client:
        keys = ImageCalls(client).keys()
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(keys).decode())
        return
    own = LocalImages(control_home(os.environ)).own_key()
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    # Whole, so that it can be copied; what is short of room is the owner.
    table.add_column("KEY", no_wrap=True)
    table.add_column("OWNER", overflow="ellipsis")
    table.add_column("", no_wrap=True)
    for one in keys.keys:
        mine = own is not None and own.key == one.key
        table.add_row(Text(one.key), plain(one.owner), Text("here" if mine else "", "green"))
    Console().print(table)


@trust_app.command("add")
def add_key(
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="64 hex digits; this machine's own key if not given."),
    ] = None,
    *,
    owner: Annotated[str | None, typer.Option("--owner", help="Whose it is.")] = None,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Let the cluster run images that this key signed."""
    wanted = _wanted(key, owner)
    with open_cluster(cluster, addr) as client:
        ImageCalls(client).trust(wanted)
    line = f"images signed by {wanted.owner} ({wanted.key}) are trusted"
    Console(stderr=True).print(plain(line), soft_wrap=True)


@trust_app.command("rm")
def remove_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key, or at least 8 digits of it.")],
    *,
    cluster: Cluster = None,
    addr: Address = None,
) -> None:
    """Let the cluster run nothing more that only this key signed. The last key cannot go."""
    with open_cluster(cluster, addr) as client:
        calls = ImageCalls(client)
        found = one_key(calls.keys().keys, key)
        calls.distrust(found.key)
    line = f"images that only {found.owner} ({found.key}) signed are trusted no more"
    Console(stderr=True).print(plain(line), soft_wrap=True)


def one_key(keys: Sequence[ImageKey], text: str) -> ImageKey:
    """The key that begins so.

    Raises:
        ConfigError: None does, or more than one.
    """
    found = [one for one in keys if len(text) >= PREFIX_MIN and one.key.startswith(text)]
    if len(found) != 1:
        many = f"{len(found)} keys begin with {text}" if found else f"the cluster has no key {text}"
        if len(text) < PREFIX_MIN:
            many = f"{text!r} is too short for a key: {PREFIX_MIN} digits are enough"
        raise ConfigError(many, hint="sappers-deploy image trust ls shows them")
    return found[0]


def _wanted(key: str | None, owner: str | None) -> ImageKey:
    own = LocalImages(control_home(os.environ)).own_key(create=key is None)
    if key is None:
        assert own is not None
        return ImageKey(own.key, owner or own.owner)
    if not is_public_key(key):
        raise ConfigError(f"{key!r} is no public key: 64 hex digits are")
    if owner is None:
        raise ConfigError("whose key is it?", hint="--owner NAME says it, for `image trust ls`")
    return ImageKey(key, owner)

"""`sappers-deploy image`: images from their definitions to the members, and back."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from sappers.cli.late import add_commands

_COMMANDS = {
    "build": "sappers.cli.image_build:build",
    "ls": "sappers.cli.image_list:list_images",
    "inspect": "sappers.cli.image_inspect:inspect",
    "push": "sappers.cli.image_transfer:push",
    "pull": "sappers.cli.image_transfer:pull",
    "warm": "sappers.cli.image_transfer:warm",
    "verify": "sappers.cli.image_keep:verify",
    "rm": "sappers.cli.image_keep:remove",
    "prune": "sappers.cli.image_keep:prune",
    "export": "sappers.cli.image_keep:export",
    "import": "sappers.cli.image_keep:import_",
    "seed": "sappers.cli.image_seed:seed",
    "schema": "sappers.cli.image_build:schema",
}
_GROUPS = {"trust": "sappers.cli.image_trust:trust_app"}


def image_app(words: Sequence[str]) -> typer.Typer:
    """What `image` and these words ask for."""
    app = typer.Typer(
        help="Build images, give them to the cluster, and keep them in order.", no_args_is_help=True
    )
    add_commands(app, _COMMANDS, _GROUPS, words)
    return app

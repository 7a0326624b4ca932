"""`sappers-deploy image`: images from their definitions to the members, and back."""

from __future__ import annotations

import typer

from sappers.cli.image_build import build, schema
from sappers.cli.image_keep import export, import_, prune, remove, verify
from sappers.cli.image_list import inspect, list_images
from sappers.cli.image_seed import seed
from sappers.cli.image_transfer import pull, push, warm
from sappers.cli.image_trust import trust_app

image_app = typer.Typer(
    help="Build images, give them to the cluster, and keep them in order.", no_args_is_help=True
)

image_app.command()(build)
image_app.command("ls")(list_images)
image_app.command()(inspect)
image_app.command()(push)
image_app.command()(pull)
image_app.command()(warm)
image_app.command()(verify)
image_app.command("rm")(remove)
image_app.command()(prune)
image_app.command()(export)
image_app.command("import")(import_)
image_app.add_typer(trust_app, name="trust")
image_app.command()(seed)
image_app.command()(schema)

"""Appliances: the builder with what other rooms give it, and seeds that make them members."""

from __future__ import annotations

from pathlib import Path

import sappers
from sappers.config import ControlHome
from sappers.errors import ConfigError
from sappers.images.appliance_root import Archive
from sappers.images.appliance_seed import write_seed_disk
from sappers.images.builder import Report
from sappers.images.packer import AgentKit, ApplianceBuilder
from sappers.images.store import FolderImageStore
from sappers.lab.base_root import archive_settings, debian_sources
from sappers.launchers.accelerator import detect_accelerator
from sappers.provisioner.bootstrap.bundle import build_bundle, find_sources
from sappers.provisioner.bootstrap.packages import PACKAGES
from sappers.provisioner.bootstrap.seed import SeedOrder, make_seed
from sappers.provisioner.bootstrap.units import render_unit
from sappers.provisioner.control.identity import load_control_identity
from sappers.provisioner.places import UNPACK_SCRIPT
from sappers.security.signing import SigningKey

_PYTHON = "py311"  # of the Debian that appliances are made of


def appliance_builder(store: FolderImageStore, cache: Path, key: SigningKey) -> ApplianceBuilder:
    """The builder of appliances, with the agent of this checkout.

    Args:
        cache: The images' part of this machine's cache; bundles are beside it.
    """

    def agent(report: Report) -> AgentKit:
        sources = find_sources(Path(sappers.__file__).parent)
        bundle = build_bundle(sources, cache.parent / "bundles", report)
        return AgentKit(
            bundle=bundle.path,
            version=f"{bundle.digest[:12]}-{_PYTHON}",
            unit=render_unit(),
            unpack=UNPACK_SCRIPT.read_text(),
            packages=PACKAGES,
        )

    return ApplianceBuilder(
        store,
        key,
        cache,
        agent=agent,
        archive=lambda: Archive(debian_sources(), archive_settings()),
        accelerator=lambda: detect_accelerator().kind,
    )


def write_seed(home: ControlHome, cluster: str, order: SeedOrder, out: Path) -> str:
    """Write a seed's disk for one new member of a cluster; the member's id.

    Raises:
        ConfigError: This machine does not have the cluster's secrets, or the order is wrong.
        ImageError: The disk cannot be written.
    """
    identity = load_control_identity(home.cluster(cluster))
    if identity is None:
        raise ConfigError(
            f"this machine lacks the secrets of cluster {cluster}, which its seeds are made from",
            hint="make it on the machine that bootstrapped the cluster",
        )
    files = make_seed(cluster, identity, order)
    write_seed_disk(out, files)
    return files["node-id"].decode().strip()

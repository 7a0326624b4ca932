"""The playbook that says what bootstrap does to hosts: its plays are steps of every host's way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sappers.errors import PlaybookError
from sappers.provisioner.bootstrap.cluster_images import IMAGES_PHASE
from sappers.provisioner.bootstrap.phases.connect import Connect
from sappers.provisioner.bootstrap.phases.consul import Consul
from sappers.provisioner.bootstrap.phases.play import IDENTITY_PLAY, RESTART_PLAY, START_PLAY
from sappers.provisioner.bootstrap.plan import ClusterPlan
from sappers.provisioner.bootstrap.recap import CLUSTER_PHASE
from sappers.provisioner.playbook.language.load import load_playbook
from sappers.provisioner.playbook.language.load_inherited import as_tuple
from sappers.provisioner.playbook.language.model import Play

_NEEDED_PLAYS = (IDENTITY_PLAY, START_PLAY, RESTART_PLAY)


def load_plays(path: Path) -> tuple[Play, ...]:
    """The plays of a playbook that makes hosts members.

    Raises:
        PlaybookError: It is wrong, or lacks a play that the run goes on from.
    """
    plays = load_playbook(path)
    names = [play.name for play in plays]
    for play in plays:
        if not isinstance(play.name, str) or names.count(play.name) > 1:
            raise play.place.error("each play of bootstrap has a name of its own")
        if play.serial and [str(one) for one in as_tuple(play.serial)] != ["1"]:
            raise play.place.error("bootstrap knows `serial: 1` only, or none")
    for name in _NEEDED_PLAYS:
        if name not in names:
            raise PlaybookError(f"there is no play named {name}", path=str(path))
    return plays


def titles(plan: ClusterPlan, plays: Sequence[Play]) -> tuple[str, ...]:
    """What hosts go through, in order; Consul only where some host is to have it."""
    consul = (Consul.title,) if plan.consul_addresses else ()
    names = (str(play.name) for play in plays)
    return (Connect.title, *names, CLUSTER_PHASE, IMAGES_PHASE, *consul)

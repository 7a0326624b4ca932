"""The last step of bootstrap: the running cluster trusts this machine's images and gets them.

They go through the API, once, and the members spread them among themselves; a host that joins
later needs nobody to send them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sappers.errors import SappersError
from sappers.model.image import ImageKey
from sappers.provisioner.bootstrap.recap import Outcome, PhaseResult
from sappers.provisioner.bootstrap.run import HostRun

IMAGES_PHASE = "images"


class ClusterImages(Protocol):
    """This machine's images, and the cluster as their place; the composition root gives one."""

    def own_key(self, *, create: bool) -> ImageKey | None:
        """The public key that this machine's images are signed with; None while there is none.

        Raises:
            IdentityError: The key's file is damaged.
        """

    def wanted(self, names: Sequence[str] | None) -> Mapping[str, str]:
        """Digests of images of this machine by name; None: of all that can be guests.

        Raises:
            ImageError: There is no image of such a name.
        """

    def is_trusted(self, hosts: Sequence[HostRun], key: ImageKey) -> bool:
        """Whether the hosts' cluster runs what this key signed. Raises ApiError."""

    def trust(self, hosts: Sequence[HostRun], key: ImageKey) -> None:
        """Let it. Raises ApiError."""

    def lacking(self, hosts: Sequence[HostRun], digests: Sequence[str]) -> Sequence[str]:
        """Those that the cluster does not keep, or some host has not whole. Raises ApiError."""

    def push(self, hosts: Sequence[HostRun], digest: str, note: Callable[[str], None]) -> None:
        """Give it an image and wait until every member has it.

        Raises:
            SappersError: This machine's image is damaged, or a member does not take it.
        """


def spread_images(
    hosts: Sequence[HostRun],
    images: ClusterImages,
    wanted: Mapping[str, str],
    note: Callable[[str], None],
    first: Callable[[], Sequence[str]] = tuple,
) -> tuple[dict[str, PhaseResult], SappersError | None]:
    """Push what the cluster lacks; each host's result, and what went wrong.

    `first` is what else the cluster is given before; it says what that changed.
    """
    began = time.monotonic()
    changes: list[str] = []
    error: SappersError | None = None
    try:
        changes.extend(first())
        key = images.own_key(create=True)
        if key is not None and not images.is_trusted(hosts, key):
            images.trust(hosts, key)
            changes.append(f"image key {key.key[:12]}")
        lacking = set(images.lacking(hosts, tuple(wanted.values())))
        for name, digest in wanted.items():
            if digest in lacking:
                note(f"{name}: pushing")
                images.push(hosts, digest, note)
                changes.append(f"image {name}")
    except SappersError as problem:
        error = problem
    outcome = Outcome.FAILED if error else Outcome.CHANGED if changes else Outcome.OK
    if not wanted and outcome is Outcome.OK:
        outcome = Outcome.SKIPPED
    return _results(hosts, outcome, changes, time.monotonic() - began), error


def plan_images(
    hosts: Sequence[HostRun], images: ClusterImages, wanted: Mapping[str, str]
) -> dict[str, PhaseResult]:
    """What `spread_images` would do; a cluster that does not answer is one that has nothing."""
    began = time.monotonic()
    running = [host for host in hosts if host.running]
    lacking = set(wanted.values())
    if running and wanted:
        with contextlib.suppress(SappersError):
            lacking = set(images.lacking(running, tuple(wanted.values())))
    changes = [f"image {name}" for name, digest in wanted.items() if digest in lacking]
    outcome = Outcome.CHANGED if changes else Outcome.OK if wanted else Outcome.SKIPPED
    return _results(hosts, outcome, changes, time.monotonic() - began)


def _results(
    hosts: Sequence[HostRun], outcome: Outcome, changes: Sequence[str], seconds: float
) -> dict[str, PhaseResult]:
    # The members share them out among themselves, so that what happened to one happened to all.
    result = PhaseResult(IMAGES_PHASE, outcome, tuple(changes), seconds=seconds)
    return {host.name: result for host in hosts}

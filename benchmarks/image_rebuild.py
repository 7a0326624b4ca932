"""What has to be sent of an image that was built again after one of its files changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sappers
from benchmarks.container_image import write_container
from benchmarks.figures import Row, Section
from benchmarks.nanos import nanos_problem
from benchmarks.rig import Rig
from benchmarks.uplink import sent_bytes

SHARE_MAX = 0.05
_UNIKERNELS = Path(sappers.__file__).parents[1] / "unikernels"
_CONTAINER = """
kinds = ["microvm"]
memory_mib = 256

[application]
container = "container.tar"
"""
_CONTAINER_NAME = "bench-container"


@dataclass(frozen=True)
class Subject:
    """An image that is built twice.

    Attributes:
        stored_name: What the store calls it.
        change: Changes one file of its definition's folder.
    """

    what: str
    definition: str
    stored_name: str
    kind: str
    change: Callable[[Path], None]


def measure(rig: Rig) -> Section:
    """Pushes each image, changes a file, builds, pushes again; counts what went over the wire."""
    definitions = rig.home.data / "definitions"
    rows, notes = [], []
    for subject in _subjects():
        _define(definitions, subject.definition)
        first = _sent(rig, definitions, subject)
        subject.change(definitions / subject.definition)
        again = _sent(rig, definitions, subject)
        rows.append(_row(subject.what, first, again))
    if problem := nanos_problem():
        notes.append(problem)
    notes.append("One line of one file changed; bytes that this machine sent, headers included.")
    return Section("An image built again", rows, notes)


def _subjects() -> Iterator[Subject]:
    hello = "hello, one line of hello.py"
    yield Subject(f"microvm {hello}", "hello", "hello", "microvm", _change_hello)
    if not nanos_problem():
        yield Subject(f"nanos {hello}", "hello", "hello-nanos", "nanos", _change_hello)
    yield Subject(
        "container of 60 MiB, one small file",
        _CONTAINER_NAME,
        _CONTAINER_NAME,
        "microvm",
        lambda folder: write_container(folder / "container.tar", b"changed, and longer\n"),
    )


def _define(definitions: Path, name: str) -> None:
    folder = definitions / name
    shutil.rmtree(folder, ignore_errors=True)
    if name != _CONTAINER_NAME:
        shutil.copytree(_UNIKERNELS / name, folder)
        return
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(_CONTAINER)
    write_container(folder / "container.tar", b"as it was\n")


def _change_hello(folder: Path) -> None:
    source = folder / "hello.py"
    source.write_text(source.read_text().replace("Hello from", "Good day from"))


def _sent(rig: Rig, definitions: Path, subject: Subject) -> int:
    rig.say(f"building and pushing {subject.what}")
    built = ("--kind", subject.kind, "--definitions", str(definitions))
    rig.deploy("image", "build", subject.definition, *built)
    before = sent_bytes(rig.lab.plan)
    rig.deploy("image", "push", subject.stored_name)
    return sent_bytes(rig.lab.plan) - before


def _row(what: str, first: int, again: int) -> Row:
    share = again / first
    return Row(
        what,
        f"{again / 1e6:.2f} of {first / 1e6:.1f} MB: {share:.1%}",
        f"≤ {SHARE_MAX:.0%}",
        share <= SHARE_MAX,
        share * 100,
        "%",
    )

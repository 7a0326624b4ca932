"""How the way of an image is shown: a live bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from sappers.api.image_push import MemberShare
from sappers.cli.harmless import harmless

_REFRESHES_PER_SECOND = 8


class ImageProgress:
    """Satisfies `PushWatcher` and `PullWatcher`; put up for the time of one image.

    Args:
        console: Where to show it; stderr, so that stdout stays the result's.
        name: The image's.
    """

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = harmless(name)
        self._lock = threading.Lock()
        self._note = ""
        self._bar = Progress(
            TextColumn(self._name, markup=False),
            BarColumn(bar_width=16),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._bytes = self._bar.add_task("", total=None)
        self._total = 0
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def sending(self, content_bytes: int) -> None:
        """So much more is to be sent."""
        self._more(content_bytes, "sending")

    def sent(self, content_bytes: int) -> None:
        """So much of it was confirmed."""
        self._bar.advance(self._bytes, content_bytes)

    def fetching(self, content_bytes: int) -> None:
        """So much is to be fetched."""
        self._more(content_bytes, "fetching")

    def fetched(self, content_bytes: int) -> None:
        """So much of it is here."""
        self._bar.advance(self._bytes, content_bytes)

    def spread(self, members: Sequence[MemberShare]) -> None:
        """How far the members are."""
        text = share_text(members)
        with self._lock:
            said, self._note = self._note, text
            moved = self._total > 0
        if moved and text != said:
            self._say(text)

    def _more(self, content_bytes: int, verb: str) -> None:
        with self._lock:
            self._total += content_bytes
        self._bar.update(self._bytes, total=self._total)
        if content_bytes:
            self._say(f"{verb} {size_text(content_bytes)}")

    def _say(self, text: str) -> None:
        if not self._console.is_terminal:
            line = Text(f"{self._name}: {harmless(text)}")
            self._console.print(line, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        with self._lock:
            note = Text(harmless(self._note), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(self._bar, note)


def size_text(size_bytes: int) -> str:
    """A size for people."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def share_text(members: Sequence[MemberShare]) -> str:
    """`2 of 3 members have it whole`, and why the others do not."""
    whole = sum(one.is_whole for one in members)
    text = f"{whole} of {len(members)} members have it whole"
    why = [f"{one.name}: {one.reason}" for one in members if one.reason and not one.is_whole]
    return "; ".join((text, *why))

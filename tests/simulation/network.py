"""The network between hosts: it delays, loses, repeats, reorders and cuts, as the seed says."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.loop import Life, VirtualLoop


@dataclass
class Weather:
    """How links are now.

    Attributes:
        slowest_seconds: A message takes up to so long.
        loss: The chance that one is lost.
        repetition: The chance that one comes twice.
        reorders: Whether a later one may come earlier.
    """

    slowest_seconds: float = 0.003
    loss: float = 0.0
    repetition: float = 0.0
    reorders: bool = False


class Network:
    """Packets from host to host, by id; each link has a chance of its own.

    So what happens on one link does not depend on the order in which another one is used.
    """

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self._loop = loop
        self._seed = seed
        self._chances: dict[tuple[str, str], random.Random] = {}
        self._last_at: dict[tuple[str, str], float] = {}
        self.weather = Weather()
        self.cut: set[tuple[str, str]] = set()
        self.down: set[str] = set()  # hosts without power
        self.sealed_out: set[str] = set()  # hosts without the key that gossip has now
        self.addresses: dict[str, str] = {}
        self.bytes_sent: dict[str, int] = {}

    def chance(self, source: str, target: str) -> random.Random:
        """This link's own randomness."""
        link = (source, target)
        if link not in self._chances:
            name = zlib.crc32(f"{source}>{target}".encode())
            self._chances[link] = random.Random(self._seed * 2**32 + name)
        return self._chances[link]

    def passes(self, source: str, target: str) -> bool:
        """Whether anything goes from one to the other."""
        return (source, target) not in self.cut

    def talk(self, a: str, b: str) -> bool:
        """Whether both hear each other."""
        return (a, b) not in self.cut and (b, a) not in self.cut

    def send(
        self,
        source: str,
        target: str,
        life: Life,
        deliver: Callable[..., None],
        *args: Any,
        reliable: bool = False,
    ) -> None:
        """Have `deliver(*args)` called in the target's life, once, never, late or twice.

        Args:
            reliable: Over a connection that repeats what is lost: in order, once, or never.
        """
        link = (source, target)
        if link in self.cut:
            return
        weather, chance = self.weather, self.chance(source, target)
        copies = 1
        if not reliable:
            if weather.loss and chance.random() < weather.loss:
                return
            if weather.repetition and chance.random() < weather.repetition:
                copies = 2
        for _ in range(copies):
            at = self._loop.now + 0.0002 + chance.random() ** 2 * weather.slowest_seconds
            if reliable or not weather.reorders:
                at = max(at, self._last_at.get(link, 0.0) + 1e-7)
                self._last_at[link] = at
            self._loop.call_at(at, self._arrive, link, deliver, args, context=life.context)

    def _arrive(self, link: tuple[str, str], deliver: Callable[..., None], args: Any) -> None:
        if link not in self.cut:
            deliver(*args)

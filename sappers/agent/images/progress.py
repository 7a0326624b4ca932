"""How far an image is, in words that do not change with every chunk: they go through the log."""

from __future__ import annotations

from collections.abc import Collection

from sappers.agent.images.holdings import Holding
from sappers.agent.images.trouble import Trouble
from sappers.model.observation import ImageReading
from sappers.model.workload import ImageReference
from sappers.ports import Clock

WORDS_SECONDS = 3.0


class Progress:
    """Readings of images for decisions; the same words for some seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, ImageReading]] = {}

    def reading(
        self, image: ImageReference, held: Holding | None, trouble: Trouble | None
    ) -> ImageReading:
        """How an image is here."""
        if held is not None and held.whole:
            self._said.pop(image.digest, None)
            return ImageReading(whole=True)
        now = self._clock.monotonic()
        hopeless = trouble is not None and trouble.hopeless
        said_at, said = self._said.get(image.digest, (float("-inf"), None))
        if said is not None and said.hopeless is hopeless and now - said_at < WORDS_SECONDS:
            return said
        text = f"image {image.name}: "
        text += f"{held.count} of {len(held.order)} chunks" if held else "its manifest is not here"
        if trouble is not None:
            text += f"; {trouble.text}"
        reading = ImageReading(whole=False, reason=text, hopeless=hopeless)
        self._said[image.digest] = (now, reading)
        return reading

    def keep_only(self, digests: Collection[str]) -> None:
        """Forget images that no guest waits for."""
        for digest in self._said.keys() - set(digests):
            del self._said[digest]

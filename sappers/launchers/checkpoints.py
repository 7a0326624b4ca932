"""Which guests start from a template, and which templates there are: made, used, discarded, swept.

A guest never waits for a template: where there is none it boots, and one is made in the background
once no guest is booting any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from sappers.errors import ImageError, ImageUntrusted, SappersError, TemplateError
from sappers.launchers.command import GuestSpec
from sappers.launchers.template_key import template_key, this_host
from sappers.launchers.template_maker import TemplateMaker
from sappers.launchers.templates import Held, Template, TemplateFolder
from sappers.model.allocation import Allocation
from sappers.model.image import Manifest
from sappers.ports import ImageStore, Supervisor

log = structlog.get_logger(__name__)

CLONABLE = ("microvm", "nanos")
_RETRY_SECONDS = 600.0  # after a template that could not be made
_SWEEP_SECONDS = 60.0
_QUIET_POLL_SECONDS = 0.5


class Checkpoints:
    """The templates of this host, kept up.

    Args:
        root: `STATE_DIR/templates`.
        spec_of: The command line's inputs of a guest of this image and memory, of nobody yet.
        is_quiet: Whether no guest is booting.
    """

    def __init__(
        self,
        *,
        root: Path,
        images: ImageStore,
        supervisor: Supervisor,
        spec_of: Callable[[Manifest, int], GuestSpec],
        is_quiet: Callable[[], bool],
    ) -> None:
        self._images = images
        self._spec_of = spec_of
        self._is_quiet = is_quiet
        self._templates = TemplateFolder(root)
        self._maker = TemplateMaker(root, self._templates, images, supervisor)
        self._tidying = asyncio.Lock()
        self._making: dict[str, asyncio.Task[None]] = {}
        self._urgent: set[str] = set()  # somebody waits for these
        self._failures: dict[str, tuple[float, str]] = {}
        self._swept_at: float | None = None
        self._begun = False

    async def template_for(self, allocation: Allocation, manifest: Manifest) -> Held:
        """The template to start this guest from, verified.

        Raises:
            TemplateError: The guest must boot; says why.
        """
        if allocation.cold:
            raise TemplateError("as it was asked for")
        if why_not := self._why_not(manifest):
            raise TemplateError(why_not)
        if allocation.restarts:
            raise TemplateError("it was restarted before, so nothing old is used")
        key = self._key(allocation.image.digest, manifest, allocation.memory_mib)
        if not self._templates.has(key):
            raise TemplateError(self._why_none(key))
        return await asyncio.to_thread(self._templates.hold, key, time.monotonic())

    def is_held(self, held: Held) -> bool:
        """Whether guests start from it now: it was neither discarded nor given back."""
        return self._templates.is_held(held)

    async def discard(self, held: Held, reason: str) -> None:
        """A guest that started from it did not come up."""
        log.warning("template discarded", template=held.template.key[:16], reason=reason)
        await asyncio.to_thread(self._templates.discard, held.template.key)

    def make_later(self, image: str, manifest: Manifest, memory_mib: int) -> None:
        """Have a template made in the background, unless there is one or it failed lately."""
        if self._why_not(manifest):
            return
        try:
            key = self._key(image, manifest, memory_mib)
        except TemplateError as error:
            log.warning("no template", image=image[:12], reason=error.message)
            return
        failed_at, _ = self._failures.get(key, (float("-inf"), ""))
        if self._templates.has(key) or time.monotonic() - failed_at < _RETRY_SECONDS:
            return
        self._make(key, image, manifest, memory_mib)

    async def make_now(self, image: str, manifest: Manifest) -> str:
        """Have a template for guests with the image's own memory; what happened, for a person.

        Raises:
            TemplateError: None can be made; says why.
        """
        if why_not := self._why_not(manifest):
            raise TemplateError(f"{manifest.name}: {why_not}")
        key, begin = self._key(image, manifest, manifest.memory_mib), time.monotonic()
        if self._templates.has(key):
            return "a template is there already"
        self._urgent.add(key)  # one that is to be made once all is quiet is made now
        await asyncio.shield(self._make(key, image, manifest, manifest.memory_mib))
        if not self._templates.has(key):
            raise TemplateError(self._why_none(key))
        return f"a template was made in {time.monotonic() - begin:.1f} s"

    async def look_after(self, in_use: Collection[str]) -> None:
        """Give back what is not needed; to be called now and then.

        Args:
            in_use: Keys of the templates that running guests come from.
        """
        now = time.monotonic()
        if self._swept_at is not None and now - self._swept_at < _SWEEP_SECONDS:
            return
        await self._begin()
        self._swept_at = now
        await asyncio.to_thread(self._templates.release, in_use, now)
        for key in await asyncio.to_thread(self._templates.sweep, self._is_wanted):
            log.info("template removed", template=key[:16])

    async def close(self) -> None:
        """End what is being made."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self) -> None:
        """Sweep, once, what an agent left that died while it made a template."""
        async with self._tidying:
            if not self._begun:
                await self._maker.sweep()
                self._begun = True

    def _make(
        self, key: str, image: str, manifest: Manifest, memory_mib: int
    ) -> asyncio.Task[None]:
        if key in self._making:
            return self._making[key]
        spec = self._spec_of(manifest, memory_mib)
        task = asyncio.create_task(self._run(key, image, spec), name=f"template {image}")
        self._making[key] = task
        task.add_done_callback(lambda _: self._made(key))
        return task

    def _made(self, key: str) -> None:
        self._making.pop(key, None)
        self._urgent.discard(key)

    async def _run(self, key: str, image: str, spec: GuestSpec) -> None:
        begin = time.monotonic()
        # Guests come first, at any time.
        while key not in self._urgent and not self._is_quiet():  # noqa: ASYNC110
            await asyncio.sleep(_QUIET_POLL_SECONDS)
        try:
            await self._begin()
            await self._maker.make(key, image, spec)
        except (SappersError, OSError) as error:
            self._failures[key] = (time.monotonic(), str(error))
            log.warning("no template", image=image[:12], reason=str(error))
        else:
            self._failures.pop(key, None)
            took = round(time.monotonic() - begin, 1)
            log.info("template made", image=image[:12], template=key[:16], seconds=took)

    def _is_wanted(self, template: Template) -> bool:
        """Whether its image is here and it would be made again just so, or nobody can say now."""
        try:
            if manifest := self._images.manifest(template.image):
                return template.key == self._key(template.image, manifest, template.memory_mib)
            self._images.missing_chunks(template.image)
        except (ImageUntrusted, TemplateError):
            return True  # an agent that has begun may not know whom the cluster trusts
        except ImageError:
            pass
        return False

    def _why_not(self, manifest: Manifest) -> str:
        """Why guests of this image never start from templates, or empty."""
        if manifest.kind not in CLONABLE:
            return f"a {manifest.kind} guest has no templates"
        spec = self._spec_of(manifest, manifest.memory_mib)
        if manifest.kind == "nanos" and not spec.processor_random:
            return "the processor has no RDRAND, and clones would share random numbers"
        return ""

    def _key(self, image: str, manifest: Manifest, memory_mib: int) -> str:
        spec = self._spec_of(manifest, memory_mib)
        return template_key(image, spec, this_host(spec))

    def _why_none(self, key: str) -> str:
        if key in self._making:
            return "its template is being made"
        _, reason = self._failures.get(key, (0.0, ""))
        return reason or "there is no template yet"

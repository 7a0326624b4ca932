"""Time, randomness and ids come from the seed while a simulation runs, whoever asks for them."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pysyncobj.syncobj
import structlog

from sappers.agent import agent
from sappers.agent.leading import power
from sappers.agent.record import event_record
from sappers.agent.voting import genesis, vote_memory
from sappers.consensus import layer, pre_vote
from tests.simulation.loop import VirtualLoop, current_life

_BOOTED_SECONDS = 1000.0
EPOCH_SECONDS = 1_800_000_000.0
_MUST_NOT_BE_LOGGED = frozenset(
    {
        "action broke",
        "an entry is missing",
        "apply raised",
        "background work failed",
        "fetching broke",
        "registration broke",
        "routing broke",
    }
)


class _Dice:
    """Stands in for the module `random`: each host throws its own dice."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dice: dict[str, random.Random] = {}

    def _mine(self) -> random.Random:
        life = current_life()
        name = life.name.partition("#")[0] if life else ""
        if name not in self._dice:
            self._dice[name] = random.Random(f"{self._seed}/{name}")
        return self._dice[name]

    def random(self) -> float:
        return self._mine().random()

    def uniform(self, low: float, high: float) -> float:
        return self._mine().uniform(low, high)

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self._mine().getrandbits(128), version=4)


@contextmanager
def deterministic(
    loop: VirtualLoop, seed: int, tell: Callable[[str], None] | None
) -> Iterator[None]:
    """For the block: no clock, no randomness and no log but the simulation's.

    Args:
        tell: Takes each line that is logged, or None for none. What tells of a broken program is a
            failure of the loop all the same.
    """

    def monotonic() -> float:
        life = current_life()
        return life.monotonic() if life else loop.time() + _BOOTED_SECONDS

    dice = _Dice(seed)
    before = structlog.get_config()
    collecting = gc.isenabled()
    gc.disable()  # what is collected when must not depend on what ran before
    with ExitStack() as patched:
        for target, name, stand_in in (
            ("time", "monotonic", monotonic),
            ("time", "time", lambda: EPOCH_SECONDS + loop.time()),
            ("uuid", "uuid4", dice.uuid4),
        ):
            patched.enter_context(patch(f"{target}.{name}", stand_in))
        for module, name, value in (
            (layer, "monotonic", monotonic),
            (pre_vote, "random", dice),
            (pysyncobj.syncobj, "monotonicTime", monotonic),
            (pysyncobj.syncobj, "random", dice),
            (event_record.EventRecord, "run", _idle),
            (agent, "boot_clock", monotonic),
            (power, "run_fence", lambda _, facts, __: loop.fence(facts)),
            (vote_memory, "shutil", _SimulatedShutil),
            (genesis, "write_durably", lambda path, content: path.disk.replace(path, content)),
            (genesis, "remove_durably", lambda path: path.disk.remove(path)),
        ):
            patched.enter_context(patch.object(module, name, value))
        logging.disable(logging.CRITICAL)
        structlog.configure(
            processors=[_line_for(loop, tell)],
            wrapper_class=structlog.make_filtering_bound_logger(
                logging.INFO if tell else logging.ERROR
            ),
            logger_factory=lambda *_: _Nowhere(),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            structlog.configure(**before)
            if collecting:
                gc.enable()


class _SimulatedShutil:
    """As much of it as puts damaged files away."""

    @staticmethod
    def rmtree(folder: Any, *, ignore_errors: bool) -> None:
        assert ignore_errors
        for path in folder.iterdir():
            path.disk.remove(path)

    @staticmethod
    def copytree(source: Any, target: Any, *, copy_function: Callable[..., None]) -> None:
        for path in source.iterdir():
            copy_function(path, target / path.name)

    @staticmethod
    def copy2(source: Any, target: Any) -> None:
        source.disk.replace(target, source.read_bytes())


async def _idle(_: object) -> None:
    """The record of events is files of its own, which nothing waits for."""
    await asyncio.Event().wait()


class _Nowhere:
    def msg(self, _: str) -> None:
        pass

    debug = info = warning = error = exception = critical = msg


def _line_for(loop: VirtualLoop, tell: Callable[[str], None] | None) -> Any:
    def process(_: Any, method: str, event: dict[str, Any]) -> str:
        life = current_life()
        what = event.pop("event")
        event.pop("level", None)
        event.pop("exc_info", None)
        if what in _MUST_NOT_BE_LOGGED:
            loop.failures.append(f"{what} {event}")
        facts = " ".join(f"{name}={value}" for name, value in event.items())
        if tell is not None:
            tell(f"{loop.time():8.3f}  {life.name if life else '-':<9} {method}: {what} {facts}")
        return ""

    return process

"""An event loop whose clock jumps to the next timer, and lives that can be paused and ended.

Single-threaded and without any I/O: what runs when follows from the program alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

_LIFE: contextvars.ContextVar[Life] = contextvars.ContextVar("life")
OUTSIDE = contextvars.Context()  # of whatever belongs to no life, whoever began it


class Life:
    """One process's life: whatever it began runs in its context, and ends with it."""

    def __init__(self, name: str, monotonic: Callable[[], float]) -> None:
        self.name = name
        self.monotonic = monotonic
        self.is_over = False
        self.is_paused = False
        self.stash: list[Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(_LIFE.set, self)
        self._at_end: list[Callable[[], None]] = []

    def at_end(self, call: Callable[[], None]) -> None:
        """Call this once the life is over."""
        self._at_end.append(call)

    def end(self) -> None:
        """Nothing of it ever runs again, no `finally` either: as after kill -9."""
        if not self.is_over:
            self.is_over = True
            self.stash.clear()
            for call in self._at_end:
                call()


# Whose code runs now; asked so often that a function of Python's would show.
current_life: Callable[[], Life | None] = partial(_LIFE.get, None)


class Handle:
    """What is to be called: what asyncio's handles are, as far as anybody here asks them."""

    __slots__ = ("args", "at", "call", "context", "is_cancelled")

    def __init__(
        self, call: Callable[..., Any], args: Any, context: contextvars.Context | None, at: float
    ) -> None:
        self.call = call
        self.args = args
        self.context = contextvars.copy_context() if context is None else context
        self.at = at
        self.is_cancelled = False

    def when(self) -> float:
        """When it is due."""
        return self.at

    def cancel(self) -> None:
        """Have it passed over when its time comes."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Whether it is."""
        return self.is_cancelled


class VirtualLoop(asyncio.AbstractEventLoop):
    """Implements what asyncio's tasks, futures and timeouts need of a loop, and no more.

    Attributes:
        now: The time.
        failures: Errors that nobody caught.
        callbacks: How many were run.
        fence: What the command does that cuts a host off from power.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()
        self.failures: list[str] = []
        self.callbacks = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.fence: Callable[[Mapping[str, str]], Awaitable[tuple[bool, str]]]

    # What asyncio asks

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Any:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        # Kept: one that is collected would run its `finally`, which no process killed does.
        self.tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, context, self.now)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """No threads: it is done at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, Exception):  # no cancellation, no loss of power
            self.failures.append(f"{context.get('message')}: {error!r}")

    def close(self) -> None:
        """Let go of all tasks; whatever they would do at their end does not matter any more."""
        self._ready.clear()
        self._timers.clear()
        for task in self.tasks:
            coroutine = task.get_coro()
            task._log_destroy_pending = False
            if not task.done():
                with contextlib.suppress(BaseException):
                    coroutine.close()
        self.tasks.clear()

    # Running

    def resume(self, life: Life) -> None:
        """Let a paused life go on with all that happened to it meanwhile."""
        life.is_paused = False
        self._ready.extendleft(reversed(life.stash))
        life.stash.clear()

    def run_until(self, deadline: float) -> None:
        """Run everything that is due until then."""
        ready, timers = self._ready, self._timers
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while True:
                while ready:
                    self._run(ready.popleft())
                while timers and timers[0][2].is_cancelled:
                    heapq.heappop(timers)
                if not timers or timers[0][0] > deadline:
                    self.now = deadline
                    return
                self.now = max(self.now, timers[0][0])
                while timers and timers[0][0] <= self.now:
                    ready.append(heapq.heappop(timers)[2])
        finally:
            asyncio._set_running_loop(before)

    def _run(self, handle: Handle) -> None:
        if handle.is_cancelled:
            return
        life = handle.context.get(_LIFE)
        if life is not None:
            if life.is_over:
                return
            if life.is_paused:
                life.stash.append(handle)
                return
        self.callbacks += 1
        try:
            handle.context.run(handle.call, *handle.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"in {handle.call!r}", "exception": error})

"""The raft process's log: lines of JSON on its standard error, the library's among them."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_log = structlog.get_logger()


class _ToStructlog(logging.Handler):
    """Gives the library's own messages the form of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.log(max(record.levelno, logging.DEBUG), record.getMessage(), library=record.name)


class Threshold:
    """A structlog processor that drops what is of a lower level."""

    def __init__(self) -> None:
        self._least = logging.INFO

    def set(self, level: str) -> None:
        """Let pass what is of this level or above."""
        self._least = logging.getLevelNamesMapping().get(level, logging.INFO)

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        """See structlog."""
        level = "error" if method == "exception" else method
        if logging.getLevelNamesMapping().get(level.upper(), logging.INFO) < self._least:
            raise structlog.DropEvent
        return event


def log_lines(facts: MutableMapping[str, Any], threshold: Threshold) -> None:
    """Log so from now on.

    Args:
        facts: Stand in each line, as they are then.
        threshold: What is let pass.
    """
    structlog.configure(
        processors=[
            threshold,
            lambda _, __, event: {**facts, **event},
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING)

"""Logs: JSON, one object a line, each with the member, the Raft term and the log index."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARN,
    "ERROR": logging.ERROR,
}


def configure_logs(level: str, facts: Callable[[], Mapping[str, Any]]) -> None:
    """Log to standard error from now on; `facts()` is added to each line."""

    def add_facts(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in facts().items():
            event.setdefault(key, value)
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_facts,
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.PositionalArgumentsFormatter()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(formatter)
    logging.getLogger().handlers[:] = [lines]
    # asyncio warns of every stream that was upgraded to TLS when its other end closes.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    set_log_level(level)
    structlog.configure(
        # The level is asked for each line, so that it can change while the agent runs.
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def current_log_level() -> str:
    """What is logged now: this level or above."""
    now = logging.getLogger().level
    return next(name for name, level in LEVELS.items() if level >= now)


def set_log_level(level: str) -> None:
    """Log what is of this level or above from now on."""
    logging.getLogger().setLevel(LEVELS[level])
    # Libraries log what concerns them at INFO (each call, for one); else their warnings suffice.
    theirs = logging.INFO if level == "DEBUG" else max(logging.WARN, LEVELS[level])
    for noisy in ("httpx", "httpcore", "uvicorn", "nats"):
        logging.getLogger(noisy).setLevel(theirs)

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sappers.agent.logs import configure_logs, set_log_level


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_level_changes_while_loggers_are_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", lambda: {"member": "node1"})
    ours, library = structlog.get_logger("sappers.test"), logging.getLogger("a.library")
    for level in ("INFO", "DEBUG", "ERROR"):
        set_log_level(level)
        ours.debug("fine", during=level)
        ours.info("plain", during=level)
        ours.error("bad", during=level)
        library.warning("of a library in %s", level)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said = [(line["event"], line.get("during")) for line in lines]
    assert said == [
        ("plain", "INFO"),
        ("bad", "INFO"),
        ("of a library in INFO", None),
        ("fine", "DEBUG"),
        ("plain", "DEBUG"),
        ("bad", "DEBUG"),
        ("of a library in DEBUG", None),
        ("bad", "ERROR"),
    ]
    assert {line["member"] for line in lines} == {"node1"}

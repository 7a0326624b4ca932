"""docs/messaging.md's table of all subjects, held against the code; neither has one more."""

from __future__ import annotations

import inspect
import itertools
import re
from pathlib import Path

import pytest

import sappers
from sappers.agent.hub import alert_reports, durable, inbox, relay
from sappers.hub import credentials
from sappers.model import commands, event, repair, signed, subjects
from sappers.model.suspicion import Pulse

PACKAGE = Path(sappers.__file__).parent
PAGE = PACKAGE.parent / "docs" / "messaging.md"
# What the code begins subjects with, beside functions whose docstring says so.
PREFIXES = {subjects.EVENTS, subjects.ALERTS, subjects.INBOXES}
# These read subjects, or compare them.
READERS = {"member_of", "allocation_of", "matches"}
CALLS = ("store", "fetch", "settle")


def rows() -> dict[str, str]:
    """The table: payload by subject, `*` for what stands in `<>`; `.step` follows on its row."""
    section = PAGE.read_text().partition("\n## All subjects\n")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    for line in section.splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        before = ""
        for word in re.findall(r"`([^`]+)`", cells[0]):
            before = f"{before.rpartition('.')[0]}{word}" if word.startswith(".") else word
            found[re.sub(r"<[^>]+>", "*", before)] = cells[1]
    return found


def in_code() -> dict[str, bool]:
    """Every subject of `subjects.py`, `*` for each argument; whether it is only a beginning."""
    found = {}
    for name, value in vars(subjects).items():
        if name.isupper() and isinstance(value, str):
            found[value] = value in PREFIXES
        elif inspect.isfunction(value) and name not in READERS:
            names = inspect.signature(value).parameters
            for arguments in itertools.product(*(CALLS if n == "call" else "*" for n in names)):
                found[value(*arguments)] = (value.__doc__ or "").startswith("Prefix")
    return found


def is_about(row: str, subject: str, *, begins: bool) -> bool:
    return row == subject or (
        begins and re.fullmatch(re.escape(subject) + r"(\.\*)*(\.\*|\.>)", row) is not None
    )


@pytest.mark.parametrize("subject", in_code())
def test_every_subject_of_the_code_is_in_the_table(subject: str) -> None:
    begins = in_code()[subject]
    assert any(is_about(row, subject, begins=begins) for row in rows()), f"not in {PAGE.name}"


@pytest.mark.parametrize("row", rows())
def test_every_subject_of_the_table_is_in_the_code(row: str) -> None:
    if row.startswith("$JS."):
        assert row in credentials._AGENT_SAYS
        return
    known = in_code().items()
    assert any(is_about(row, subject, begins=begins) for subject, begins in known), "not in code"


def test_no_subject_is_spelt_out_anywhere_else() -> None:
    words = "|".join(sorted({row.split(".")[1] for row in rows() if row.startswith("sappers.")}))
    spelt = re.compile(rf"""f?["']sappers\.({words})\.[^"']*["']""")
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != Path(subjects.__file__) and path.name != "__init__.py":
            assert not spelt.search(path.read_text()), path


@pytest.mark.parametrize(
    ("subject", "struct"),
    [
        (subjects.HEARTBEAT, relay.Heartbeat),
        (subjects.pulse("*"), Pulse),
        (subjects.guest_health("*"), inbox._Push),
        (subjects.guest_alert("*"), alert_reports._Report),
        *zip(
            [subjects.guest_durable("*", call) for call in CALLS],
            (durable._Store, durable._Fetch, durable._Settle),
            strict=True,
        ),
    ],
)
def test_a_payload_has_the_fields_that_the_table_says(subject: str, struct: type) -> None:
    said = re.search(r"\{([^}]*)\}", rows()[subject])
    assert said is not None
    assert re.findall(r'"(\w+)"', said[1]) == list(struct.__struct_fields__)


@pytest.mark.parametrize(
    ("subject", "name", "module"),
    [
        (subjects.ENTRIES, "Signed", signed),
        (subjects.ENTRIES, "Entry", commands),
        (subjects.event("*"), "Event", event),
        (subjects.repair_claim("*"), "", repair),
    ],
)
def test_what_the_table_calls_a_payload_is_there(subject: str, name: str, module: object) -> None:
    full = ".".join(filter(None, (module.__name__.removeprefix("sappers."), name)))
    assert full in rows()[subject]
    assert not name or hasattr(module, name)

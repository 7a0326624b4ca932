"""Expressions of templates, what Ansible makes of them (recorded), and what we do.

`python -m tests.corpus.expressions` records. An expression is worth a value, or it is an error;
what the error says is Ansible's own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sappers.errors import InventoryError, PlaybookError
from sappers.provisioner.inventory.inventory import load_inventory
from sappers.provisioner.playbook.tasks.variables import HostFacts, Scope
from sappers.provisioner.playbook.templates.functions import make_templates
from sappers.provisioner.source import Place, Text

HERE = Path(__file__).parent
RECORDED = HERE / "recorded.json"
WHEN, HOSTS = "when: ", "hosts: "
# Programs and dates know where they are.
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
_TEMPLATES = make_templates()
_INVENTORY = load_inventory(HERE / "files/hosts.ini")
_RED, _BLUE = {"team": "red"}, {"team": "blue"}
VARIABLES: dict[str, Any] = {
    "yes": True, "no": False, "nothing": None, "blank": "", "newline": "\n", "zero": 0,
    "number": 42, "fraction": 2.5, "nan": float("nan"), "text": "héllo wörld ☃",
    "words": ["a", "b", "c"], "things": {"a": 1, "b": [1, 2], "n": None},
    "deep": {"one": {"two": [{"three": [4, 5]}, None, "six"]}},
    "people": [
        {"name": "ann", "age": 3, "tags": ["x"], **_RED},
        {"name": "bob", "age": 1, "tags": ["x", "y"], **_BLUE},
        {"name": "cid", "age": 2, **_RED},
    ],
    "outcome": {"changed": True, "failed": False, "rc": 0, "stdout": "said"},
    "groups": {"all": ["h1", "h2", "h3"], "web": ["h1", "h2"], "db": ["h3"], "ungrouped": []},
    "vault_file": str(HERE / "files/vault.txt"),
}  # fmt: skip


def expressions() -> dict[str, bool]:
    """All lines of the table; each with whether we mean to differ there."""
    found: dict[str, bool] = {}
    is_meant = False
    for line in (HERE / "table.txt").read_text().splitlines():
        if line.startswith("# "):
            is_meant = line.startswith("# Meant:")
        elif line:
            found[line] = is_meant
    return found


def template_of(expression: str) -> str:
    """An expression as a template, if it is none; conditions and patterns stay as they are."""
    is_whole = any(sign in expression.replace("'{", "") for sign in ("{{", "{%", "{#"))
    return (
        expression
        if is_whole or expression.startswith((WHEN, HOSTS))
        else "{{ " + expression + " }}"
    )


def recorded() -> dict[str, Any]:
    """What Ansible made of each."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def ours(expression: str) -> dict[str, Any]:
    """What we make of one."""
    scope = Scope(_TEMPLATES, [VARIABLES], HostFacts(), [], (HERE,))
    place = Place("(expression)")
    try:
        if expression.startswith(HOSTS):
            pattern = expression.removeprefix(HOSTS)
            return {"value": [host.name for host in _INVENTORY.in_order_of(pattern)]}
        if expression.startswith(WHEN):
            value = _TEMPLATES.holds(Text(expression.removeprefix(WHEN), place), scope, place)
        else:
            value = _TEMPLATES.render(Text(template_of(expression), place), scope, place)
    except PlaybookError as error:
        return {"error": str(error)}
    except InventoryError as error:  # Ansible warns, and takes none
        return {"value": []} if expression.startswith(HOSTS) else {"error": str(error)}
    return {"value": json.loads(json.dumps(value, default=str))}


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both are an error, or the same value of the same type: 1 is not true."""
    if "error" in one or "error" in other:
        return "error" in one and "error" in other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

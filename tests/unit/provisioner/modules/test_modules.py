"""Modules by data: arguments and a host in, effects and result out. One file a module."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sappers.provisioner.modules import step
from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.arguments import typed_arguments
from tests.unit.provisioner.modules.world import World, described

HERE = Path(__file__).parent
MODULES = Path(step.__file__).parent
CASES = [
    pytest.param(path.stem, case, id=f"{path.stem}: {case['name']}")
    for path in sorted(HERE.glob("*.yml"))
    for case in YAML(typ="safe", pure=True).load(path)
]


def asked_for(found: Any, wanted: Any) -> Any:
    """Of mappings what the other one has, too."""
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return found
    return {key: asked_for(found.get(key), value) for key, value in wanted.items()}


@pytest.mark.parametrize(("module", "case"), CASES)
def test_a_module_plans(module: str, case: dict[str, Any]) -> None:
    source = catalog.source_of(module)
    args = typed_arguments(case.get("args") or {}, source.SPEC) | case.get("internal", {})
    world = World(
        case.get("paths"), case.get("accounts"), case.get("says"), case.get("answers"),
        case.get("archive"),
    )  # fmt: skip

    plan = getattr(source, "plan", None) or source.conduct
    result = world.run(plan(step.Task(args, case.get("check", False))))

    assert [described(effect) for effect in world.effects] == case.get("effects", [])
    expected = case.get("result", {})
    assert asked_for(result, expected) == expected
    if not case.get("again", True) or result.get("failed"):
        return
    # The same once more finds nothing to do, in the world as the effects left it.
    done = len(world.effects)
    again = world.run(plan(step.Task(args, case.get("check", False))))
    assert world.effects[done:] == []
    assert not again.get("changed")


def test_modules_run_on_python_3_8_with_the_standard_library_alone() -> None:
    for name in ("spec", "step", *catalog.names(), *(p.stem for p in MODULES.glob("_[a-z]*.py"))):
        tree = ast.parse((MODULES / f"{name}.py").read_text(), feature_version=(3, 8))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [one.name for one in node.names]
            for module in [node.module or ""] if isinstance(node, ast.ImportFrom) else names:
                own = module.startswith("sappers.provisioner.modules")
                assert own or module.split(".")[0] in sys.stdlib_module_names, (name, module)


@pytest.mark.parametrize("name", catalog.names())
def test_every_module_documents_itself(name: str) -> None:
    spec = catalog.spec_of(name)
    assert re.fullmatch(r"[A-Z].*\.", spec.summary)
    assert spec.free_form in ("", *(one.name for one in spec.arguments))
    kinds = {"str", "path", "bool", "int", "float", "list", "dict", "mode", "raw"}
    assert {one.kind for one in spec.arguments} <= kinds
    source = catalog.source_of(name)
    assert sum(hasattr(source, name) for name in ("plan", "act", "conduct")) == 1

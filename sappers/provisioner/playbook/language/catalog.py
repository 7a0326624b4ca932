"""Finds modules by the names that playbooks use."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from sappers.provisioner import modules
from sappers.provisioner.modules.spec import Module
from sappers.provisioner.playbook.language.flow import FLOW_SPECS

# What travels with every module, or is no module of its own.
SHARED = ("record", "spec", "step", "control_step")
COLLECTIONS = ("ansible.builtin", "ansible.legacy", "ansible.posix", "community.general")
ALIASES = {"systemd_service": "systemd", "dnf5": "dnf", "yum": "dnf", "gather_facts": "setup"}
FLOW = frozenset(FLOW_SPECS)  # no modules of files: the engine itself does them


@cache
def names() -> tuple[str, ...]:
    """The short names of all modules, sorted."""
    found = {one.name for one in pkgutil.iter_modules(modules.__path__)}
    return tuple(sorted(name for name in found if name not in SHARED and not name.startswith("_")))


def short_name(name: str) -> str:
    """The name without its collection, where that is one we know the modules of."""
    collection, _, short = name.rpartition(".")
    short = short if collection in COLLECTIONS else name
    return ALIASES.get(short, short)


def is_known(name: str) -> bool:
    """Whether there is such a module; a short name."""
    return name in names() or name in FLOW


@cache
def source_of(name: str) -> ModuleType:
    """The module's own Python module."""
    return importlib.import_module(f"sappers.provisioner.modules.{name}")


def spec_of(name: str) -> Module:
    """What a module says of itself."""
    spec: Module = FLOW_SPECS[name] if name in FLOW else source_of(name).SPEC
    return spec


def path_arguments(name: str) -> list[str]:
    """The arguments of a module that are paths of the host."""
    return [one.name for one in spec_of(name).arguments if one.kind == "path"]


def is_done_here(name: str) -> bool:
    """Whether its result follows from its arguments alone, and the host is asked nothing."""
    return hasattr(source_of(name), "act")


def runs_by_itself(name: str) -> bool:
    """Whether the host does all of it, once it was asked."""
    parts = ("act", "conduct", "prepare")
    return name not in FLOW and not any(hasattr(source_of(name), part) for part in parts)


def is_conducted(name: str) -> bool:
    """Whether it is driven from here, and asks the host as it needs to."""
    return hasattr(source_of(name), "conduct")

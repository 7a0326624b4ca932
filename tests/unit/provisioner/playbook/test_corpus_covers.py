"""The corpus has a playbook for every module and every keyword, each where it is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ruamel.yaml import YAML

from sappers.provisioner.playbook import catalog, keywords
from tests.corpus.case import HERE

# By data alone: what works on machines that no lab here has.
NOT_THERE = {"dnf"}
# What the engine promises, whatever its own lists say.
PROMISED_MODULES = {
    *("apt", "package", "apt_repository", "dnf", "pip", "copy", "template", "file", "lineinfile"),
    *("blockinfile", "replace", "stat", "find", "slurp", "fetch", "unarchive", "get_url", "uri"),
    *("user", "group", "authorized_key", "command", "shell", "script", "raw", "service", "systemd"),
    *("systemd_service", "cron", "hostname", "sysctl", "mount", "git", "reboot", "wait_for"),
    *("wait_for_connection", "set_fact", "debug", "assert", "fail", "pause", "meta", "setup"),
    *("ping", "add_host", "group_by", "modprobe", "iptables"),
}
PROMISED_KEYWORDS = {
    "play": """hosts gather_facts become serial max_fail_percentage any_errors_fatal vars vars_files
        pre_tasks roles tasks post_tasks handlers vars_prompt tags environment check_mode""",
    "block": "block rescue always when become tags vars",
    "task": """when loop loop_control register changed_when failed_when until retries delay notify
        tags delegate_to run_once ignore_errors no_log environment check_mode become vars""",
    "handler": "listen",
    "flow": """include_tasks import_tasks import_playbook include_role import_role include_vars
        meta""",
}
SECTIONS = ("pre_tasks", "tasks", "post_tasks", "block", "rescue", "always")
Kinds = dict[str, set[str]]


def documents() -> Iterator[Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.constructor.add_multi_constructor("!", lambda *_: None)
    for folder in ("cases", "host_cases"):
        for path in sorted((HERE / folder).rglob("*.yml")):
            yield path, yaml.load(path)


def nodes(listed: Any, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Plays, blocks, tasks and handlers below, each with what it is."""
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict):
            continue
        is_play = "hosts" in one or "import_playbook" in one
        yield "play" if is_play else "block" if "block" in one else kind, one
        for section in SECTIONS:
            yield from nodes(one.get(section), kind)
        yield from nodes(one.get("handlers"), "handler")


def used() -> Kinds:
    """Keys by where they stand."""
    found: Kinds = {name: set() for name in ("play", "block", "task", "handler", "role", "prompt",
                                             "loop_control")}  # fmt: skip
    for path, document in documents():
        if isinstance(document, dict) and path.parent.name == "meta":
            add_roles(found, document.get("dependencies"))
        for kind, node in nodes(document, "handler" if path.parent.name == "handlers" else "task"):
            found[kind] |= {str(key) for key in node}
            add_roles(found, node.get("roles"))
            found["loop_control"] |= set(node.get("loop_control") or ())
            for prompt in node.get("vars_prompt") or ():
                found["prompt"] |= set(prompt)
    return found


def add_roles(found: Kinds, roles: Any) -> None:
    for role in roles or ():
        found["role"] |= set(role) if isinstance(role, dict) else set()


USED = used()
MODULES = {catalog.short_name(key) for kind in ("task", "handler", "play") for key in USED[kind]}


def test_there_are_enough() -> None:
    assert len([path for path, _ in documents() if path.parent.name.endswith("cases")]) >= 60


def test_every_module_has_a_playbook() -> None:
    assert set(catalog.names()) - MODULES == NOT_THERE
    assert catalog.FLOW <= MODULES


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("play", keywords.PLAY),
        ("block", keywords.BLOCK),
        ("task", keywords.TASK),
        ("handler", keywords.HANDLER),
        ("role", keywords.ROLE),
        ("prompt", keywords.PROMPT),
        ("loop_control", keywords.LOOP_CONTROL),
    ],
)
def test_every_keyword_has_a_playbook(kind: str, known: set[str]) -> None:
    assert known - USED[kind] == set()


def test_what_is_promised_is_there() -> None:
    spelled = {key.removeprefix("ansible.builtin.") for kind in USED.values() for key in kind}
    assert PROMISED_MODULES - spelled == NOT_THERE
    for kind, words in PROMISED_KEYWORDS.items():
        where = spelled if kind == "flow" else USED[kind]
        assert set(words.split()) - where == set(), kind


def test_modules_are_named_short_and_whole() -> None:
    whole = {key for kind in USED.values() for key in kind if key.startswith("ansible.builtin.")}
    assert whole


@pytest.mark.parametrize("name", ["defaults", "vars", "files", "templates", "handlers", "meta"])
def test_roles_have_each_folder(name: str) -> None:
    assert list((HERE / "cases/roles").glob(f"*/{name}/*"))


def test_patterns_of_hosts() -> None:
    """Groups added, taken away, crossed; wildcards and ranges."""
    plays = [node for _, document in documents() for node in nodes_of_plays(document)]
    patterns = " ".join(str(play["hosts"]) for play in plays if isinstance(play["hosts"], str))
    assert [sign for sign in (":", ":!", ":&", "*", "[0:1]") if sign not in patterns] == []


def nodes_of_plays(document: Any) -> list[Mapping[str, Any]]:
    return [node for kind, node in nodes(document, "task") if kind == "play" and "hosts" in node]

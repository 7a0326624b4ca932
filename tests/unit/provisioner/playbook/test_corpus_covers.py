"""The corpus has a playbook for every module and every keyword, each where it is one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jinja2.defaults import DEFAULT_FILTERS, DEFAULT_TESTS
from ruamel.yaml import YAML

from sappers.provisioner.playbook.language import catalog, keywords
from sappers.provisioner.playbook.templates.filters import FILTERS
from sappers.provisioner.playbook.templates.tests import TESTS
from tests.corpus.case import HERE

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
# What Ansible's manual lists of special variables (ansible_config_file and environment: docs).
PROMISED_VARIABLES = """hostvars groups group_names inventory_hostname inventory_hostname_short
    inventory_dir inventory_file play_hosts ansible_play_hosts ansible_play_hosts_all
    ansible_play_batch ansible_play_name playbook_dir role_path role_name role_names
    ansible_role_name ansible_role_names ansible_play_role_names ansible_dependent_role_names
    ansible_parent_role_names ansible_parent_role_paths ansible_collection_name ansible_check_mode
    ansible_diff_mode ansible_forks ansible_limit ansible_loop ansible_loop_var ansible_index_var
    ansible_run_tags ansible_skip_tags ansible_search_path ansible_verbosity ansible_version
    ansible_playbook_python ansible_inventory_sources ansible_failed_task ansible_failed_result
    omit vars ansible_facts ansible_local ansible_connection ansible_host ansible_port
    ansible_user ansible_become ansible_become_user"""
# What it lists of filters, tests and lookups beside those of Jinja.
PROMISED_FILTERS = """b64decode b64encode basename bool checksum combinations combine comment
    commonpath dict2items difference dirname expanduser expandvars extract fileglob flatten
    from_json from_yaml from_yaml_all hash human_readable human_to_bytes intersect items2dict log
    mandatory md5 normpath password_hash path_join permutations pow product quote random realpath
    regex_escape regex_findall regex_replace regex_search rekey_on_member relpath root sha1 shuffle
    split splitext strftime subelements symmetric_difference ternary to_datetime to_json
    to_nice_json to_nice_yaml to_uuid to_yaml type_debug union unique urldecode urlsplit
    win_basename win_dirname win_splitdrive zip zip_longest"""
PROMISED_TESTS = """abs all any change changed contains directory exists failed failure falsy file
    finished is_abs is_dir is_file is_link is_mount is_same_file isnan issubset issuperset link
    link_exists match mount nan reachable regex same_file search skip skipped started subset
    succeeded success successful superset timedout truthy unreachable uri url urn version
    version_compare"""
PROMISED_LOOKUPS = """csvfile dict env file fileglob first_found indexed_items ini
    inventory_hostnames items lines list nested password pipe random_choice sequence subelements
    template together unvault url varnames vars"""
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


def templates() -> str:
    """All text of the corpus that may hold templates."""
    folders = (HERE / name for name in ("cases", "host_cases"))
    files = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    table = (HERE / "expressions/table.txt").read_text()
    return "\n".join([table, *(path.read_text(errors="replace") for path in files)])


def unnamed(words: Iterable[str], pattern: str) -> list[str]:
    """The words that templates use nowhere as the pattern says."""
    text = templates()
    return [one for one in words if not re.search(pattern.replace("NAME", re.escape(one)), text)]


USED = used()
MODULES = {catalog.short_name(key) for kind in ("task", "handler", "play") for key in USED[kind]}


def test_there_are_enough() -> None:
    assert len([path for path, _ in documents() if path.parent.name.endswith("cases")]) >= 60


def test_every_module_has_a_playbook() -> None:
    assert set(catalog.names()) - MODULES == set()
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
    assert PROMISED_MODULES - spelled == set()
    for kind, words in PROMISED_KEYWORDS.items():
        where = spelled if kind == "flow" else USED[kind]
        assert set(words.split()) - where == set(), kind


def test_every_magic_variable_has_a_template() -> None:
    assert unnamed(PROMISED_VARIABLES.split(), r"\bNAME\b") == []


def test_every_filter_test_and_lookup_has_a_template() -> None:
    whole = r"(?:ansible\.builtin\.)?NAME"
    filters = {*PROMISED_FILTERS.split(), *FILTERS, *DEFAULT_FILTERS}
    assert unnamed(filters, rf"\| ?{whole}\b|map\('{whole}'|filter NAME\b") == []
    tests = {*PROMISED_TESTS.split(), *TESTS, *DEFAULT_TESTS}
    assert unnamed(tests, rf"\bis (?:not )?{whole}(?!\w)|(?:ect|attr)\((?:'\w+', )?'NAME'") == []
    lookups = PROMISED_LOOKUPS.split()
    assert unnamed(lookups, rf"(?:lookup|query|q)\('{whole}'|with_NAME\b") == []


def test_vault_has_a_playbook() -> None:
    """A file of variables, a value in a file, a file that hosts get."""
    held = [path for path in (HERE / "cases").rglob("*") if path.is_file() and is_vault(path)]
    assert {path.suffix for path in held} >= {".yml", ".txt", ".j2"}
    assert "!vault |" in templates()


def is_vault(path: Path) -> bool:
    return path.read_bytes().startswith(b"$ANSIBLE_VAULT;")


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

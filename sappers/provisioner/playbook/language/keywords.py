"""The keywords of plays, blocks, tasks and roles: which there are, and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sappers.provisioner.inventory.host_values import read_boolean
from sappers.provisioner.inventory.reach import why_refused
from sappers.provisioner.source import Mapping as SourceMapping
from sappers.provisioner.source import Place, place_of

# Handed down: of these the nearest counts.
SETTINGS = frozenset(
    {
        *("any_errors_fatal", "become", "become_method", "become_user", "check_mode", "connection"),
        *("delegate_facts", "delegate_to", "diff", "ignore_errors", "ignore_unreachable", "no_log"),
        *("port", "remote_user", "run_once", "throttle", "timeout"),
    }
)
# Of all keywords those that take yes or no.
BOOLEANS = frozenset(
    {
        *("any_errors_fatal", "become", "check_mode", "delegate_facts", "diff", "force_handlers"),
        *("gather_facts", "ignore_errors", "ignore_unreachable", "no_log", "run_once"),
    }
)
_OF_DELEGATION = {"delegate_facts", "delegate_to"}
# Where roles are looked for by short names. Of modules all that there are are known by them.
_OF_NAMES = {"collections"}
_HANDED_DOWN = SETTINGS | {"environment", "module_defaults", "tags", "vars"} | _OF_NAMES
BLOCK = _HANDED_DOWN | {"name", "when", "block", "rescue", "always", "notify"}
TASK = (
    _HANDED_DOWN
    | {"name", "when", "action", "args", "changed_when", "delay", "failed_when", "loop"}
    | {"async", "local_action", "loop_control", "notify", "poll", "register", "retries", "until"}
)
HANDLER = TASK | {"listen"}
# Of plays, and arguments of the task that gathers facts.
GATHERING = frozenset({"fact_path", "gather_subset", "gather_timeout"})
PLAY = (_HANDED_DOWN - _OF_DELEGATION) | {
    *("name", "hosts", "gather_facts", "handlers", "max_fail_percentage", "order", "post_tasks"),
    *("pre_tasks", "roles", "serial", "strategy", "tasks", "vars_files", "vars_prompt"),
    "force_handlers",
    *GATHERING,
}
LOOP_CONTROL = frozenset(
    ("break_when", "extended", "extended_allitems", "index_var", "label", "loop_var", "pause")
)
PROMPT = frozenset(
    {
        *("name", "prompt", "default", "private", "confirm", "unsafe"),
        *("encrypt", "salt", "salt_size"),
    }
)
ROLE = _HANDED_DOWN | {"role", "name", "when"}

_COLLECTION = re.compile(r"\w+\.\w+")

# Ansible's keywords, and others that are met, which are refused.
REFUSED: Mapping[str, str] = {
    "sudo": "write become: true",
    "sudo_user": "write become_user",
    "su": "write become: true and become_method: su",
    "include": "write include_tasks, import_tasks or import_playbook",
    "debugger": "leave it out; --step asks before each task",
    "become_exe": "sudo, su and doas are found by PATH; leave it out",
    "become_flags": "sudo is called as -H -S; leave it out",
    "accelerate": "leave it out",
}


def to_bool(name: str, value: Any, place: Place) -> bool:
    """What a keyword that takes yes or no says.

    Raises:
        PlaybookError: It says neither: what was meant is not guessed, as it may be `no_log`.
    """
    try:
        return bool(value) if value in (0.0, 1.0) else read_boolean(value)
    except ValueError as error:
        raise place_of(value, place).error(f"`{name}`: {error}", hint="true or false") from error


def to_collections(value: Any, place: Place) -> tuple[str, ...]:
    """What the keyword `collections` says, also in a role's meta.

    Raises:
        PlaybookError: It names something else than collections.
    """
    names = value if isinstance(value, list) else [] if value is None else [value]
    for name in names:
        if not (isinstance(name, str) and _COLLECTION.fullmatch(name)):
            raise place_of(name, place).error(
                "`collections` takes names of collections, as they are written",
                hint="- NAMESPACE.COLLECTION",
            )
    return tuple(map(str, names))


def with_newer_names(item: SourceMapping) -> SourceMapping:
    """The play with what Ansible still takes under an older name. Raises PlaybookError."""
    if "user" not in item:
        return item
    if "remote_user" in item:
        raise item.at("user").error("`user` is `remote_user`, which is there", hint="leave it out")
    play = SourceMapping(item.place)
    play.update({"remote_user" if key == "user" else key: value for key, value in item.items()})
    play.places = {**item.places, "remote_user": item.at("user")}
    return play


def refuse_unknown(mapping: SourceMapping, known: Iterable[str], what: str) -> None:
    """Refuse the first key that is no keyword.

    Raises:
        PlaybookError: At its place, with what to write instead.
    """
    names = sorted(known)
    for key in mapping:
        if key in names:
            continue
        if key in REFUSED:
            raise mapping.at(key).error(f"`{key}` is not supported", hint=REFUSED[key])
        raise mapping.at(key).error(
            f"`{key}` is no keyword of a {what}", hint=instead(key, names, "its keywords")
        )


def refuse_variables(variables: Mapping[str, Any] | None) -> None:
    """Refuse what Ansible heeds of how hosts are reached and nothing does here.

    Raises:
        PlaybookError: At its place, with what to write instead.
    """
    if not isinstance(variables, SourceMapping):
        return
    for name, value in variables.items():
        if hint := why_refused(str(name), value):
            raise variables.at(name).error(f"the variable `{name}` is not supported", hint=hint)


def instead(name: str, known: Iterable[str], what: str) -> str:
    """A hint: the name that was meant, or all there are."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{close[0]}`?" if close else f"{what}: {', '.join(names)}"

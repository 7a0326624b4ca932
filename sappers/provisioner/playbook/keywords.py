"""The keywords of plays, blocks, tasks and roles: which there are, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from sappers.provisioner.source import Mapping as SourceMapping

# Handed down: of these the nearest counts.
SETTINGS = frozenset(
    {
        *("any_errors_fatal", "become", "become_method", "become_user", "check_mode", "connection"),
        *("delegate_to", "diff", "ignore_errors", "ignore_unreachable", "no_log", "run_once"),
        *("throttle", "timeout"),
    }
)
_OF_PLAYS = {"any_errors_fatal", "connection"}
_HANDED_DOWN = (SETTINGS - _OF_PLAYS) | {"environment", "module_defaults", "tags", "vars"}
BLOCK = _HANDED_DOWN | {"name", "when", "block", "rescue", "always"}
TASK = (
    _HANDED_DOWN
    | {"name", "when", "action", "args", "changed_when", "delay", "failed_when", "loop"}
    | {"async", "loop_control", "notify", "poll", "register", "retries", "until"}
)
HANDLER = TASK | {"listen"}
PLAY = (_HANDED_DOWN - {"delegate_to"}) | {
    *("name", "hosts", "gather_facts", "handlers", "max_fail_percentage", "order", "post_tasks"),
    *("pre_tasks", "roles", "serial", "strategy", "tasks", "vars_files", "vars_prompt"),
    "force_handlers",
    *_OF_PLAYS,
}
LOOP_CONTROL = frozenset({"loop_var", "index_var", "label", "extended", "pause"})
PROMPT = frozenset(
    {
        *("name", "prompt", "default", "private", "confirm", "unsafe"),
        *("encrypt", "salt", "salt_size"),
    }
)
ROLE = _HANDED_DOWN | {"role", "name", "when"}

# Ansible's keywords, and others that are met, which are refused.
REFUSED: Mapping[str, str] = {
    "sudo": "write become: true",
    "sudo_user": "write become_user",
    "su": "write become: true and become_method: su",
    "include": "write include_tasks, import_tasks or import_playbook",
    "collections": "name the module whole; ansible.builtin is always known",
    "local_action": "write the module, and delegate_to: localhost",
    "debugger": "leave it out; --step asks before each task",
    "become_exe": "sudo, su and doas are found by PATH; leave it out",
    "any_errors_fatal": "write it at the play",
    "become_flags": "sudo is called as -H -S; leave it out",
    "break_when": "filter the list of the loop",
    "connection": "write it at the play, or set ansible_connection in the inventory",
    "delegate_facts": "facts are the host's own; run setup on the other host",
    "extended_allitems": "leave it out",
    "gather_subset": "all facts are gathered; leave it out",
    "remote_user": "set ansible_user in the inventory",
    "port": "set ansible_port in the inventory",
    "accelerate": "leave it out",
    "gather_timeout": "leave it out",
    "fact_path": "leave it out",
}


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


def instead(name: str, known: Iterable[str], what: str) -> str:
    """A hint: the name that was meant, or all there are."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{close[0]}`?" if close else f"{what}: {', '.join(names)}"

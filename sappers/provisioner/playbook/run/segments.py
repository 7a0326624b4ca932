"""Cuts a list of tasks into segments: what each host may run by itself, before all wait for all.

Ansible's order is kept where anybody could tell: a task that may see other hosts (a command, a
service) starts only when all that stands before it is done on all hosts. Files, users and the like
of one host mean nothing to the tasks of another, so hosts do not wait for each other in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from msgspec.structs import replace

from sappers.provisioner.playbook.language import catalog
from sappers.provisioner.playbook.language.model import Block, Node, Task
from sappers.provisioner.playbook.tasks.options import RunOptions

_ALONE = ("run_once", "delegate_to", "throttle")


def cut(
    nodes: Sequence[Node], *, one_by_one: bool, free: bool
) -> Iterator[Block | Task | tuple[Task, ...]]:
    """Segments of module tasks; blocks, and tasks that steer the run, alone.

    Args:
        one_by_one: Every task is a segment, since its failures may stop the play.
        free: No task waits for other hosts.
    """
    segment: list[Task] = []
    for node in nodes:
        if isinstance(node, Block) or node.module in catalog.FLOW:
            if segment:
                yield tuple(segment)
            segment = []
            yield node
            continue
        if segment and (
            one_by_one
            or any(one.setting("any_errors_fatal") for one in (segment[-1], node))
            or (not free and (_looks_out(node) or _stands_alone(segment[-1])))
        ):
            yield tuple(segment)
            segment = []
        segment.append(node)
    if segment:
        yield tuple(segment)


def _looks_out(task: Task) -> bool:
    return catalog.spec_of(task.module).outward or _stands_alone(task)


def _stands_alone(task: Task) -> bool:
    spec = catalog.spec_of(task.module)
    alone = spec.alone or spec.once or bool(task.until)
    return alone or any(task.setting(name) for name in _ALONE)


def selected(nodes: Sequence[Node], options: RunOptions) -> tuple[Node, ...]:
    """The nodes whose tags are asked for."""
    found: list[Node] = []
    for node in nodes:
        if isinstance(node, Task):
            if options.selects(node.inherited.tags):
                found.append(node)
            continue
        body, rescue, always = (
            selected(part, options) for part in (node.body, node.rescue, node.always)
        )
        if body or always:
            found.append(replace(node, body=body, rescue=rescue, always=always))
    return tuple(found)


def starting_at(
    sections: Sequence[Sequence[Node]], name: str
) -> tuple[tuple[Node, ...], ...] | None:
    """The sections of a play from the first task of a name on; None where there is none.

    Args:
        name: As Ansible takes it: with or without the role, a pattern of the shell too.
    """
    for number, section in enumerate(sections):
        rest = _from(section, name)
        if rest is not None:
            return ((),) * number + (rest, *map(tuple, sections[number + 1 :]))
    return None


def _from(nodes: Sequence[Node], name: str) -> tuple[Node, ...] | None:
    for number, node in enumerate(nodes):
        found: Node | None = None
        if isinstance(node, Task):
            titles = (str(node.name), node.title) if node.name else (node.title,)
            found = node if any(fnmatchcase(one, name) or one == name for one in titles) else None
        elif (body := _from(node.body, name)) is not None:
            found = replace(node, body=body)
        elif (always := _from(node.always, name)) is not None:
            found = replace(node, body=(), rescue=(), always=always)
        if found is not None:
            return (found, *nodes[number + 1 :])
    return None

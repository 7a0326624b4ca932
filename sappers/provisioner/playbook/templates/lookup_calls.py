"""Where templates call lookups; names that are not there are refused as those of filters are."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import jinja2
from jinja2 import nodes

_FUNCTIONS = ("lookup", "query", "q")


def short_name(name: str) -> str:
    """A lookup's own name."""
    return name.removeprefix("ansible.builtin.").removeprefix("community.general.")


def lookup_calls(node: nodes.Node, *, sure: bool = False) -> Iterator[nodes.Call]:
    """The calls of lookups below a node.

    Args:
        sure: Only those that nothing in the template decides about (`if`), as Jinja does it.
    """
    if isinstance(node, nodes.Call) and getattr(node.node, "name", None) in _FUNCTIONS:
        yield node
    below = node.iter_child_nodes()
    if sure and isinstance(node, nodes.If | nodes.CondExpr):
        below = iter([node.test])
    for child in below:
        yield from lookup_calls(child, sure=sure)


class KnownLookups(jinja2.Environment):
    """Refuses a lookup whose name is written out and not there.

    Attributes:
        lookups: Names of those that are.
    """

    lookups: Collection[str] = ()

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for call in lookup_calls(tree, sure=True):
            named = call.args[0] if call.args else None
            if isinstance(named, nodes.Const) and short_name(str(named.value)) not in self.lookups:
                problem = f"No lookup named {str(named.value)!r}."
                raise jinja2.TemplateSyntaxError(problem, named.lineno, name, filename)
        return tree

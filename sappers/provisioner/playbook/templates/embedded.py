"""Texts of expressions that are templates themselves, where Ansible renders them, too.

As in `when: said == "{{ wanted }}"` and `lookup('file', '{{ path }}')`: in conditions all, else
those that are terms of lookups. Only what stands there itself; what an expression yields is data.
"""

from __future__ import annotations

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer

from sappers.provisioner.playbook.templates.lookup_calls import lookup_calls
from sappers.provisioner.source import is_template

FILTER = " rendered"  # no name that a template could write


class TermsRendered(Environment):
    """Renders texts that are terms of lookups."""

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for call in lookup_calls(tree):
            call.args[1:] = [_with_rendered(one) for one in call.args[1:]]
        return tree


class TextsRendered(Environment):
    """Renders all texts that are templates, as in conditions."""

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _All().visit(super()._parse(source, name, filename))
        return tree


class _All(NodeTransformer):
    def visit_Const(self, node: nodes.Const) -> nodes.Expr:  # noqa: N802 — named for the node
        return _rendered(node)


def _with_rendered(node: nodes.Expr) -> nodes.Expr:
    """A term, or with what is in a list or a mapping of it."""
    if isinstance(node, nodes.List | nodes.Tuple):
        node.items = [_with_rendered(one) for one in node.items]
    elif isinstance(node, nodes.Dict):
        for pair in node.items:
            pair.value = _with_rendered(pair.value)
    return _rendered(node)


def _rendered(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.Const) and is_template(node.value):
        return nodes.Filter(node, FILTER, [], [], None, None, lineno=node.lineno)
    return node

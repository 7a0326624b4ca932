"""YAML as the parser that Ansible uses has it: always of version 1.1, whatever a document says.

`yes` is true and 0755 is octal, also below `---` or `%YAML 1.2`, after which ruamel would take a
document for one of version 1.2.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver

_VERSION = (1, 1)


def yaml_1_1() -> YAML:
    """A reader of it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = _VERSION
    yaml.Resolver = _Resolver
    return yaml


class _Resolver(VersionedResolver):
    @property
    def processing_version(self) -> tuple[int, int]:
        """Of one version alone."""
        return _VERSION

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """What a value is; a text is what Ansible's parser takes for one."""
        tag = super().resolve(kind, value, implicit)
        if kind is ScalarNode and _is_text(str(tag), str(value)):
            return self.DEFAULT_SCALAR_TAG
        return tag


def _is_text(tag: str, text: str) -> bool:
    """What YAML 1.1 reads as a boolean or a number, and the parser that Ansible uses does not."""
    if tag.endswith(":bool"):
        return len(text) == 1  # y and n
    number, _, exponent = text.lstrip("+-").lower().partition("e")
    if not tag.endswith(":float") or ":" in number:
        return False
    return "." not in number or exponent[:1].isdigit()

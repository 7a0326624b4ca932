"""Loads `vars_prompt`: the variables that a person is asked for."""

from __future__ import annotations

from sappers.provisioner.playbook.language import keywords
from sappers.provisioner.playbook.language.model import VarsPrompt
from sappers.provisioner.playbook.templates.hashing import is_kind
from sappers.provisioner.source import Items, Mapping


def load_prompts(item: Mapping) -> tuple[VarsPrompt, ...]:
    """What a play asks for. Raises PlaybookError."""
    given = item.get("vars_prompt")
    if given is None:
        return ()
    if not isinstance(given, Items):
        raise item.at("vars_prompt").error("`vars_prompt` takes a list", hint="- name: VARIABLE")
    found = []
    for one, at in zip(given, given.places, strict=True):
        if not isinstance(one, Mapping) or not str(one.get("name", "")).isidentifier():
            raise at.error("a prompt has the `name` of a variable", hint="- name: VARIABLE")
        keywords.refuse_unknown(one, keywords.PROMPT, "prompt")
        found.append(_prompt(one))
    return tuple(found)


def _prompt(one: Mapping) -> VarsPrompt:
    encrypt, size = one.get("encrypt"), one.get("salt_size")
    if encrypt is not None and not is_kind(str(encrypt)):
        raise one.at("encrypt").error(
            f"there is no hash {str(encrypt)!r}", hint="sha512_crypt, sha256_crypt, bcrypt"
        )
    if size is not None and not (isinstance(size, int) and size > 0):
        raise one.at("salt_size").error("`salt_size` is a number of characters")
    name = str(one["name"])
    return VarsPrompt(
        name,
        one.get("prompt", name),
        one.get("default"),
        private=keywords.to_bool("private", one.get("private", True), one.at("private")),
        confirm=keywords.to_bool("confirm", one.get("confirm", False), one.at("confirm")),
        encrypt=None if encrypt is None else str(encrypt),
        salt=None if one.get("salt") is None else str(one["salt"]),
        salt_size=size,
    )

"""Asks for the variables of `vars_prompt`, as a play begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from sappers.provisioner.playbook.language.model import Play, VarsPrompt
from sappers.provisioner.playbook.templates.hashing import password_hash

Ask = Callable[[str, bool], str]


def ask_for(
    play: Play, extra: Mapping[str, Any], ask: Ask | None, render: Callable[[Any], Any]
) -> dict[str, Any]:
    """The variables that a play asks for, but those that `-e` gives.

    Args:
        render: Renders what is asked and what is the default, before any host is known.
        ask: Asks a person, with or without showing what is typed; None where nobody is there:
            then the defaults count.

    Raises:
        PlaybookError: Nobody is there, and a variable has no default.
    """
    found: dict[str, Any] = {}
    for written in play.vars_prompt:
        if written.name in extra:
            continue
        one = replace(written, text=render(written.text), default=render(written.default))
        if ask is not None:
            found[one.name] = _hashed(one, _answer(one, ask))
        elif one.default is not None:
            found[one.name] = _hashed(one, one.default)
        else:
            raise play.place.error(
                f"vars_prompt: nobody is there to be asked for {one.name}",
                hint=f"--extra-vars {one.name}=…, or a `default`",
            )
    return found


def _hashed(one: VarsPrompt, value: Any) -> Any:
    if one.encrypt is None:
        return value
    return password_hash(value, one.encrypt, one.salt, one.salt_size)


def _answer(one: VarsPrompt, ask: Ask) -> str:
    """What was typed; nothing is the default."""
    text = str(one.text) if one.default is None else f"{one.text} [{one.default}]"
    while True:
        typed = ask(text, not one.private)
        if not one.confirm or ask(f"confirm {text}", not one.private) == typed:
            return typed if typed or one.default is None else str(one.default)

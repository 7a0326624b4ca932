"""Variables of one host: templates rendered, types checked, errors where the variable is set."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from sappers.errors import InventoryError, PlaybookError
from sappers.provisioner.inventory.tree import Origin, Settings
from sappers.provisioner.source import Sealed

T = TypeVar("T")

_TRUE = frozenset({"y", "yes", "on", "1", "true", "t"})
_FALSE = frozenset({"n", "no", "off", "0", "false", "f"})
_TEMPLATE_DEPTH_MAX = 10


class Secret:
    """A password that no log, repr or traceback shows.

    Args:
        text: The password, or why it cannot be had.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | PlaybookError) -> None:
        self._text = text

    @property
    def is_known(self) -> bool:
        """Whether it can be revealed."""
        return isinstance(self._text, str)

    def reveal(self) -> str:
        """The password itself; for the one place that hands it to SSH or sudo.

        Raises:
            PlaybookError: It is sealed with a password of Vault's that is not given.
        """
        if isinstance(self._text, PlaybookError):
            raise self._text
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def read_boolean(value: Any) -> bool:
    """A boolean as Ansible reads it: `yes`, `on`, `true`, `1` and so on, in any case.

    Raises:
        ValueError: It is none.
    """
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError(f"{value!r} is neither yes nor no")
    return text in _TRUE


def short_name(host: str) -> str:
    """A host's name without its domain; an address stays whole."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.partition(".")[0]
    return host


class HostValues:
    """The effective variables of one host."""

    def __init__(
        self, name: str, groups: tuple[str, ...], settings: Settings, inventory: Path
    ) -> None:
        self._host = name
        self._settings = settings
        self._inventory = inventory.absolute()
        self._context = {key: setting.value for key, setting in settings.items()} | {
            "inventory_hostname": name,
            "inventory_hostname_short": short_name(name),
            "inventory_dir": str(self._inventory.parent),
            "inventory_file": str(self._inventory),
            "group_names": sorted(set(groups) - {"all"}),
        }

    def wrong(self, name: str, message: str) -> InventoryError:
        """An error where the variable is set, to raise."""
        place = self._settings[name].origin if name in self._settings else Origin(self._place)
        return place.error(f"{name} of host {self._host}: {message}")

    @property
    def _place(self) -> str:
        return str(self._inventory)

    def read(self, reader: Callable[[Any], T], *names: str) -> T | None:
        """The last of the variables that is set, through `reader`; None when none is.

        Raises:
            InventoryError: `reader` raised ValueError, or a template cannot be rendered.
        """
        # A password that is sealed is an error only where it is needed: not every host is used.
        for name in reversed(names):
            setting = self._settings.get(name)
            if setting is not None and setting.value is not None:
                try:
                    return reader(self._rendered(setting.value))
                except PlaybookError as error:
                    if reader is not read_secret:
                        raise self.wrong(name, error.problem) from error
                    return reader(error)
                except ValueError as error:
                    raise self.wrong(name, str(error)) from error
        return None

    def text(self, *names: str) -> str | None:
        """The last of the variables that is set, as text; None when none is."""
        return self.read(read_text, *names)

    def public(self, *, secrets: tuple[str, ...]) -> Mapping[str, Any]:
        """All variables, those named in `secrets` hidden; a template that needs more stays."""
        shown: dict[str, Any] = {}
        for name, setting in self._settings.items():
            try:
                value = self._rendered(setting.value)
            except (ValueError, PlaybookError):
                value = setting.value
            if name in secrets:
                value = Secret(value.error() if isinstance(value, Sealed) else str(value))
            shown[name] = value
        return shown

    def _rendered(self, value: Any) -> Any:
        """A text's template, rendered until nothing is left to render.

        Raises:
            ValueError: It cannot be rendered.
            PlaybookError: What it is, or is made of, is sealed.
        """
        if isinstance(value, Sealed):
            raise value.error()
        environment = SandboxedEnvironment(undefined=StrictUndefined)
        for _ in range(_TEMPLATE_DEPTH_MAX):
            if not (isinstance(value, str) and "{{" in value):
                return value
            try:
                value = environment.from_string(value).render(self._context)
            except PlaybookError:
                raise
            except Exception as error:  # a template may compute anything, and fail in any way
                raise ValueError(f"the template cannot be rendered: {error}") from error
        raise ValueError("the template refers to itself")


def read_secret(value: Any) -> Secret:
    """A password, or what says why there is none."""
    return Secret(value if isinstance(value, PlaybookError) else read_text(value))


def read_text(value: Any) -> str:
    """A text, or a number as one.

    Raises:
        ValueError: It is none, or has control characters.
    """
    if isinstance(value, (str, int, float)):
        text = str(value)
        if all(character.isprintable() for character in text):
            return text
    raise ValueError("expected a text without control characters")

"""Reads YAML as Ansible does (version 1.1), and keeps where everything is written.

Texts, mappings and lists know their places, so that every error can name file, line and column.
Only what is read here may be a template: what comes from a host is a plain `str`, and stays data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import yaml
from yaml import MarkedYAMLError, YAMLError
from yaml.composer import Composer, ComposerError
from yaml.constructor import SafeConstructor
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError
from yaml.resolver import Resolver

from sappers.errors import PlaybookError

_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT_TAG = "tag:yaml.org,2002:str"
_MERGE_TAG = "tag:yaml.org,2002:merge"
_COLLECTION_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "omap", "pairs", "seq", "set")}
_DEPTH_MAX = 100
_ALIASED_MAX = 200_000  # values that aliases bring once more; a file of 10 lines may ask for 10^9
FILE_BYTES_MAX = 8 * 1024 * 1024  # read in 10 s; what is larger would look as if nothing went on
VAULT_HEADER = "$ANSIBLE_VAULT"


class Place(NamedTuple):
    """Where something is written. Line and column begin at 1; None: not known."""

    path: str
    line: int | None = None
    column: int | None = None

    def error(self, message: str, *, hint: str | None = None) -> PlaybookError:
        """An error at this place, to raise."""
        return PlaybookError(message, path=self.path, line=self.line, column=self.column, hint=hint)

    def __str__(self) -> str:
        return ":".join(str(part) for part in self if part is not None)


class Text(str):
    """A text of a file that a person wrote: it may be a template."""

    __slots__ = ("place",)
    place: Place

    def __new__(cls, text: str, place: Place) -> Self:
        """A text and where it is written."""
        made = super().__new__(cls, text)
        made.place = place
        return made

    def __deepcopy__(self, memo: object) -> Self:
        """It never changes."""
        return self


class Data(str):
    """A text that a person wrote and that is no template (`!unsafe`), whoever reads the file."""

    __slots__ = ()


class Mapping(dict[str, Any]):
    """A mapping with the places of itself and of its keys, which are texts.

    Attributes:
        read_as: Keys that YAML reads as something else, with what that is: templates see this.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.places: dict[str, Place] = {}
        self.read_as: dict[str, int | float] = {}

    def at(self, key: str) -> Place:
        """Where a key is written."""
        return self.places.get(key, self.place)


class Items(list[Any]):
    """A list with the places of itself and of its items."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.places: list[Place] = []


Decrypt = Callable[[str], str]


class Sealed(msgspec.Struct, frozen=True):
    """A value of Vault's that cannot be opened here: whoever uses it is told why."""

    envelope: str
    place: Place
    problem: str
    hint: str | None

    def error(self) -> PlaybookError:
        """Why it cannot be used, to raise."""
        return self.place.error(self.problem, hint=self.hint)

    def __str__(self) -> str:
        raise self.error()


def place_of(value: Any, otherwise: Place) -> Place:
    """Where a value is written, or where what contains it is."""
    return value.place if isinstance(value, Text | Mapping | Items | Sealed) else otherwise


def is_template(value: Any) -> bool:
    """Whether a text may be a template."""
    return isinstance(value, str) and ("{{" in value or "{%" in value or "{#" in value)


def holds_template(value: Any) -> bool:
    """Whether a template is in a value or anywhere below it."""
    if isinstance(value, dict):
        return any(holds_template(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return any(holds_template(one) for one in value)
    return is_template(value)


def texts_in(value: Any) -> Iterator[Text]:
    """All texts of a person in a value, at any depth."""
    if isinstance(value, Text):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from texts_in(key)
            yield from texts_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts_in(one)


def read_file(path: Path, decrypt: Decrypt | None = None) -> Any:
    """The one document of a YAML file, None when it is empty.

    Args:
        decrypt: Opens Vault's envelopes; raises ValueError.

    Raises:
        PlaybookError: It cannot be read, is no YAML, or encrypted and there is no password.
    """
    place = Place(str(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise place.error(f"cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise place.error(
            f"{len(content)} bytes are more than YAML is read of ({FILE_BYTES_MAX})",
            hint="data as JSON is read quickly: lookup('file', NAME) | from_json",
        )
    text = _decoded(content, place)
    if text.startswith(VAULT_HEADER):
        text = opened(text, place, decrypt)
    return read_text(text, str(path), decrypt)


def _decoded(content: bytes, place: Place) -> str:
    """As universal newlines; a byte order mark is no part of it."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        at = _place_after(before, place.path)
        raise at.error("it is no UTF-8 text", hint="save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _place_after(text: str, path: str) -> Place:
    return Place(path, text.count("\n") + 1, len(text) - text.rfind("\n"))


def read_text(text: str, path: str, decrypt: Decrypt | None = None) -> Any:
    """The one document of a YAML text. Raises as `read_file`."""
    try:
        root = _Composer(text).get_single_node()
        return None if root is None else _Builder(path, decrypt).build(root, 0)
    except PlaybookError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path)
        problem = (error.problem or error.context or "no valid YAML").splitlines()[0]
        hint = _syntax_hint(text, place, problem) or _hint_of_begin(error)
        raise place.error(problem, hint=hint) from error
    except ReaderError as error:
        at = _place_after(text.partition(chr(error.character))[0], path)
        problem = f"the character U+{error.character:04X} may not stand here"
        raise at.error(problem, hint='in a text: "\\u…", if it is meant') from error
    except (YAMLError, ValueError, TypeError, ArithmeticError) as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise Place(path).error(f"no valid YAML: {reason[0]}") from error


_BEGUN = {
    "while parsing a flow sequence": "the `[`",
    "while parsing a flow mapping": "the `{`",
    "while scanning a quoted scalar": "the quote",
}


def _hint_of_begin(error: MarkedYAMLError) -> str | None:
    """Where what has no end begins; what a block expects."""
    mark, begun = error.context_mark, _BEGUN.get(error.context or "")
    if mark is not None and begun:
        return f"{begun} of line {mark.line + 1}, column {mark.column + 1} may have no end"
    if "another document" in (error.problem or ""):
        return "a file holds one document: leave out `---` below the first line"
    if mark is not None and (error.context or "").startswith("while parsing a block"):
        return f"look at the indentation: what begins in line {mark.line + 1} goes on there"
    return None


def _syntax_hint(text: str, place: Place, problem: str) -> str | None:
    lines = text.splitlines()
    if place.line is None or not 1 <= place.line <= len(lines):
        return None
    line = lines[place.line - 1]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces, not with tabs"
    if "{{" in line and not any(quote in line for quote in "\"'"):
        return _QUOTE_TEMPLATE
    if "mapping values" in problem:
        return "quote a value that holds `: `, or look at the indentation"
    return None


def opened(text: str, place: Place, decrypt: Decrypt | None) -> str:
    """What an envelope of Vault's holds.

    Raises:
        PlaybookError: There is no password, or none that fits.
    """
    if decrypt is None:
        raise place.error(
            "it is encrypted with Vault, and no password is given",
            hint="--vault-password-file FILE or --ask-vault-pass",
        )
    try:
        return decrypt(text)
    except ValueError as error:
        raise place.error(f"it cannot be decrypted: {error}") from error


class _Composer(Composer, Resolver):  # type: ignore[misc]
    """Makes nodes of what libyaml reads, which is quick; the library alone is where it is not.

    What is nested too deep is refused where it is, before the interpreter does.
    """

    def __init__(self, text: str) -> None:
        Composer.__init__(self)
        Resolver.__init__(self)
        parser = _Parser(text)
        self.check_event = parser.check_event
        self.peek_event = parser.peek_event
        self.get_event = parser.get_event
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if self._depth > _DEPTH_MAX:
            problem = f"nested more than {_DEPTH_MAX} levels deep"
            raise ComposerError(None, None, problem, event.start_mark)
        if not isinstance(event, AliasEvent):
            self.anchors.pop(event.anchor, None)  # the later counts, as for Ansible
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_QUOTE_TEMPLATE = 'quote a value that begins with a template: key: "{{ name }}"'


class _Builder:
    """Turns a document's nodes into values that know their places."""

    def __init__(self, path: str, decrypt: Decrypt | None) -> None:
        self._path = path
        self._decrypt = decrypt
        self._constructor = SafeConstructor()
        self._seen: set[int] = set()
        self._again = 0

    def build(self, node: Node, depth: int) -> Any:
        """The value of a node and of all below it."""
        place = self._place(node)
        if depth > _DEPTH_MAX:
            raise place.error(f"nested more than {_DEPTH_MAX} levels deep, or in itself")
        self._again += id(node) in self._seen
        self._seen.add(id(node))
        if self._again > _ALIASED_MAX:
            raise place.error(f"aliases make more than {_ALIASED_MAX} values of it")
        if not isinstance(node, ScalarNode):
            return self._collection(node, place, depth)
        return self._scalar(node, place)

    def _collection(self, node: Node, place: Place, depth: int) -> Any:
        tag = str(node.tag)
        if tag == "!unsafe":
            return _as_data(self._untagged(node, place, depth))
        if tag not in _COLLECTION_TAGS:
            written = tag.replace("tag:yaml.org,2002:", "!!")
            raise place.error(f"the tag {written} is not supported here", hint="!unsafe is")
        return self._untagged(node, place, depth)

    def _untagged(self, node: Node, place: Place, depth: int) -> Any:
        if isinstance(node, MappingNode):
            return self._mapping(node, place, depth)
        assert isinstance(node, SequenceNode)
        items = Items(place)
        for child in node.value:
            items.append(self.build(child, depth + 1))
            items.places.append(self._place(child))
        return items

    def _place(self, node: Node) -> Place:
        return Place(self._path, node.start_mark.line + 1, node.start_mark.column + 1)

    def _scalar(self, node: ScalarNode, place: Place) -> Any:
        tag = str(node.tag)
        if tag == _TEXT_TAG:
            if node.style == '"' and any("\ud800" <= char <= "\udfff" for char in node.value):
                raise place.error("a text holds half a character", hint="\\U and eight digits")
            return Text(node.value, place)
        if tag == "!unsafe":
            return Data(node.value)
        if tag in ("!vault", "!vault-encrypted"):
            return self._unsealed(node.value, place)
        if tag.startswith("!"):
            raise place.error(f"the tag {tag} is not supported", hint="!vault and !unsafe are")
        try:
            return self._constructor.construct_object(node)
        except MarkedYAMLError:
            raise
        except (YAMLError, ValueError, TypeError, ArithmeticError) as error:
            # Constructors of dates and numbers raise what they like.
            name = tag.rpartition(":")[2]
            raise place.error(f"it is no {name}: {error}", hint="quote a text") from error

    def _unsealed(self, envelope: str, place: Place) -> Text | Sealed:
        """As Ansible: of several passwords those are needed whose values are used."""
        try:
            return Text(opened(envelope, place, self._decrypt), place)
        except PlaybookError as error:
            return Sealed(envelope, place, error.problem, error.hint)

    def _mapping(self, node: MappingNode, place: Place, depth: int) -> Mapping:
        mapping = Mapping(place)
        for key_node, value_node in self._pairs(node):
            at = self._place(key_node)
            key = self._scalar(key_node, at) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str | int | float):
                is_template = isinstance(key_node, MappingNode)  # {{ x }} is a mapping as a key
                hint = _QUOTE_TEMPLATE if is_template else "quote it"
                raise at.error("a key has to be a plain text", hint=hint)
            name = str(key)
            if name in mapping:
                first = mapping.places[name].line
                raise at.error(f"{name!r} is here twice, first in line {first}")
            mapping[name] = self.build(value_node, depth + 1)
            mapping.places[name] = at
            if not isinstance(key, str):
                mapping.read_as[name] = key
        self._merge(node, mapping, depth)
        return mapping

    def _pairs(self, node: MappingNode) -> Iterator[tuple[Node, Node]]:
        return ((key, value) for key, value in node.value if key.tag != _MERGE_TAG)

    def _merge(self, node: MappingNode, mapping: Mapping, depth: int) -> None:
        """What `<<:` brings in, before what the mapping says itself, and counting less."""
        found: dict[str, Mapping] = {}
        for key, value in node.value:
            if key.tag != _MERGE_TAG:
                continue
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                merged = self.build(source, depth + 1)
                if not isinstance(merged, Mapping):
                    raise self._place(key).error("<<: takes a mapping, or a list of them")
                for name in merged:
                    found.setdefault(name, merged)
        own = dict(mapping)
        mapping.clear()
        for name, merged in found.items():
            mapping[name] = own.get(name, merged[name])
            if name not in own:
                mapping.places[name] = merged.places[name]
                if name in merged.read_as:
                    mapping.read_as[name] = merged.read_as[name]
        mapping.update(own)


def _as_data(value: Any) -> Any:
    """A value whose texts are no templates."""
    if isinstance(value, dict):
        return {str(key): _as_data(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_data(one) for one in value]
    return Data(value) if isinstance(value, Text) else value

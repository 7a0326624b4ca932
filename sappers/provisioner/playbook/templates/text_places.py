"""Where in its file a part of a text stands."""

from __future__ import annotations

from pathlib import Path

from sappers.provisioner.source import VAULT_HEADER, Place


def place_within(text: str, place: Place, offset: int) -> Place:
    """Where in its file a character of a text is written, as far as the file shows that.

    What YAML leaves out (quotes, escapes, indentation) stands between the characters there.

    Args:
        place: Where the text begins, or a longer one that it is taken from.
    """
    lines = _lines_from(place)
    if not lines or place.line is None or place.column is None:
        return place
    first = lines[0].find(text.strip(), place.column - 1)
    if first >= 0 and "\n" not in text.strip():
        leading = len(text) - len(text.lstrip())
        return place._replace(column=first + max(0, offset - leading) + 1)
    written, at = "\n".join(lines), place.column - 2
    for char in text[: offset + 1]:
        if not char.isspace():
            at = written.find(char, at + 1)
            if at < 0:
                return place
    before = written[: max(0, at)]
    column = len(before) - (before.rfind("\n") + 1) + 1
    return Place(place.path, place.line + before.count("\n"), column)


def _lines_from(place: Place) -> list[str]:
    """The lines of a file that may belong to what begins at a place; none where nobody can tell."""
    if place.line is None:
        return []
    try:
        content = Path(place.path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []
    lines = content.split("\n")[place.line - 1 :]
    if content.startswith(VAULT_HEADER) or not lines:
        return []
    own = len(lines[0]) - len(lines[0].lstrip())
    found = lines[:1]
    for line in lines[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= own:
            break
        found.append(line)
    return found

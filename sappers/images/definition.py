"""Image definitions: `unikernels/NAME/image.toml`, read strictly; mistakes have a line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from sappers.errors import ImageDefinitionError

DEFINITION_FILE = "image.toml"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class ApplicationDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The program of the image.

    Attributes:
        module: Name to run it by: `hello` for hello.py, or a package with a `__main__`.
        files: Files and folders beside the definition that make it up.
        in_process: Run `async def run(guest)` inside the sidecar, with its link to the hub.
    """

    module: str
    files: tuple[str, ...]
    in_process: bool = False


class HealthDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold for a guest to call itself healthy; see `sidecar.settings.HealthCheck`."""

    check: Literal["http", "tcp", "process"] = "process"
    path: str = "/"
    interval_seconds: float = 1.0
    timeout_seconds: float = 2.0


class ImageDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image as a person describes it.

    Attributes:
        port: Port the application listens on, or None.
        environment: Variables of the application.
    """

    kind: Literal["microvm"]
    application: ApplicationDefinition
    memory_mib: int = 128
    port: int | None = None
    health: HealthDefinition = HealthDefinition()
    environment: dict[str, str] = {}


def load_definition(folder: Path, name: str) -> ImageDefinition:
    """Read and check `folder/name/image.toml`.

    Raises:
        ImageDefinitionError: Missing or wrong; says the line and what to write.
    """
    path = folder / name / DEFINITION_FILE
    if not _NAME.fullmatch(name):
        raise ImageDefinitionError(
            f"{name!r} is no image name: 1 to 63 lower-case letters, digits, `-`", path=str(path)
        )
    text = _read(path, folder)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _toml_error(path, error) from error
    try:
        definition = msgspec.convert(raw, ImageDefinition)
    except msgspec.ValidationError as error:
        raise _shape_error(path, text, error) from error
    for key, message in _mistakes(definition, path.parent):
        raise ImageDefinitionError(message, path=str(path), line=_line_of(text, key))
    return definition


def _read(path: Path, folder: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        known = sorted(entry.parent.name for entry in folder.glob(f"*/{DEFINITION_FILE}"))
        raise ImageDefinitionError(
            "no such image definition",
            path=str(path),
            hint=f"known here: {', '.join(known)}" if known else f"nothing is defined in {folder}",
        ) from error
    except UnicodeDecodeError as error:
        raise ImageDefinitionError("not UTF-8 text", path=str(path)) from error
    except OSError as error:
        raise ImageDefinitionError(f"cannot be read: {error.strerror}", path=str(path)) from error


def _mistakes(definition: ImageDefinition, folder: Path) -> list[tuple[str, str]]:
    """What types alone do not catch: (key, message)."""
    found: list[tuple[str, str]] = []
    if not 96 <= definition.memory_mib <= 65536:
        found.append(("memory_mib", "memory_mib must be 96 to 65536; less does not boot"))
    if definition.port is not None and not 1 <= definition.port <= 65535:
        found.append(("port", "port must be 1 to 65535"))
    if definition.health.check != "process" and definition.port is None:
        found.append(("health.check", f"check = {definition.health.check!r} needs a `port`"))
    if not definition.health.path.startswith("/") or not definition.health.path.isprintable():
        found.append(("health.path", "path must begin with `/` and have no control characters"))
    if not 0.1 <= definition.health.interval_seconds <= 60:
        found.append(("health.interval_seconds", "interval_seconds must be 0.1 to 60"))
    if not 0.1 <= definition.health.timeout_seconds <= 60:
        found.append(("health.timeout_seconds", "timeout_seconds must be 0.1 to 60"))
    if not all(part.isidentifier() for part in definition.application.module.split(".")):
        found.append(("application.module", f"{definition.application.module!r} is no module name"))
    for file in definition.application.files:
        inside = (folder / file).resolve().is_relative_to(folder.resolve())
        if not inside or not (folder / file).exists():
            found.append(("application.files", f"{file!r} is not beside the definition"))
    return found


def _toml_error(path: Path, error: tomllib.TOMLDecodeError) -> ImageDefinitionError:
    place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
    message = re.sub(r" \(at .*\)$", "", str(error))
    line, column = (int(place[1]), int(place[2])) if place else (None, None)
    return ImageDefinitionError(message, path=str(path), line=line, column=column)


def _shape_error(path: Path, text: str, error: msgspec.ValidationError) -> ImageDefinitionError:
    message, _, place = str(error).partition(" - at `$")
    key = place.strip("`").lstrip(".").split("[")[0]
    if unknown := re.search(r"unknown field `(\w+)`", message):
        key = f"{key}.{unknown[1]}".lstrip(".")
    label = f"{key}: " if key else ""
    return ImageDefinitionError(f"{label}{message}", path=str(path), line=_line_of(text, key))


def _line_of(text: str, dotted_key: str) -> int | None:
    """The line that sets `table.key`, or where the table begins, or None."""
    table, _, key = dotted_key.rpartition(".")
    current, table_line = "", None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            current = header[1].strip()
            if current in (dotted_key, table):
                table_line = number
        elif current == table and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return number
    return table_line

"""Image definitions: `image.toml` in a folder of its own, read strictly; mistakes have a line."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sappers.errors import ImageDefinitionError, ImagePartError
from sappers.images.definition_errors import error_at, shape_error, toml_error
from sappers.images.manifests import is_name
from sappers.images.own_modules import find_source
from sappers.model.image import Kind, MemoryMib, Port, Seconds

DEFINITION_FILE = "image.toml"
_PACKAGE = r"^[a-z0-9][a-z0-9+.-]+$"
_BYTES_MAX = 1 << 20
_MICROVM_MIB_MIN = 96
_PROGRAMS = ("module", "script", "binary", "command", "container")

Package = Annotated[str, Meta(pattern=_PACKAGE)]


class ApplicationDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the guest runs: exactly one of module, script, binary, command, container."""

    module: Annotated[
        str | None,
        Meta(
            description="Python module to run: `hello` for hello.py, or a package with __main__.py."
        ),
    ] = None
    script: Annotated[
        str | None, Meta(description="Python file beside the definition, run as `__main__`.")
    ] = None
    binary: Annotated[
        str | None,
        Meta(
            description="ELF program for x86-64 beside the definition, static or dynamic; its "
            "libraries come from Debian's `packages`."
        ),
    ] = None
    command: Annotated[
        Annotated[tuple[str, ...], Meta(min_length=1)] | None,
        Meta(description="Program of the Debian `packages`, and its arguments."),
    ] = None
    container: Annotated[
        str | None,
        Meta(
            description="OCI image: a layout folder or tar, or what `docker save` writes; relative "
            "to the definition. Its entry point runs, or `arguments` in place of its command."
        ),
    ] = None
    arguments: Annotated[
        tuple[str, ...],
        Meta(description="Arguments of the module, script, binary or container's entry point."),
    ] = ()
    files: Annotated[
        tuple[str, ...],
        Meta(description="Files and folders beside the definition; they are in /app of the guest."),
    ] = ()
    packages: Annotated[
        tuple[Package, ...],
        Meta(
            description="Debian packages, with all they depend on; unpacked, their maintainer "
            "scripts do not run."
        ),
    ] = ()
    wheels: Annotated[
        tuple[Package, ...],
        Meta(
            description="Python packages of Sappers' own lock file, with all they depend on; for a "
            "module or script."
        ),
    ] = ()
    sappers_modules: Annotated[
        tuple[str, ...],
        Meta(
            description="Modules of Sappers that the application imports, with what they import of "
            "it; a package comes whole, as sources."
        ),
    ] = ()
    prepare: Annotated[
        str | None,
        Meta(
            description="Function of the module that does, before a template is saved, what every "
            "guest does first, such as to listen; what it returns is called to run the application."
        ),
    ] = None
    in_process: Annotated[
        bool,
        Meta(
            description="Run the module's `async def run(guest)` inside the sidecar, with its link "
            "to the hub."
        ),
    ] = False

    @property
    def programs(self) -> tuple[str, ...]:
        """Which of the five ways to name a program are used; one, once it is checked."""
        return tuple(name for name in _PROGRAMS if getattr(self, name) is not None)


class HealthDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold for a guest to call itself healthy."""

    check: Annotated[
        Literal["http", "tcp", "exec", "process"],
        Meta(
            description="http: the path answers a status below 400; tcp: the port accepts; "
            "exec: the command ends with exit code 0; process: the application lives."
        ),
    ] = "process"
    command: Annotated[
        tuple[str, ...],
        Meta(
            description="Program and arguments of an exec check; run as the application's user, "
            "in its folder."
        ),
    ] = ()
    path: Annotated[str, Meta(description="What an http check asks for.")] = "/"
    interval_seconds: Annotated[Seconds, Meta(description="How often health is pushed.")] = 1.0
    timeout_seconds: Annotated[Seconds, Meta(description="How long an answer may take.")] = 2.0


class ApplianceDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A host image: Debian with the agent installed."""

    packages: Annotated[
        tuple[Package, ...], Meta(description="Debian packages beside those an agent needs.")
    ] = ()
    kernel: Annotated[Package, Meta(description="Debian package of the kernel.")] = (
        "linux-image-cloud-amd64"
    )
    disk_mib: Annotated[int, Meta(ge=1024, le=1048576, description="Size of the disk.")] = 3072


class ImageDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image as a person describes it; the folder's name is the image's."""

    kinds: Annotated[
        tuple[Kind, ...],
        Meta(
            min_length=1,
            description="What it can be built as; the first is built unless --kind says otherwise.",
        ),
    ]
    application: ApplicationDefinition | None = None
    appliance: ApplianceDefinition | None = None
    memory_mib: Annotated[
        MemoryMib,
        Meta(description="What a guest gets unless `run` says otherwise."),
    ] = 128
    port: Annotated[
        Port | None,
        Meta(description="TCP port the application listens on."),
    ] = None
    stateful: Annotated[
        bool, Meta(description="Whether the guest holds state that its end would lose.")
    ] = False
    health: HealthDefinition = HealthDefinition()
    environment: Annotated[
        dict[str, str], Meta(description="Environment variables of the application.")
    ] = {}

    def check_settings(self, port: int | None) -> dict[str, Any]:
        """The check as the sidecar reads it; `sidecar.settings.HealthCheck`."""
        return {
            "kind": self.health.check,
            "port": port or 0,
            "path": self.health.path,
            "timeout_seconds": self.health.timeout_seconds,
            "command": self.health.command,
        }

    @property
    def program(self) -> ApplicationDefinition:
        """The application; every definition that may become a guest has one."""
        assert self.application is not None
        return self.application


def definition_schema() -> dict[str, Any]:
    """JSON Schema of `image.toml`, for editors."""
    schema = msgspec.json.schema(ImageDefinition)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Sappers image definition",
        **schema,
    }


def find_definitions(folders: Sequence[Path], name: str) -> Path:
    """The first of the folders that defines an image.

    Raises:
        ImageDefinitionError: None does; says which images they define.
    """
    for folder in folders:
        if is_name(name) and (folder / name / DEFINITION_FILE).is_file():
            return folder
    there = {one.parent.name for at in folders for one in at.glob(f"*/{DEFINITION_FILE}")}
    known = ", ".join(sorted(filter(is_name, there)))
    raise ImageDefinitionError(
        f"no image {name!r} is defined" if is_name(name) else _no_name(name),
        path=", ".join(map(str, folders)),
        hint=f"known here: {known}" if known else "nothing is defined there",
    )


def _no_name(text: str) -> str:
    return f"{text!r} is no image name: 1 to 63 lower-case letters, digits, `-`"


def load_definition(folder: Path, name: str) -> ImageDefinition:
    """Read and check `folder/name/image.toml`.

    Raises:
        ImageDefinitionError: Missing or wrong; says the line and what to write.
    """
    path = folder / name / DEFINITION_FILE
    if not is_name(name):
        raise ImageDefinitionError(_no_name(name), path=str(path))
    text = _read(path)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise toml_error(path, text, error) from error
    except RecursionError as error:
        raise ImageDefinitionError("nested too deeply", path=str(path)) from error
    try:
        definition = msgspec.convert(raw, ImageDefinition)
    except msgspec.ValidationError as error:
        raise shape_error(path, text, raw, error) from error
    for key, message in _mistakes(definition, path.parent):
        raise error_at(path, text, key, message)
    return definition


@contextlib.contextmanager
def placing(folder: Path, name: str) -> Iterator[None]:
    """Building in this block: what is wrong with a part has the place where it is named.

    Raises:
        ImageDefinitionError: In place of `ImagePartError`.
    """
    try:
        yield
    except ImagePartError as error:
        path = folder / name / DEFINITION_FILE
        raise error_at(path, _read(path), error.key, error.message, hint=error.hint) from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        if len(content) > _BYTES_MAX:
            raise ImageDefinitionError("too long for a definition", path=str(path))
        return content.decode()
    except UnicodeDecodeError as error:
        raise ImageDefinitionError("not UTF-8 text", path=str(path)) from error
    except OSError as error:
        raise ImageDefinitionError(f"cannot be read: {error.strerror}", path=str(path)) from error


def _mistakes(definition: ImageDefinition, folder: Path) -> Iterator[tuple[str, str]]:
    """What types alone do not catch: (key, message)."""
    guest_kinds = [kind for kind in definition.kinds if kind != "appliance"]
    if len(set(definition.kinds)) != len(definition.kinds):
        yield "kinds", "a kind is named twice"
    if guest_kinds and definition.application is None:
        yield "kinds", f"kind {guest_kinds[0]!r} needs an [application]"
    if "appliance" in definition.kinds and definition.appliance is None:
        yield "kinds", "kind 'appliance' needs an [appliance]"
    if definition.appliance is not None and "appliance" not in definition.kinds:
        yield "appliance", "[appliance] is for kind 'appliance', which `kinds` does not name"
    if definition.application is not None and not guest_kinds:
        yield "application", "[application] is for guests, of which `kinds` names none"
    if "microvm" in definition.kinds and definition.memory_mib < _MICROVM_MIB_MIN:
        yield "memory_mib", f"memory_mib must be at least {_MICROVM_MIB_MIN}; less does not boot"
    if definition.application is not None:
        yield from _application_mistakes(definition, definition.application, folder)
    path = definition.health.path
    if not path.startswith("/") or not path.isprintable() or " " in path:
        yield "health.path", "path must begin with `/` and have no spaces or control characters"
    yield from _command_mistakes(definition)
    yield from _word_mistakes(definition)
    for variable, value in definition.environment.items():
        if not variable or "=" in variable or "\0" in variable + value:
            yield f"environment.{variable}", f"{variable!r} cannot be an environment variable"


def _command_mistakes(definition: ImageDefinition) -> Iterator[tuple[str, str]]:
    health = definition.health
    if health.check == "exec":
        if not health.command or not all(health.command):
            yield "health.check", "check = 'exec' needs a `command`, such as [\"/app/check\"]"
        if "nanos" in definition.kinds:
            yield "health.check", "check = 'exec' needs a second process, which Nanos has not"
    elif health.command:
        yield "health.command", f"`command` is for check = 'exec', not {health.check!r}"


def _word_mistakes(definition: ImageDefinition) -> Iterator[tuple[str, str]]:
    program = definition.application or ApplicationDefinition()
    if program.command is not None and not program.command[0]:
        yield "application.command", "`command` begins with the name of a program"
    for key, words in (
        ("application.arguments", program.arguments),
        ("application.command", program.command or ()),
        ("health.command", definition.health.command),
    ):
        if "\0" in "".join(words):
            yield key, "no NUL can be in what a program is told"


def _application_mistakes(
    definition: ImageDefinition, program: ApplicationDefinition, folder: Path
) -> Iterator[tuple[str, str]]:
    used = program.programs
    if len(used) != 1:
        found = f"found {', '.join(used)}" if used else "found none"
        yield "application", f"application: exactly one of {', '.join(_PROGRAMS)}; {found}"
        return
    yield from _combination_mistakes(program)
    if program.prepare is not None:
        if not program.prepare.isidentifier():
            yield "application.prepare", f"{program.prepare!r} is no name of a function"
        if program.module is None or program.in_process:
            yield "application.prepare", "prepare needs a `module` that is not in_process"
    if program.container is not None:
        yield from _container_mistakes(definition, program, folder)
    elif definition.health.check in ("http", "tcp") and definition.port is None:
        yield "health.check", f"check = {definition.health.check!r} needs a `port`"
    for key in ("script", "binary"):
        name = getattr(program, key)
        if name is not None and not _is_beside(folder, name, only_file=True):
            yield f"application.{key}", f"{name!r} is no file beside the definition"
    for name in program.files:
        if not _is_beside(folder, name):
            yield "application.files", f"{name!r} is not beside the definition"


def _combination_mistakes(program: ApplicationDefinition) -> Iterator[tuple[str, str]]:
    if program.module is not None:
        if not all(part.isidentifier() for part in program.module.split(".")):
            yield "application.module", f"{program.module!r} is no module name"
        if not program.files:
            yield "application.files", "`files` must name what the module is made of"
    elif program.in_process:
        yield "application.in_process", "in_process needs a `module`"
    if program.module is None and program.script is None:
        for key in ("wheels", "sappers_modules"):
            if getattr(program, key):
                yield f"application.{key}", f"{key} are for a `module` or `script`"
    for name in program.sappers_modules:
        if name.partition(".")[0] != "sappers" or find_source(name) is None:
            yield "application.sappers_modules", f"{name!r} is no module of Sappers"
    if program.in_process and program.arguments:
        yield "application.arguments", "an application in the sidecar's process has no arguments"
    if program.command is not None and program.arguments:
        yield "application.arguments", "`command` has its arguments itself"


def _container_mistakes(
    definition: ImageDefinition, program: ApplicationDefinition, folder: Path
) -> Iterator[tuple[str, str]]:
    if set(definition.kinds) != {"microvm"}:
        yield "kinds", "a container can be a microvm only"
    if program.packages:
        yield "application.packages", "a container brings its own packages"
    if program.container is not None and not _is_there(folder / program.container):
        yield "application.container", f"{program.container!r} does not exist"


def _is_beside(folder: Path, name: str, *, only_file: bool = False) -> bool:
    if ".." in Path(name).parts or not _is_there(folder / name):
        return False
    path = (folder / name).resolve()
    return path.is_relative_to(folder.resolve()) and (path.is_file() or not only_file)


def _is_there(path: Path) -> bool:
    """Whether it is a file or folder; a name that is too long is that of none."""
    try:
        return path.is_file() or path.is_dir()
    except OSError:
        return False

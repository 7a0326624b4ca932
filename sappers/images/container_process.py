"""What runs in a container's root, as whom and where: its configuration, and the definition's."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import msgspec

from sappers.errors import ImageError, ImagePartError
from sappers.images.definition import ImageDefinition
from sappers.images.oci import ContainerImage
from sappers.images.tree import OWNER_MAX, Folder, Inode, Tree

CONTAINER_ROOT = "container"  # the sidecar's own root is around it
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FILES = {
    "etc/hosts": b"127.0.0.1 localhost\n::1 localhost\n",
    "etc/resolv.conf": b"nameserver 10.0.2.3\n",
}


class ContainerLaunch(msgspec.Struct, frozen=True):
    """A container's process.

    Attributes:
        program: Absolute path.
        folder: Where it starts.
    """

    program: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    user_id: int
    group_id: int
    groups: tuple[int, ...]
    port: int | None


def container_launch(
    image: ContainerImage, tree: Tree, definition: ImageDefinition
) -> ContainerLaunch:
    """Decide how the container's process runs; folders that it needs are made in `tree`.

    Raises:
        ImageError: The image names a user or program that it does not have.
    """
    process = image.process
    command = (*(process.entrypoint or ()), *(definition.program.arguments or process.cmd or ()))
    if not command:
        raise ImageError(
            f"{image.name} says not what to run", hint='add `arguments = ["/path/of/program"]`'
        )
    user_id, group_id, groups, home = _user(process.user or "", tree, image.name)
    if max(user_id, group_id, *groups) > OWNER_MAX:
        raise ImageError(f"{image.name} runs as {process.user}, a number that no user can have")
    environment = {"PATH": SEARCHED, "HOME": home}
    environment |= dict(each.split("=", 1) for each in process.env or () if "=" in each[1:])
    folder = process.working_dir or "/"
    if "\0" in "".join((*command, *environment, *environment.values(), folder)):
        raise ImageError(f"{image.name}: no NUL can be in what a program is told")
    _furnish(tree, folder, image.name)
    program = tree.first_file(program_places(command[0], environment["PATH"], folder))
    if program is None:
        raise ImageError(f"{image.name} has no program {command[0]}")
    return ContainerLaunch(
        program=program,
        arguments=command[1:],
        environment=environment,
        folder=folder,
        user_id=user_id,
        group_id=group_id,
        groups=groups,
        port=_port(image, definition),
    )


def _port(image: ContainerImage, definition: ImageDefinition) -> int | None:
    if definition.port is not None:
        return definition.port
    ports = image.process.tcp_ports
    if len(ports) > 1:
        raise ImageError(
            f"{image.name} exposes {', '.join(map(str, ports))}", hint=f"add `port = {ports[0]}`"
        )
    if not ports and definition.health.check in ("http", "tcp"):
        raise ImagePartError(
            f"{image.name} exposes no port, and check = {definition.health.check!r} needs one",
            key="health.check",
            hint="add `port = …`",
        )
    return ports[0] if ports else None


def program_places(name: str, searched: str, folder: str) -> list[str]:
    """Where a program may be, by the rules of `execvp`.

    Args:
        searched: `PATH`.
        folder: Where its process starts.
    """
    if name.startswith("/"):
        return [name]
    if "/" in name:
        return [f"{folder.rstrip('/')}/{name}"]
    return [f"{place}/{name}" for place in searched.split(":")]


def _user(text: str, tree: Tree, image: str) -> tuple[int, int, tuple[int, ...], str]:
    """User, group, other groups and home of `user`, `uid`, `user:group` or `uid:gid`."""
    name, _, group = text.partition(":")
    name = name or "0"
    known = [
        fields
        for fields in _table(tree, "etc/passwd", 7)
        if name in (fields[0], fields[2]) and _is_number(fields[2]) and _is_number(fields[3])
    ]
    known.sort(key=lambda fields: fields[0] != name)
    if not known and not _is_number(name):
        raise ImageError(f"{image} runs as {name}, but its /etc/passwd has no such user")
    user_id = int(known[0][2]) if known else int(name)
    group_id = int(known[0][3]) if known else 0
    home = known[0][5] if known else "/"
    groups: tuple[int, ...] = ()
    if group:
        group_id = _group(group, tree, image)
    elif known:
        groups = tuple(
            int(fields[2])
            for fields in _table(tree, "etc/group", 4)
            if known[0][0] in fields[3].split(",") and _is_number(fields[2])
        )
    return user_id, group_id, groups, home or "/"


def _group(name: str, tree: Tree, image: str) -> int:
    for fields in _table(tree, "etc/group", 4):
        if fields[0] == name and _is_number(fields[2]):
            return int(fields[2])
    if not _is_number(name):
        raise ImageError(f"{image} runs in group {name}, but its /etc/group has no such group")
    return int(name)


def _is_number(text: str) -> bool:
    """Whether it may be a user's or group's; Python takes more for digits, and not any number."""
    return text.isascii() and text.isdigit() and len(text) <= len(str(OWNER_MAX))


def _table(tree: Tree, path: str, columns: int) -> Iterator[list[str]]:
    text = (tree.read(path) or b"").decode("utf-8", "replace")
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == columns:
            yield fields


def _furnish(tree: Tree, working_folder: str, image: str) -> None:
    """Make what every container is given: folders to mount on, and how names are resolved."""
    if tree.first_file([working_folder]):
        raise ImageError(f"{image} is to run in the folder {working_folder}, which is a file")
    for path in ("dev", "proc", "sys", "etc", working_folder):
        if not isinstance(tree.find(path), Folder):
            tree.put(path, Folder())
    if not isinstance(tree.find("tmp"), Folder):
        tree.put("tmp", Folder(0o1777))
    for path, content in _FILES.items():
        tree.put(path, Inode(stat.S_IFREG | 0o644, content))

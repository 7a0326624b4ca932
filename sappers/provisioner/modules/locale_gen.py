"""Makes locales be there, or not."""

from __future__ import annotations

import re
from typing import List

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Make locales be there, or not.",
    (
        Argument("name", "list", "For example de_DE.UTF-8.", required=True),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
    ),
    returns=(
        ("name", "as asked for"),
        ("mechanism, ubuntu_mode", "how locales are made: glibc, false"),
    ),
    notes=("Where /etc/locale.gen says which there are: on Debian and its like.",),
)
_FILE = "/etc/locale.gen"
_TOPIC = "locale"


def plan(task: step.Task) -> step.Plan:
    """Change the lines of /etc/locale.gen, then run locale-gen."""
    names, is_wanted = task.args["name"], task.args["state"] == "present"
    content = yield step.Read(_FILE)
    if content is None:
        raise step.Failed(f"{_FILE} is missing. Is the package 'locales' installed?")
    asked = yield step.Ask(("locale", "-a"), topic=_TOPIC)
    there = {_normal(line) for line in asked.out.split()}
    differ = [name for name in names if (_normal(name) in there) != is_wanted]
    how = {"mechanism": "glibc", "ubuntu_mode": False}
    result = {"changed": bool(differ), "name": names, **how}
    if not differ:
        return result
    lines = content.decode("utf-8", "replace").splitlines()
    if is_wanted:
        supported = (yield step.Read("/usr/share/i18n/SUPPORTED")) or b""
        offered = [*lines, *supported.decode("utf-8", "replace").splitlines()]
        lacking = [name for name in differ if not any(_is_of(line, name) for line in offered)]
        if lacking:
            told = ", ".join(lacking)
            raise step.Failed(f"The following locales are not available on your system: {told}")
        missing = [name for name in differ if not any(_is_of(line, name) for line in lines)]
        lines += [line for line in offered if any(_is_of(line, name) for name in missing)]
    text = "".join(line + "\n" for line in _changed(lines, differ, is_wanted))
    yield from _files.ensure_content(_FILE, text.encode(), {"mode": None})
    changed = {_normal(name) for name in differ}
    said = "\n".join(sorted(there | changed if is_wanted else there - changed)).encode()
    yield from execute(("locale-gen",), ((_TOPIC, (0, said, b"")),))
    return result


def _normal(name: str) -> str:
    """As `locale -a` says it: the charset in small letters, without dashes."""
    base, dot, charset = name.partition(".")
    charset, at, variant = charset.partition("@")
    return base + dot + charset.lower().replace("-", "") + at + variant


def _is_of(line: str, name: str) -> bool:
    return line.lstrip("# ").split(" ")[0] == name


def _changed(lines: List[str], names: List[str], is_wanted: bool) -> List[str]:
    """With the names' lines on, or off."""
    after = []
    for line in lines:
        if any(_is_of(line, name) for name in names):
            bare = re.sub(r"^#\s*", "", line)
            line = bare if is_wanted else "# " + bare
        after.append(line)
    return after

"""Installs and removes Python packages."""

from __future__ import annotations

import re
import shlex
from typing import Any, Dict, List, Sequence

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Install, upgrade and remove Python packages.",
    (
        Argument("name", "list", "Packages, also with a version (`a==1`), or as an address."),
        Argument("version", "str", "The version; of one package."),
        Argument("requirements", "str", "A file of packages on the host."),
        Argument("state", "str", "", default="present",
                 choices=("absent", "forcereinstall", "latest", "present")),
        Argument("virtualenv", "path", "A virtual environment; it is made where there is none."),
        Argument("virtualenv_command", "path", "What makes it.", default="virtualenv"),
        Argument("virtualenv_python", "str", "The Python in it."),
        Argument("virtualenv_site_packages", "bool", "It sees the system's packages.",
                 default=False),
        Argument("extra_args", "str", "Arguments for pip."),
        Argument("editable", "bool", "Install as editable.", default=False),
        Argument("chdir", "path", "The folder to run in."),
        Argument("executable", "path", "The pip to use; a name or a path."),
        Argument("umask", "str", "For what is written."),
        Argument("break_system_packages", "bool", "Also where the system manages packages.",
                 default=False),
    ),
    outward=True,
    one_of=(("name", "requirements"),),
    exclusive=(("name", "requirements"), ("executable", "virtualenv")),
    returns=(("cmd", "what was run"), ("stdout, stderr", "what pip wrote"),
             ("name, version, requirements, state, virtualenv", "as asked for")),
)  # fmt: skip
_NAME = re.compile(r"\s*([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*(?:(===?)\s*([^,;\s]+))?\s*")
_ENVIRONMENT = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def plan(task: step.Task) -> step.Plan:
    """Ask what is there; run pip where that is not what is wanted."""
    args = task.args
    names = _names(args)
    shown = ("name", "version", "requirements", "state", "virtualenv")
    result: Dict[str, Any] = {key: args[key] for key in shown}
    made = False
    if args["virtualenv"]:
        made = yield from _make_environment(args)
    pip = yield from _program(args)
    there: Dict[str, str] = {}
    if not (made and task.check):
        there = yield from _installed(pip)
    if not _has_to_run(args, names, there):
        return {**result, "changed": made, "cmd": list(pip), "stdout": "", "stderr": ""}
    command = [*pip, *_words(args, names)]
    result["cmd"] = command
    if task.check and not made and args["state"] in ("present", "latest"):
        tried = yield step.Ask((*command, "--dry-run"), environment=_ENVIRONMENT,
                               timeout_seconds=600.0)  # fmt: skip
        would = tried.code != 0 or "Would install" in tried.out
        return {**result, "changed": would}
    umask = int(args["umask"], 8) if args["umask"] else None
    done = yield step.Execute(tuple(command), b"", args["chdir"] or "/", _ENVIRONMENT, umask=umask)
    result.update(stdout=done.out, stderr=done.err)
    if done.code:
        message = done.err.strip() or done.out.strip() or f"exit code {done.code}"
        raise step.Failed(f"{' '.join(command)}: {message}", rc=done.code, **result)
    words = ("Successfully uninstalled",) if args["state"] == "absent" else (
        "Successfully installed", "Successfully uninstalled",
    )  # fmt: skip
    changed = made or task.check or any(word in done.out for word in words)
    return {**result, "changed": changed}


def _names(args: Dict[str, Any]) -> List[str]:
    names = [name for name in args["name"] or () if name]
    if args["version"]:
        if len(names) != 1:
            raise step.Failed("'version' argument is ambiguous with more than one package")
        operator = "" if args["version"][0] in "<>=!~" else "=="
        return [names[0] + operator + args["version"]]
    return names


def _make_environment(args: Dict[str, Any]) -> step.Steps:
    """Make the virtual environment where there is none; whether it was made."""
    folder = args["virtualenv"]
    if (yield step.Stat(folder + "/bin/activate")) is not None:
        return False
    words = shlex.split(args["virtualenv_command"])
    if words == ["virtualenv"] and (yield step.Ask(("virtualenv", "--version"))).code:
        words = [args["virtualenv_python"] or "python3", "-m", "venv"]
    elif args["virtualenv_python"] and "venv" not in words:
        words += ["-p", args["virtualenv_python"]]
    if args["virtualenv_site_packages"]:
        words.append("--system-site-packages")
    done = yield step.Execute((*words, folder), b"", args["chdir"] or "/", _ENVIRONMENT)
    if done.code:
        message = done.err.strip() or done.out.strip()
        raise step.Failed(f"the virtual environment cannot be made: {message}", rc=done.code)
    return True


def _program(args: Dict[str, Any]) -> step.Steps:
    if args["virtualenv"]:
        return (args["virtualenv"].rstrip("/") + "/bin/pip",)
    if args["executable"]:
        return (args["executable"],)
    for words in (("pip3",), ("pip",), ("python3", "-m", "pip")):
        if (yield step.Ask((*words, "--version"))).code == 0:
            return words
    raise step.Failed("Unable to find any of pip3, pip to use: install python3-pip")


def _installed(pip: Sequence[str]) -> step.Steps:
    asked = yield step.Ask((*pip, "list", "--format=freeze"), environment=_ENVIRONMENT)
    pairs = (line.split("==", 1) for line in asked.out.splitlines() if "==" in line)
    return {_plain(name): version.strip() for name, version in pairs}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _has_to_run(args: Dict[str, Any], names: List[str], there: Dict[str, str]) -> bool:
    """Whether the list of what is installed does not settle it."""
    if args["requirements"] or args["state"] in ("forcereinstall", "latest"):
        return True
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            if args["state"] == "absent":
                raise step.Failed(f"{name!r}: to remove it, give its name alone")
            return True
        version = there.get(_plain(match.group(1)))
        if args["state"] == "absent":
            if version is not None:
                return True
        elif version is None or (match.group(3) and match.group(3) != version):
            return True
    return False


def _words(args: Dict[str, Any], names: List[str]) -> List[str]:
    """What pip is told."""
    words = {
        "absent": ["uninstall", "-y"], "present": ["install"],
        "latest": ["install", "--upgrade"], "forcereinstall": ["install", "--force-reinstall"],
    }[args["state"]]  # fmt: skip
    words = [*words, *shlex.split(args["extra_args"] or "")]
    if args["break_system_packages"]:
        words.append("--break-system-packages")
    if args["requirements"]:
        return [*words, "-r", args["requirements"]]
    editable = ["-e"] if args["editable"] else []
    return [*words, *(word for name in names for word in (*editable, name))]

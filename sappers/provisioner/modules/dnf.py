"""Installs, upgrades and removes RPM packages."""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, List, Sequence

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Install, upgrade and remove RPM packages.",
    (
        Argument("name", "list", "Packages, with or without version, files, `@groups`, or `*`.",
                 aliases=("pkg",)),
        Argument("state", "str", "",
                 choices=("absent", "installed", "latest", "present", "removed")),
        Argument("update_cache", "bool", "Fetch what repositories have first.", default=False,
                 aliases=("expire-cache",)),
        Argument("update_only", "bool", "With latest: only what is installed.", default=False),
        Argument("enablerepo", "list", "Repositories that count, too.", default=[]),
        Argument("disablerepo", "list", "Repositories that do not.", default=[]),
        Argument("exclude", "list", "Packages that are left alone.", default=[]),
        Argument("autoremove", "bool", "Remove what nothing needs any more.", default=False),
        Argument("disable_gpg_check", "bool", "", default=False),
        Argument("install_weak_deps", "bool", "", default=True),
        Argument("allowerasing", "bool", "Remove what is in the way.", default=False),
        Argument("allow_downgrade", "bool", "", default=False),
        Argument("nobest", "bool", "", default=False),
        Argument("skip_broken", "bool", "", default=False),
        Argument("security", "bool", "With latest: only what mends security.", default=False),
        Argument("bugfix", "bool", "With latest: only what mends bugs.", default=False),
        Argument("cacheonly", "bool", "Only from the cache.", default=False),
        Argument("releasever", "str", "Another release of the system."),
        Argument("installroot", "str", "Another root.", default="/"),
        Argument("lock_timeout", "int", "Accepted: dnf waits by itself.", default=30),
        Argument("use_backend", "str", "Accepted: `dnf` is what is used.", default="auto"),
        Argument("sslverify", "bool", "", default=True),
    ),
    outward=True,
    unsupported=(
        ("list", "use command: dnf list"),
        ("conf_file", "use command: dnf -c"),
        ("disable_excludes", "use command: dnf --disableexcludes"),
        ("disable_plugin", "use command: dnf --disableplugin"),
        ("enable_plugin", "use command: dnf --enableplugin"),
        ("download_only", "use command: dnf download"),
        ("download_dir", "use command: dnf download"),
        ("validate_certs", "write sslverify"),
        ("best", "write nobest"),
    ),
    returns=(("results", "what dnf wrote, line by line"), ("rc", "its exit code"),
             ("failures", "what is wrong, by package")),
)  # fmt: skip
_NOTHING_TO_DO = ("Nothing to do", "No packages marked for removal")
_ASK_SECONDS = 600.0
_NO_MATCH = "Unable to find a match:"


def plan(task: step.Task) -> step.Plan:
    """Ask rpm what is there, and dnf for the rest."""
    args = task.args
    if args["update_cache"]:
        yield from _run(args, ("makecache", "--refresh"))
    names = [name for name in args["name"] or () if name]
    state = {"installed": "present", "removed": "absent"}.get(args["state"], args["state"])
    if state is None:
        state = "absent" if args["autoremove"] else "present"
    result: Dict[str, Any] = {"changed": False, "msg": "Nothing to do", "results": [], "rc": 0}
    if not names and not args["autoremove"]:
        return result
    words = yield from _words(args, names, state)
    if not words:
        return result
    done = yield from (_rehearse(args, words) if task.check else _run(args, words))
    lines = done.out.splitlines()
    if any(text in done.out for text in _NOTHING_TO_DO):
        return {**result, "results": lines}
    return {"changed": True, "msg": "", "results": lines, "rc": 0}


def _words(args: Dict[str, Any], names: List[str], state: str) -> step.Steps:
    """What dnf is told; nothing where all is as it shall be."""
    if not names:
        return ("autoremove",)
    if state == "latest":
        kinds = [f"--{kind}" for kind in ("security", "bugfix") if args[kind]]
        if names == ["*"]:
            return ("upgrade", *kinds) if (yield from _has_updates(args, ())) else ()
        missing = yield from _missing(names)
        if args["update_only"]:
            names = [name for name in names if name not in missing]
            missing = []
        if missing:
            return ("install", *missing)
        return ("upgrade", *kinds, *names) if (yield from _has_updates(args, names)) else ()
    missing = yield from _missing(names)
    if state == "present":
        return ("install", *missing) if missing else ()
    there = [name for name in names if name not in missing]
    if not there:
        return ()
    return ("autoremove" if args["autoremove"] else "remove", *there)


def _missing(names: Sequence[str]) -> step.Steps:
    """Those of the names that are not installed; what is no package's name, dnf has to say."""
    form = "%{NAME} %{NAME}-%{VERSION} %{NAME}-%{VERSION}-%{RELEASE} %{NAME}.%{ARCH}\\n"
    asked = yield step.Ask(("rpm", "-qa", "--qf", form), topic="rpm")
    known = set(asked.out.split())
    missing = []
    for name in names:
        if fnmatch.filter(known, name):
            continue
        provided = yield step.Ask(("rpm", "-q", "--whatprovides", name))
        if provided.code or name.startswith("@"):
            missing.append(name)
    return missing


def _has_updates(args: Dict[str, Any], names: Sequence[str]) -> step.Steps:
    """Whether dnf would upgrade: it ends with 100 then."""
    command = ("dnf", "-q", "-y", *_options(args), "check-update", *names)
    done = yield step.Ask(command, timeout_seconds=_ASK_SECONDS)
    if done.code not in (0, 100):
        raise step.Failed(done.err.strip() or done.out.strip(), rc=done.code, results=[])
    return done.code == 100


def _options(args: Dict[str, Any]) -> List[str]:
    options = [f"--enablerepo={name}" for name in args["enablerepo"]]
    options += [f"--disablerepo={name}" for name in args["disablerepo"]]
    options += [f"--exclude={name}" for name in args["exclude"]]
    for key, option in (
        ("disable_gpg_check", "--nogpgcheck"), ("allowerasing", "--allowerasing"),
        ("nobest", "--nobest"), ("skip_broken", "--skip-broken"), ("cacheonly", "--cacheonly"),
    ):  # fmt: skip
        if args[key]:
            options.append(option)
    if not args["install_weak_deps"]:
        options.append("--setopt=install_weak_deps=False")
    if not args["sslverify"]:
        options.append("--setopt=sslverify=False")
    if args["releasever"]:
        options.append("--releasever=" + args["releasever"])
    if args["installroot"] != "/":
        options.append("--installroot=" + args["installroot"])
    return options


def _run(args: Dict[str, Any], words: Sequence[str]) -> step.Steps:
    command = ("dnf", "-y", *_options(args), *words)
    done = yield step.Execute(command, b"", "/", {"LC_ALL": "C.UTF-8"})
    if done.code:
        raise _failure(done)
    return done


def _rehearse(args: Dict[str, Any], words: Sequence[str]) -> step.Steps:
    """What dnf would do: it says so, and gives up when it is to begin."""
    command = ("dnf", "--assumeno", *_options(args), *words)
    done = yield step.Ask(command, "", {"LC_ALL": "C.UTF-8"}, _ASK_SECONDS)
    if done.code and "Operation aborted" not in done.out + done.err:
        raise _failure(done)
    return done


def _failure(done: Any) -> step.Failed:
    lines = done.out.splitlines()
    _, _, missing = done.err.partition(_NO_MATCH)
    message = done.err.strip() or "dnf failed"
    failures = [f"No package {name} available." for name in missing.split()]
    if failures:
        message = "Failed to install some of the specified packages"
    return step.Failed(message, rc=done.code, results=lines, failures=failures)

"""Installs, upgrades and removes Debian packages."""

from __future__ import annotations

import fnmatch
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

from sappers.provisioner.modules import step
from sappers.provisioner.modules._programs import COMING_PACKAGES
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Install, upgrade and remove Debian packages.",
    (
        Argument("name", "list", "Packages, or `name=version`.", aliases=("package", "pkg")),
        Argument("state", "str", "", default="present",
                 choices=("absent", "latest", "present")),
        Argument("deb", "path", "A package file on the host."),
        Argument("update_cache", "bool", "Fetch the lists of packages first.",
                 aliases=("update-cache",)),
        Argument("cache_valid_time", "int", "Not if younger than so many seconds.", default=0),
        Argument("upgrade", "str", "", default="no", choices=("dist", "full", "no", "safe", "yes")),
        Argument("default_release", "str", "", aliases=("default-release",)),
        Argument("install_recommends", "bool", "", aliases=("install-recommends",)),
        Argument("purge", "bool", "With absent: configuration goes, too.", default=False),
        Argument("autoremove", "bool", "Remove what nothing needs any more.", default=False),
        Argument("autoclean", "bool", "", default=False),
        Argument("clean", "bool", "", default=False),
        Argument("force", "bool", "As apt-get --force-yes.", default=False),
        Argument("allow_unauthenticated", "bool", "", default=False,
                 aliases=("allow-unauthenticated",)),
        Argument("allow_downgrade", "bool", "", default=False,
                 aliases=("allow-downgrade", "allow_downgrades", "allow-downgrades")),
        Argument("allow_change_held_packages", "bool", "", default=False),
        Argument("dpkg_options", "str", "", default="force-confdef,force-confold"),
        Argument("only_upgrade", "bool", "Upgrade only what is installed.", default=False),
        Argument("lock_timeout", "int", "Wait so long for apt's lock.", default=60),
        Argument("fail_on_autoremove", "bool", "", default=False),
        Argument("force_apt_get", "bool", "Accepted: apt-get is what is used.", default=False),
        Argument("update_cache_retries", "int", "", default=5),
        Argument("update_cache_retry_max_delay", "int", "", default=12),
    ),
    outward=True,
    unsupported=(
        ("auto_install_module_deps", "nothing is needed on the host; leave it out"),
        ("policy_rc_d", "write /usr/sbin/policy-rc.d with copy"),
    ),
    returns=(("stdout, stderr", "what apt-get wrote"), ("msg", "the same: of upgrade and clean"),
             ("cache_updated", "lists were fetched"),
             ("cache_update_time", "when they were")),
)  # fmt: skip
_LISTS = "/var/lib/apt/lists"
_STAMP = "/var/lib/apt/periodic/update-success-stamp"
# In check mode: what the archive's lists say is not known yet.
LISTS = (("apt lists", (0, b"coming", b"")),)
_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "LC_ALL": "C.UTF-8",
}
Installed = Dict[str, str]


def plan(task: step.Task) -> step.Plan:
    """Update the lists, upgrade, then what is asked of the packages named."""
    args = task.args
    changed_at = yield from _lists_changed_at()
    result: Dict[str, Any] = {
        "changed": False, "cache_updated": False, "cache_update_time": int(changed_at),
    }  # fmt: skip
    if args["update_cache"] or (args["update_cache"] is None and args["cache_valid_time"]):
        yield from _update_lists(args, changed_at, result)
    names = [name for name in args["name"] or () if name]
    if args["upgrade"] != "no" or names == ["*"]:
        yield from _upgrade(args, result)
        names = [name for name in names if name != "*"]
    if args["deb"]:
        yield from _install_file(args, result)
    if names and args["state"] == "absent":
        yield from _remove(args, names, result)
    elif names:
        yield from _install(args, names, result)
    for key in ("autoremove", "autoclean", "clean"):
        if args[key] and not (key == "autoremove" and names):
            options = ("--purge",) if key == "autoremove" and args["purge"] else ()
            yield from _maintain(args, (key, *options), result)
    return result


def _lists_changed_at() -> step.Steps:
    for path in (_STAMP, _LISTS):
        found = yield step.Stat(path, True)
        if found is not None:
            return float(found.raw["st_mtime"])
    return 0.0


def _update_lists(args: Dict[str, Any], changed_at: float, result: Dict[str, Any]) -> step.Steps:
    now = yield step.Pause(0.0)
    if args["cache_valid_time"] and now - changed_at < args["cache_valid_time"]:
        return
    before = yield step.Names(_LISTS)
    # Check mode fetches nothing, and so cannot tell what `latest` will be.
    done = yield step.Execute(("apt-get", "-q", "update"), b"", "/", _ENVIRONMENT, implies=LISTS)
    if done.code:
        raise step.Failed("Failed to update apt cache: %s" % (done.err.strip() or done.out[-500:]))
    result.update(cache_updated=True, cache_update_time=int(now))
    after = yield step.Names(_LISTS)
    named_nothing = not args["name"] and args["upgrade"] == "no" and not args["deb"]
    result["changed"] = bool(named_nothing or before != after)


def _options(args: Dict[str, Any]) -> List[str]:
    options = ["-y", "-q"]
    options += ["-o", "DPkg::Lock::Timeout=%d" % args["lock_timeout"]]
    for option in args["dpkg_options"].split(","):
        options += ["-o", "Dpkg::Options::=--" + option]
    if args["default_release"]:
        options += ["-t", args["default_release"]]
    if args["install_recommends"] is not None:
        options += [
            "-o",
            "APT::Install-Recommends={}".format(str(args["install_recommends"]).lower()),
        ]
    for key, option in (
        ("force", "--force-yes"),
        ("allow_unauthenticated", "--allow-unauthenticated"),
        ("allow_downgrade", "--allow-downgrades"),
        ("allow_change_held_packages", "--allow-change-held-packages"),
        ("only_upgrade", "--only-upgrade"),
    ):
        if args[key]:
            options.append(option)
    return options


def _apt(args: Dict[str, Any], words: Any, result: Dict[str, Any], implies: Any = ()) -> step.Steps:
    command = ("apt-get", *_options(args), *words)
    done = yield step.Execute(command, b"", "/", _ENVIRONMENT, implies=tuple(implies))
    if done.code:
        message = "'{}' failed: {}".format(" ".join(command), done.err.strip())
        raise step.Failed(message, rc=done.code, stdout=done.out, stderr=done.err)
    result["stdout"] = result.get("stdout", "") + done.out
    result["stderr"] = result.get("stderr", "") + done.err


def _in_ansibles_words(said: str) -> str:
    """What playbooks may look for in a message."""
    unknown = re.search("^E: Unable to locate package (.+)$", said, re.MULTILINE)
    return f"No package matching '{unknown.group(1)}' is available" if unknown else said


def _simulation(args: Dict[str, Any], words: Any) -> step.Steps:
    """What apt-get says it would do."""
    done = yield step.Ask(("apt-get", "-s", *_options(args), *words), environment=_ENVIRONMENT,
                          timeout_seconds=600.0)  # fmt: skip
    if done.code:
        message = _in_ansibles_words(done.err.strip()) or done.out.strip()[-500:]
        raise step.Failed(message, rc=done.code, stdout=done.out, stderr=done.err)
    return done.out


def _changes(said: str) -> List[str]:
    """Lines of a simulation about packages that come or go."""
    return [line for line in said.splitlines() if line[:5] in ("Inst ", "Remv ", "Purg ")]


def _coming(args: Dict[str, Any], words: Any) -> step.Steps:
    """What would be installed. In check mode packages are believed in whose lists would come."""
    try:
        return _changes((yield from _simulation(args, words)))
    except step.Failed:
        if (yield step.Ask(("true",), topic="apt lists")).stdout:
            return []
        raise


def _upgrade(args: Dict[str, Any], result: Dict[str, Any]) -> step.Steps:
    words = {"dist": ("dist-upgrade",), "full": ("dist-upgrade",)}.get(
        args["upgrade"], ("upgrade", "--with-new-pkgs")
    )
    if args["autoremove"]:
        words = (*words, "--auto-remove")
    said = yield from _simulation(args, words)
    if coming := _changes(said):
        versions = yield from installed()
        yield from _apt(args, words, result, _implied(versions, {}, coming))
        result["changed"] = True
    else:
        result.update(stdout=said, stderr="")
    result["msg"] = result["stdout"]


def installed() -> step.Steps:
    """Versions of the packages that are installed, by name."""
    form = "${Package}\\t${Version}\\t${db:Status-Status}\\t${Architecture}\\t${Provides}\\n"
    done = yield step.Ask(("dpkg-query", "-W", "-f", form), topic="dpkg")
    versions: Installed = {}
    for line in done.out.splitlines():
        fields = line.split("\t")
        if len(fields) == 5 and fields[2] == "installed":
            versions[fields[0]] = versions[fields[0] + ":" + fields[3]] = fields[1]
            for provided in fields[4].split(","):
                if provided.strip():
                    versions.setdefault("provided:" + provided.split()[0], fields[1])
    return versions


def _split(name: str) -> Tuple[str, Optional[str]]:
    package, _, version = name.partition("=")
    return package.strip(), version.strip() or None


def _is_there(name: str, versions: Installed) -> bool:
    package, version = _split(name)
    if version is None:
        return package in versions or "provided:" + package in versions
    return package in versions and fnmatch.fnmatchcase(versions[package], version)


def _install(args: Dict[str, Any], names: List[str], result: Dict[str, Any]) -> step.Steps:
    versions = yield from installed()
    latest = args["state"] == "latest"
    wanted = [name for name in names if latest or not _is_there(name, versions)]
    if args["only_upgrade"]:
        wanted = [name for name in wanted if _split(name)[0] in versions]
    if not wanted:
        return
    words = ["install", *(["--auto-remove"] if args["autoremove"] else []), "--", *wanted]
    coming = yield from _coming(args, words)
    if coming or any(not _is_there(name, versions) for name in wanted):
        implied = _implied(versions, {_split(one)[0]: "new" for one in wanted}, coming)
        yield from _apt(args, words, result, implied)
        result["changed"] = True


def _remove(args: Dict[str, Any], names: List[str], result: Dict[str, Any]) -> step.Steps:
    versions = yield from installed()
    going = [_split(name)[0] for name in names]
    matched = [one for name in going for one in fnmatch.filter(versions, name)]
    if args["purge"]:  # of packages that are gone, configuration may be left
        done = yield step.Ask(("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n"))
        left = [line.split()[0] for line in done.out.splitlines() if line.endswith("config-files")]
        matched += [one for name in going for one in fnmatch.filter(left, name)]
    if not matched:
        return
    options = ["--purge"] if args["purge"] else []
    options += ["--auto-remove"] if args["autoremove"] else []
    words = ["remove", *options, "--", *dict.fromkeys(matched)]
    gone = [f"Remv {name}" for name in matched]
    yield from _apt(args, words, result, _implied(versions, {}, gone))
    result["changed"] = True


def _implied(versions: Installed, come: Installed, lines: Sequence[str]) -> Any:
    """What dpkg would list after it: lines are those of a simulation."""
    after = {**versions, **come}
    for line in lines:  # Inst NAME [OLD] (NEW …), Remv NAME [OLD]
        verb, name, *rest = line.split()
        new = re.search(r"\((\S+)", " ".join(rest))
        if verb == "Inst":
            after[name] = new.group(1) if new else "new"
        else:
            after.pop(name, None)
    lines = [
        "{}\t{}\tinstalled\tany\t\n".format(*pair) for pair in after.items() if ":" not in pair[0]
    ]
    brought = " ".join(sorted(set(after) - set(versions))).encode()
    return (
        ("dpkg", (0, "".join(lines).encode(), b"")),
        *([(COMING_PACKAGES, (0, brought, b""))] if brought else []),
    )


def _install_file(args: Dict[str, Any], result: Dict[str, Any]) -> step.Steps:
    asked = yield step.Ask(("dpkg-deb", "-f", args["deb"], "Package", "Version"))
    if asked.code:
        raise step.Failed(f"Unable to install package: {asked.err.strip()}")
    fields = dict(line.split(": ", 1) for line in asked.out.splitlines() if ": " in line)
    versions = yield from installed()
    if versions.get(fields["Package"]) == fields["Version"]:
        result.update(stdout="", stderr="")
        return
    implied = _implied(versions, {fields["Package"]: fields["Version"]}, ())
    yield from _apt(args, ["install", "--", args["deb"]], result, implied)
    result["changed"] = True


def _maintain(args: Dict[str, Any], words: Any, result: Dict[str, Any]) -> step.Steps:
    if words[0] == "clean":
        yield from _apt(args, words, result)
        result.update(changed=True, msg=result["stdout"])
        return
    done = yield step.Ask(("apt-get", "-s", *_options(args), *words), environment=_ENVIRONMENT)
    if any(line[:5] in ("Remv ", "Purg ") or line[:4] == "Del " for line in done.out.splitlines()):
        yield from _apt(args, words, result)
        result["changed"] = True
    else:
        result.setdefault("stdout", done.out)
        result.setdefault("stderr", done.err)

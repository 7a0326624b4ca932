"""Makes a folder hold a version of a git repository."""

from __future__ import annotations

import re
from typing import Any, Dict, Optional

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Make a folder hold a version of a git repository.",
    (
        Argument("repo", "str", "Its address.", required=True, aliases=("name",)),
        Argument("dest", "path", "The folder.", required=True),
        Argument("version", "str", "Branch, tag or commit.", default="HEAD"),
        Argument("remote", "str", "What the address is called there.", default="origin"),
        Argument("clone", "bool", "Clone where there is none.", default=True),
        Argument("update", "bool", "Fetch what is new.", default=True),
        Argument("force", "bool", "Throw changes of the folder away.", default=False),
        Argument("depth", "int", "Only so many commits."),
        Argument("single_branch", "bool", "Only the branch.", default=False),
        Argument("recursive", "bool", "Submodules, too.", default=True),
        Argument("key_file", "path", "A private key for SSH."),
        Argument("accept_hostkey", "bool", "Accept an unknown host's key.", default=False,
                 aliases=("accept_newhostkey",)),
        Argument("ssh_opts", "str", "Options for ssh."),
        Argument("executable", "path", "git.", default="git"),
    ),
    outward=True,
    unsupported=(
        ("bare", "use command: git clone --bare"),
        ("reference", "use command: git clone --reference"),
        ("verify_commit", "use command: git verify-commit"),
        ("refspec", "use command: git fetch"),
        ("archive", "use command: git archive"),
        ("umask", "set the folder's mode with file"),
        ("track_submodules", "use command: git submodule update --remote"),
        ("separate_git_dir", "leave it out"),
    ),
    returns=(("before, after", "the commits"), ("remote_url_changed", "the address was another")),
)  # fmt: skip
_COMMIT = re.compile("[0-9a-f]{40}")


def plan(task: step.Task) -> step.Plan:
    """Clone or fetch, and check out."""
    args = task.args
    git = args["dest"].rstrip("/") + "/.git"
    there = yield step.Stat(git)
    if there is None:
        return (yield from _clone(args))
    asked = yield from _ask(args, "rev-parse", "HEAD")
    before = asked.out.strip()
    result: Dict[str, Any] = {"before": before, "after": before, "changed": False}
    if not args["update"]:
        return result
    result["remote_url_changed"] = False
    dirty = yield from _ask(args, "status", "--porcelain", "--untracked-files=no")
    if dirty.out.strip():
        # Without an index a clone was cut off, by a full disk say, while its files were written.
        cut_off = there.kind == "directory" and (yield step.Stat(git + "/index")) is None
        if not (args["force"] or cut_off):
            raise step.Failed("Local modifications exist in the destination: use force=true")
        yield from _do(args, "reset", "--hard", "HEAD")
        result["changed"] = True
        result["msg"] = f"Local modifications exist in the destination: {args['dest']}"
    address = yield from _ask(args, "remote", "get-url", args["remote"])
    if address.out.strip() != args["repo"]:
        verb = "add" if address.code else "set-url"
        yield from _do(args, "remote", verb, args["remote"], args["repo"])
        result.update(changed=True, remote_url_changed=True)
    wanted = yield from _wanted(args)
    if wanted == before:
        return result
    yield from _do(args, "fetch", "--tags", *_shallow(args), args["remote"], *_fetched(args))
    yield from _do(args, *_checkout(args, wanted))
    if args["recursive"]:
        yield from _submodules(args)
    return {**result, "changed": True, "after": wanted}


def _clone(args: Dict[str, Any]) -> step.Plan:
    wanted = yield from _wanted(args)
    if not args["clone"]:  # it is only asked what there would be, and said as Ansible does
        return {"changed": True, "before": None, "after": wanted}
    yield from _files.make_folders(_files.parent_of(args["dest"]), {})
    options = ["--origin", args["remote"], *_shallow(args)]
    named = args["version"] != "HEAD" and not _COMMIT.fullmatch(args["version"])
    if named:
        options += ["--branch", args["version"]]
    if args["recursive"]:
        options.append("--recursive")
    login = yield step.Account("passwd", "")
    made = (args["dest"].rstrip("/"), args["dest"].rstrip("/") + "/.git")
    folders = [step.MakeFolder(one, 0o755, login["uid"], login["gid"]) for one in made]
    yield from _run(args, ("clone", *options, "--", args["repo"], args["dest"]), "/", folders)
    if _COMMIT.fullmatch(args["version"]):
        yield from _do(args, "checkout", "--force", args["version"])
    return {"changed": True, "before": None, "after": wanted}


def _wanted(args: Dict[str, Any]) -> step.Steps:
    """The commit that the repository has under the version's name."""
    version = args["version"]
    if _COMMIT.fullmatch(version):
        return version
    asked = yield step.Ask((args["executable"], "ls-remote", "--", args["repo"]),
                           environment=_environment(args))  # fmt: skip
    if asked.code:
        message = f"Failed to ask {args['repo']}: {asked.err.strip()}"
        raise step.Failed(message, rc=asked.code, stdout=asked.out, stderr=asked.err)
    found = dict(reversed(line.split("\t", 1)) for line in asked.out.splitlines() if "\t" in line)
    names = ("HEAD",) if version == "HEAD" else (
        f"refs/tags/{version}^{{}}", f"refs/heads/{version}", f"refs/tags/{version}", version
    )  # fmt: skip
    commit = next((found[name] for name in names if name in found), None)
    if commit is None:
        message = f"Failed to checkout {version}: {args['repo']} has no such version"
        raise step.Failed(message, rc=1)
    return commit


def _fetched(args: Dict[str, Any]) -> Any:
    return () if args["version"] == "HEAD" else (args["version"],)


def _checkout(args: Dict[str, Any], commit: str) -> Any:
    """A branch is moved; of a tag or a commit the commit is taken."""
    if args["version"] in ("HEAD",):
        return ("reset", "--hard", commit)
    if _COMMIT.fullmatch(args["version"]):
        return ("checkout", "--force", commit)
    return ("checkout", "--force", "-B", args["version"], commit)


def _shallow(args: Dict[str, Any]) -> Any:
    depth = ("--depth", str(args["depth"])) if args["depth"] else ()
    return (*depth, *(("--single-branch",) if args["single_branch"] else ()))


def _submodules(args: Dict[str, Any]) -> step.Steps:
    if (yield step.Stat(args["dest"].rstrip("/") + "/.gitmodules")) is not None:
        yield from _do(args, "submodule", "update", "--init", "--recursive")


def _environment(args: Dict[str, Any]) -> Dict[str, str]:
    options = args["ssh_opts"] or ""
    if args["accept_hostkey"]:
        options += " -o StrictHostKeyChecking=accept-new"
    if args["key_file"]:
        options += " -o IdentitiesOnly=yes -i " + args["key_file"]
    ssh: Optional[str] = "ssh -o BatchMode=yes " + options.strip() if options else None
    return {"GIT_TERMINAL_PROMPT": "0", **({"GIT_SSH_COMMAND": ssh} if ssh else {})}


def _ask(args: Dict[str, Any], *words: str) -> step.Steps:
    argv = (args["executable"], "-C", args["dest"], *words)
    return (yield step.Ask(argv, environment=_environment(args)))


def _do(args: Dict[str, Any], *words: str) -> step.Steps:
    yield from _run(args, words, args["dest"])


def _run(args: Dict[str, Any], words: Any, folder: str, amounts_to: Any = ()) -> step.Steps:
    argv = (args["executable"], *words)
    environment = _environment(args)
    done = yield step.Execute(argv, b"", folder, environment, amounts_to=tuple(amounts_to))
    if done.code:
        told = {"rc": done.code, "cmd": " ".join(argv), "stdout": done.out, "stderr": done.err}
        raise step.Failed(done.err.strip() or done.out.strip(), **told)

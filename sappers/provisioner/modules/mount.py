"""Mounts file systems, now and at boot."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from sappers.provisioner.modules import _files, step
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module

SPEC = Module(
    "Mount a file system, now and at boot.",
    (
        Argument("path", "path", "The folder.", required=True, aliases=("name",)),
        Argument("state", "str", "`present` and `absent_from_fstab` change the table alone.",
                 required=True,
                 choices=("absent", "absent_from_fstab", "ephemeral", "mounted", "present",
                          "remounted", "unmounted")),
        Argument("src", "path", "What is mounted: a device, UUID=…, HOST:/PATH."),
        Argument("fstype", "str", "Its kind."),
        Argument("opts", "str", "Options."),
        Argument("dump", "str", "", default="0"),
        Argument("passno", "str", "", default="0"),
        Argument("fstab", "str", "The table.", default="/etc/fstab"),
        Argument("boot", "bool", "Mount it at boot.", default=True),
        Argument("backup", "bool", "Keep what is replaced beside it.", default=False),
    ),
    outward=True,
    unsupported=(("opts_no_log", "write no_log at the task"),),
    returns=(("name, src, fstype, opts, dump, passno, fstab", "as asked for"),
             ("backup_file", "what was kept")),
)  # fmt: skip
_FIELDS = ("src", "path", "fstype", "opts", "dump", "passno")


def plan(task: step.Task) -> step.Plan:
    """The table first, then what is mounted."""
    args = {**task.args, "opts": _options(task.args), "check": task.check}
    state = args["state"]
    if state in ("mounted", "present", "ephemeral"):
        missing = [name for name in ("src", "fstype") if args[name] is None]
        if missing:
            raise step.Failed(f"state is {state} but all of the following are missing: {missing}")
    result = {name: args[name] for name in (*_FIELDS, "fstab") if name != "path"}
    boot = "yes" if args["boot"] else "no"
    result.update(name=args["path"], changed=False, boot=boot, backup_file="")
    before = yield step.Read(args["fstab"])
    written = False
    if state in ("mounted", "present", "absent", "absent_from_fstab"):
        written = yield from _write_table(args, before, result)
    if state == "absent" and not written:
        return result
    try:
        done: bool = yield from _mount(args, written)
    except step.Failed:
        # What cannot be mounted would keep the host from booting.
        if written and before is not None:
            yield from _files.ensure_content(args["fstab"], before, {})
        raise
    return {**result, "changed": written or done}


def _options(args: Dict[str, Any]) -> str:
    options = args["opts"] or "defaults"
    if args["boot"] or "noauto" in options.split(","):
        return options
    return options + ",noauto"


def _write_table(args: Dict[str, Any], read: Optional[bytes], result: Dict[str, Any]) -> step.Steps:
    lines = (read or b"").decode("utf-8", "surrogateescape").splitlines()
    after = table(args, lines)
    if after == lines and read is not None:
        return False
    if read is None and not after:
        return False
    content = "".join(line + "\n" for line in after).encode("utf-8", "surrogateescape")
    done = yield from _files.ensure_content(args["fstab"], content, {}, args["backup"])
    result.update({key: one for key, one in done.items() if key == "backup_file"})
    return True


def table(args: Dict[str, Any], lines: List[str]) -> List[str]:
    """The table's lines as they shall be; those of other folders, and comments, stay."""
    wanted: Optional[str] = None
    if args["state"] in ("mounted", "present"):
        wanted = " ".join(str(args[name]).replace(" ", "\\040") for name in _FIELDS)
    after = []
    for line in lines:
        words = line.split()
        if line.lstrip().startswith("#") or len(words) < 4 or not _is_meant(args, words):
            after.append(line)
        elif wanted is not None:
            filled = [*words, "0", "0"][:6]
            after.append(line if filled == wanted.split() else wanted)
            wanted = None
    return after if wanted is None else [*after, wanted]


def _is_meant(args: Dict[str, Any], words: List[str]) -> bool:
    path = args["path"].replace(" ", "\\040")
    if args["fstype"] == "swap" or path in ("none", "swap"):
        return words[2] == "swap" and words[0] == args["src"]
    return bool(words[1] == path)


def _mount(args: Dict[str, Any], written: bool) -> step.Steps:
    """Mount, mount anew, or unmount; whether anything was done."""
    path, state = args["path"], args["state"]
    if state in ("present", "absent_from_fstab"):
        return False
    topic = "mount:" + path
    mounted = (yield step.Ask(("mountpoint", "-q", path), topic=topic)).code == 0
    there, gone = ((topic, (0, b"", b"")),), ((topic, (1, b"", b"")),)
    if state in ("absent", "unmounted"):
        if mounted:
            yield from execute(("umount", path), gone)
        if state == "absent" and (yield step.Stat(path)) is not None:
            if (yield step.Names(path)):
                raise step.Failed(f"Error rmdir {path}: Directory not empty")
            yield step.Remove(path)
            return True
        return mounted
    if state == "remounted" or (mounted and written):
        if not mounted:
            raise step.Failed(f"Error remounting {path}: it is not mounted")
        yield from execute(("mount", "-o", f"remount,{args['opts']}", path))
        return True
    if mounted:
        return state == "ephemeral" and (yield from _mount_again(args))
    yield from _mount_anew(args, there)
    return True


def _mount_anew(args: Dict[str, Any], implied: Any) -> step.Steps:
    """Where it cannot be mounted, no folder stays that was made for it."""
    path = args["path"]
    made = yield from _missing(path)
    yield from _files.make_folders(path, {})
    table_option = () if args["fstab"] == "/etc/fstab" else ("-T", args["fstab"])
    command: Any = ("mount", *table_option, path)
    if args["state"] == "ephemeral":
        command = ("mount", "-t", args["fstype"], "-o", args["opts"], args["src"], path)
    try:
        if args["check"]:
            yield from _require_device(args["src"])
        yield from execute(command, implied)
    except step.Failed as error:
        if made:
            yield step.Remove(made)
        raise step.Failed(f"Error mounting {path}: {error.message}", **error.result) from None


def _require_device(source: Optional[str]) -> step.Steps:
    """Check mode, which mounts nothing, tells of what is not there to mount."""
    if source and source.startswith("/") and (yield step.Stat(source, True)) is None:
        raise step.Failed(f"special device {source} does not exist")


def _missing(path: str) -> step.Steps:
    """The uppermost folder on the way that has to be made; None where all are there."""
    made = None
    while path != "/" and (yield step.Stat(path, True)) is None:
        made, path = path, _files.parent_of(path)
    return made


def _mount_again(args: Dict[str, Any]) -> step.Steps:
    """What is mounted at a path for now, with these options; never over something else."""
    path = args["path"]
    asked = yield step.Ask(("findmnt", "-n", "-o", "SOURCE", "-M", path), topic="mounted:" + path)
    if asked.out.strip() not in ("", args["src"]):
        raise step.Failed(
            f"{path} is a mount point of {asked.out.strip()}; it is not mounted over"
            " (use `unmounted` first, or another path)"
        )
    yield from execute(("mount", "-o", "remount," + args["opts"], path))
    return True

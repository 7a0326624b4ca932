"""What modules that touch files have in common: mode, owner, content, the result."""

from __future__ import annotations

import re
from typing import Any, Dict, Generator, List, Optional, Tuple, Union

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import LABELS

NEW_FILE = 0o644
ATTRIBUTES_CHANGED = "ownership, perms or SE linux context changed"
NEW_FOLDER = 0o755
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_OPERATION = re.compile(r"([-+=])([rwxXst]*|[ugo])")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def wanted_mode(text: Optional[str], current: int, is_folder: bool) -> int:
    """The mode that a text asks for, octal or symbolic, given the one there is.

    Raises:
        Failed: It is no mode.
    """
    if text is None:
        return current
    if re.fullmatch("[0-7]{1,5}", text):
        return int(text, 8) & 0o7777
    mode = current
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise step.Failed(f"{text!r} is no mode")
        who = match.group(1).replace("a", "ugo") or "ugo"
        for sign, permissions in _OPERATION.findall(match.group(2)):
            mode = _changed_mode(mode, who, sign, permissions, is_folder)
    return mode


def _changed_mode(mode: int, who: str, sign: str, permissions: str, is_folder: bool) -> int:
    for user in who:
        shift = _SHIFTS[user]
        if permissions in ("u", "g", "o") and permissions:
            bits = (mode >> _SHIFTS[permissions]) & 7
        else:
            bits = sum(_BITS[one] for one in set(permissions) & set(_BITS))
            if "X" in permissions and (is_folder or mode & 0o111):
                bits |= 1
        special = 0
        if "s" in permissions:
            special = {"u": 0o4000, "g": 0o2000, "o": 0}[user]
        if "t" in permissions:
            special |= 0o1000
        mask = (bits << shift) | special
        if sign == "+":
            mode |= mask
        elif sign == "-":
            mode &= ~mask
        else:
            cleared = (7 << shift) | {"u": 0o4000, "g": 0o2000, "o": 0o1000}[user]
            mode = (mode & ~cleared) | mask
    return mode


def refuse_planted_links(path: str) -> Generator[Any, Any, None]:
    """Refuse a way that leads over a link of somebody else.

    Who owns a folder could put one there, and have us write elsewhere with rights that they lack.
    Links of root, and of who we are, are followed; what they point to is looked at in the same way.

    Raises:
        Failed: Says which link.
    """
    login = yield step.Account("passwd", "")
    seen: List[str] = []
    pending = [path]
    while pending:
        at = ""
        for name in pending.pop().split("/"):
            above, at = at, at + name + "/"
            here = at.rstrip("/") or "/"
            if name in ("", ".", "..") or here in seen:
                continue
            seen.append(here)
            found = yield step.Stat(here)
            if found is None:
                break
            if found.kind != "link":
                continue
            if found.uid not in (0, login["uid"]):
                raise step.Failed(
                    f"{here} is a link of another user (uid {found.uid}); name what it points to"
                )
            target = found.target
            pending.append(target if target.startswith("/") else above + target)


Ids = Tuple[Optional[int], Optional[int]]


def wanted_ids(args: Dict[str, Any]) -> Generator[Any, Any, Ids]:
    """Numbers of the owner and the group asked for, None where none is.

    Raises:
        Failed: There is no such user or group.
    """
    ids: List[Optional[int]] = []
    for database, key, field in (("passwd", "owner", "uid"), ("group", "group", "gid")):
        name = args.get(key)
        if name in (None, ""):
            ids.append(None)
            continue
        entry = yield step.Account(database, str(name))
        if entry is None and not str(name).isdigit():
            raise step.Failed("there is no {} {}".format(key.replace("owner", "user"), name))
        ids.append(int(name) if entry is None else entry[field])
    return ids[0], ids[1]


def refuse_labels(args: Dict[str, Any]) -> Generator[Any, Any, None]:
    """Stop where a label is asked for that would count; hosts without SELinux know none.

    Raises:
        Failed: SELinux is on.
    """
    asked = [one.name for one in LABELS if args.get(one.name) is not None]
    if asked and (yield step.Stat("/sys/fs/selinux/enforce")) is not None:
        raise step.Failed(
            "{} is not supported where SELinux is on, as it is here: labels are not managed;"
            " use the command chcon or semanage".format(", ".join(asked))
        )


def ensure_attributes(
    path: str, args: Dict[str, Any], follow: bool = True, mode: Optional[str] = None
) -> Generator[Any, Any, bool]:
    """Give what is at a path the mode and owner that the arguments ask for; whether it changed.

    Raises:
        Failed: There is no such owner, or a link of somebody else is in the way.
    """
    yield from refuse_labels(args)
    found = yield step.Stat(path, follow)
    uid, gid = yield from wanted_ids(args)
    if found is None:
        return False
    text = args.get("mode") if mode is None else mode
    bits: Optional[int] = wanted_mode(text, found.mode, found.kind == "directory")
    if bits == found.mode or found.kind == "link":
        bits = None
    uid = None if uid == found.uid else uid
    gid = None if gid == found.gid else gid
    if bits is None and uid is None and gid is None:
        return False
    yield from refuse_planted_links(path if follow else parent_of(path))
    yield step.SetAttributes(path, bits, uid, gid, follow)
    return True


def ensure_content(
    path: str,
    content: Union[bytes, step.Blob],
    args: Dict[str, Any],
    backup: bool = False,
    follow: bool = True,
    tell_md5: bool = False,
) -> Generator[Any, Any, Dict[str, Any]]:
    """Give a file this content, and the mode and owner that the arguments ask for.

    Args:
        follow: A link in its place stays, and what it points to is written; else the link is
            replaced, and what it points to is not even looked at.
        tell_md5: The result says `md5sum` of what is written.

    Returns:
        `changed`, and `backup_file` where the old file was kept.

    Raises:
        Failed: A link of somebody else is in the way.
    """
    yield from refuse_labels(args)
    yield from refuse_planted_links(path if follow else parent_of(path))
    digest = content.sha256 if isinstance(content, step.Blob) else _sha256(content)
    found = yield step.Stat(path, follow, ("sha256",))
    if found is not None and found.kind == "file" and found.digests.get("sha256") == digest:
        changed = yield from ensure_attributes(path, args, follow)
        return {"changed": changed}
    result: Dict[str, Any] = {"changed": True}
    uid, gid = yield from wanted_ids(args)
    real = path
    if found is None or found.kind == "link":
        login = yield step.Account("passwd", "")
        owner, group, bits = login["uid"], login["gid"], NEW_FILE
    else:
        real = (yield step.RealPath(path)) if follow else path
        owner, group, bits = found.uid, found.gid, found.mode
        if backup:
            result["backup_file"] = yield from keep_backup(real)
    bits = wanted_mode(args.get("mode"), bits, False)
    yield step.WriteFile(
        real, content, bits, owner if uid is None else uid, group if gid is None else gid
    )
    if tell_md5:
        written = yield step.Stat(real, digests=("md5",))
        if written is not None and "md5" in written.digests:  # check mode may not know it
            result["md5sum"] = written.digests["md5"]
    return result


def keep_backup(path: str) -> Generator[Any, Any, str]:
    """Keep a copy of a file beside it, under Ansible's kind of name; its path."""
    said = yield step.Ask(("/bin/sh", "-c", "echo $PPID; date +%Y-%m-%d@%H:%M:%S~"))
    process, _, stamp = said.out.strip().partition("\n")
    name = f"{path}.{process}.{stamp}"
    yield step.CopyFile(path, name)
    return name


def make_folders(path: str, args: Dict[str, Any]) -> Generator[Any, Any, bool]:
    """Make a folder with all that lead to it, each with the mode and owner asked for."""
    yield from refuse_labels(args)
    yield from refuse_planted_links(path)
    missing = []
    parent = path
    while True:
        found = yield step.Stat(parent, True)
        if found is not None:
            if found.kind != "directory":
                raise step.Failed(f"{parent} is no directory")
            break
        missing.append(parent)
        parent = parent.rpartition("/")[0] or "/"
    if not missing:
        return False
    uid, gid = yield from wanted_ids(args)
    login = yield step.Account("passwd", "")
    for folder in reversed(missing):
        mode = wanted_mode(args.get("mode"), NEW_FOLDER, True)
        yield step.MakeFolder(
            folder, mode, login["uid"] if uid is None else uid, login["gid"] if gid is None else gid
        )
    return True


def describe(path: str, follow: bool = True) -> Generator[Any, Any, Dict[str, Any]]:
    """What a result tells of a path: owner, group, mode, size, state."""
    found = yield step.Stat(path, follow)
    if found is None:
        return {"state": "absent"}
    owner = yield step.Account("passwd", str(found.uid))
    group = yield step.Account("group", str(found.gid))
    state = found.kind
    if state == "file" and found.raw.get("st_nlink", 1) > 1:
        state = "hard"
    return {
        "uid": found.uid,
        "gid": found.gid,
        "owner": owner["name"] if owner else str(found.uid),
        "group": group["name"] if group else str(found.gid),
        "mode": f"{found.mode:04o}",
        "size": found.size,
        "state": state,
    }


def parent_of(path: str) -> str:
    """The folder that a path is in."""
    return path.rstrip("/").rpartition("/")[0] or "/"


def _sha256(content: bytes) -> str:
    import hashlib  # takes long to load, and most contents come with their digests

    return hashlib.sha256(content).hexdigest()

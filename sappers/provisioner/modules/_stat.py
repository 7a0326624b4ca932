"""What `stat` and `find` tell of what is at a path, under Ansible's names."""

from __future__ import annotations

import stat as bits
from typing import Any, Dict

from sappers.provisioner.modules import step

_TESTS = {
    "isreg": bits.S_ISREG,
    "isdir": bits.S_ISDIR,
    "islnk": bits.S_ISLNK,
    "isblk": bits.S_ISBLK,
    "ischr": bits.S_ISCHR,
    "isfifo": bits.S_ISFIFO,
    "issock": bits.S_ISSOCK,
}
_FIELDS = (
    ("inode", "st_ino"),
    ("dev", "st_dev"),
    ("nlink", "st_nlink"),
    ("atime", "st_atime"),
    ("mtime", "st_mtime"),
    ("ctime", "st_ctime"),
)
# Of a path that check mode pretends nobody knows them.
_MAYBE = (("blocks", "st_blocks"), ("block_size", "st_blksize"), ("device_type", "st_rdev"))
_PERMISSIONS = ("rusr", "wusr", "xusr", "rgrp", "wgrp", "xgrp", "roth", "woth", "xoth")


def told_of(path: str, found: step.Found) -> step.Steps:
    """Kind, permissions, owner, times; of a link where it leads."""
    told: Dict[str, Any] = {"path": path, "mode": f"{found.mode:04o}"}
    full = found.raw["st_mode"]
    kind = {"file": bits.S_IFREG, "directory": bits.S_IFDIR, "link": bits.S_IFLNK}
    if bits.S_IFMT(full) == 0:
        full |= kind.get(found.kind, 0)
    told.update({name: test(full) for name, test in _TESTS.items()})
    for index, name in enumerate(_PERMISSIONS):
        told[name] = bool(found.mode & (0o400 >> index))
    told.update(isuid=bool(found.mode & 0o4000), isgid=bool(found.mode & 0o2000))
    told.update(uid=found.uid, gid=found.gid, size=found.size)
    for name, field in _FIELDS:
        told[name] = found.raw[field]
    told.update((name, found.raw[field]) for name, field in _MAYBE if field in found.raw)
    owner = yield step.Account("passwd", str(found.uid))
    group = yield step.Account("group", str(found.gid))
    if owner:
        told["pw_name"] = owner["name"]
    if group:
        told["gr_name"] = group["name"]
    if found.kind == "link":
        told["lnk_target"] = found.target
        told["lnk_source"] = yield step.RealPath(path)
    return told

"""Users and groups of this host, as passwd, group and shadow have them."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from typing import Any


def account(database: str, name: str) -> dict[str, Any] | None:
    """An entry of passwd, group or shadow; None where there is none."""
    if database == "shadow":
        return _shadow(name)
    own = not name
    name = name or str(os.geteuid() if database == "passwd" else os.getegid())
    try:
        if database == "passwd":
            user = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
            groups = [group.gr_name for group in grp.getgrall() if user.pw_name in group.gr_mem]
            return {
                "name": user.pw_name,
                "uid": user.pw_uid,
                "gid": user.pw_gid,
                "comment": user.pw_gecos,
                "home": user.pw_dir,
                "shell": user.pw_shell,
                "groups": groups,
            }
        group = grp.getgrgid(int(name)) if name.isdigit() else grp.getgrnam(name)
    except KeyError:
        if own and database == "passwd":  # a container may run as a number that has no name
            return {"name": name, "uid": os.geteuid(), "gid": os.getegid(), "comment": "",
                    "home": os.path.expanduser("~"), "shell": "/bin/sh", "groups": []}  # fmt: skip
        return None
    return {"name": group.gr_name, "gid": group.gr_gid, "members": list(group.gr_mem)}


def _shadow(name: str) -> dict[str, Any] | None:
    with contextlib.suppress(OSError), open("/etc/shadow", encoding="utf-8") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if fields[0] == name and len(fields) >= 8:
                return {"password": fields[1], "min": fields[3], "max": fields[4],
                        "warn": fields[5], "inactive": fields[6], "expires": fields[7]}  # fmt: skip
    return None

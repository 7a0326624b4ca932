"""Who a unit's process is to be."""

from __future__ import annotations


def as_user(user_id: int | None) -> tuple[str, ...]:
    """What, before a command, drops all that root begins with; nothing for None.

    The user needs no account: systemd's `User=` asks for one with a name.
    """
    if user_id is None:
        return ()
    return (
        *("/usr/bin/setpriv", f"--reuid={user_id}", f"--regid={user_id}", "--clear-groups"),
        *("--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--"),
    )

"""How the executor becomes another user: by sudo, su or doas; what the shell on the host does.

Each runs in a shell that has `$word`, `$user`, the Python `$found`, and `$entry`, `$loader`, `$@`
for it. A password is asked for by the line `WORD password`, and read from stdin.
"""

from __future__ import annotations

METHODS = ("sudo", "su", "doas")
# Said by who will ask in words of its own, and what these end with.
OWN_WORDS = b"own-words"
OWN_QUESTION = b"assword:"

_EXECUTOR = '"$found" -I -S -c "$entry" "$word" "$loader" "$@"'
_SUDO = f"""
exec sudo -S -k -H -p "
$word password
" -u "$user" -- {_EXECUTOR}
"""
# It asks on stderr, in English where LC_ALL says so, and reads from stdin.
_SU = f"""
printf '\\n%s own-words\\n' "$word"
LC_ALL=C exec su -s /bin/sh -c 'unset LC_ALL; exec "$@"' -- "$user" sh {_EXECUTOR}
"""
_DOAS = f"""
exec doas -n -u "$user" {_EXECUTOR}
"""
# With a password doas asks at its terminal, and nowhere else: it is given one beside our stdin.
_AT_A_TERMINAL = r"""
import fcntl, os, select, signal, sys, termios
word, command = sys.argv[1], sys.argv[2:]
master, slave = os.openpty()
ended, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
signal.signal(signal.SIGCHLD, lambda *_: None)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    os.execvp(command[0], command)
while ended not in select.select([master, ended], [], [])[0]:
    if b"assword" in os.read(master, 4096):
        os.write(1, ("\n%s password\n" % word).encode())
        answer = b""
        while not answer.endswith(b"\n"):
            answer += os.read(0, 1) or b"\n"
        os.write(master, answer)
os._exit(os.waitpid(child, 0)[1] and 1)
"""
_DOAS_WITH_PASSWORD = f"""
exec "$found" -I -S -c '{_AT_A_TERMINAL}' "$word" doas -u "$user" {_EXECUTOR}
"""


def becoming(method: str, *, has_password: bool) -> str:
    """What the shell runs to start the executor as another user."""
    if method == "doas" and has_password:
        return _DOAS_WITH_PASSWORD
    return {"sudo": _SUDO, "su": _SU, "doas": _DOAS}[method]


def method_named(name: str) -> str:
    """A method by the name that Ansible has for it.

    Raises:
        ValueError: It is none of ours.
    """
    short = name.removeprefix("ansible.builtin.").removeprefix("community.general.")
    if short not in METHODS:
        raise ValueError(f"`{name}` is not supported; use {', '.join(METHODS)}")
    return short

"""Runs on a lab host and prints what is there, as JSON: all that a playbook may have changed.

What differs between two hosts that are the same is left out: keys of sshd, the machine's id and
address, times, and what programs write for themselves (logs, caches). Passwords are told apart by
kind alone, since each hash has a salt of its own.
"""

import contextlib
import glob
import grp
import hashlib
import json
import os
import pwd
import stat
import subprocess

TOPS = (
    "/boot",
    "/etc",
    "/home",
    "/mnt",
    "/opt",
    "/root",
    "/srv",
    "/usr/local",
    "/var/spool",
    "/var/tmp",
    "/var/lib/apt/extended_states",
)
LEFT_OUT = (
    "/etc/machine-id", "/etc/shadow", "/etc/systemd/network/10-host0.network",
    "/etc/ld.so.cache", "/root/.cache", "/root/.rpmdb",
    # Of a program that Ansible asks.
    "/root/.lesshst",
)  # fmt: skip
BACKUPS = (
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
)


def printed(*command):
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        return []
    return done.stdout.decode(errors="replace").splitlines()


def name_of(look, number):
    try:
        return look(number)[0]
    except KeyError:
        return str(number)


def file_state(path):
    found = os.lstat(path)
    content = ""
    if stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            held = file.read()
        content = (
            "binary " + hashlib.sha256(held).hexdigest()
            if b"\0" in held
            else held.decode(errors="replace")
        )
        if len(content) > 2000:
            content = hashlib.sha256(held).hexdigest()
    if path.startswith("/var/spool/cron/crontabs/"):  # crontab says from where, and when
        content = "\n".join(line for line in content.splitlines() if " installed on " not in line)
    owner, group = name_of(pwd.getpwuid, found.st_uid), name_of(grp.getgrgid, found.st_gid)
    return [f"{found.st_mode:o}", owner, group, content]


def is_left_out(path):
    return (
        path in LEFT_OUT
        or path in BACKUPS
        or path.startswith("/etc/ssh/ssh_host_")
        # Sudo's, of its users; Ansible's own, and what it leaves of jobs in the background (docs).
        or path.endswith(("/.git", "/.ansible", "/.ansible_async", "/.sudo_as_admin_successful"))
        or "/systemd-private-" in path
    )


def files():
    found = {}
    for top in TOPS:
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not is_left_out(os.path.join(folder, name))]
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in ["", *names, *links]:
                path = os.path.join(folder, name).rstrip("/")
                if is_left_out(path):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found["file " + path] = file_state(path)
    return found


def shadow():
    found = {}
    with open("/etc/shadow") as file:
        for line in file:
            name, password, *ages = line.rstrip("\n").split(":")
            kind = "$".join(password.split("$")[:2]) if "$" in password else password
            found["shadow " + name] = [kind, *ages]
    return found


def units():
    found = {}
    for line in printed("systemctl", "list-unit-files", "--no-legend", "--no-pager", "--plain"):
        name, state = line.split()[:2]
        if state != "transient":
            found["unit file " + name] = state
    for line in printed(
        "systemctl",
        "list-units",
        "--all",
        "--no-legend",
        "--no-pager",
        "--plain",
        "--type=service,timer,socket,mount,path",
    ):
        name, load, active, sub = line.split()[:4]
        if not name.startswith(
            (
                "user@",
                "user-runtime",
                "run-user",
                "systemd-tmpfiles",
                "getty",
                "logrotate",
                "dpkg-db",
                "man-db",
                "systemd-hostnamed",
                "systemd-timedated",
                "e2scrub",
                "run-credentials",
            )
        ):
            found["unit " + name] = [load, active, sub]
    return found


def others():
    found = {}
    for line in printed(
        "dpkg-query", "-W", "-f", "${binary:Package} ${Version} ${db:Status-Abbrev}\n"
    ):
        name, told = line.split(None, 1)
        found["package " + name] = told
    for line in printed("rpm", "-qa", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\\n"):
        found["rpm " + line] = "installed"
    for path in [
        "/proc/sys/net/ipv4/ip_forward",
        *glob.glob("/proc/sys/net/ipv4/icmp*"),
        *glob.glob("/proc/sys/net/ipv4/conf/all/*"),
    ]:
        with open(path) as file:
            found["sysctl " + path] = file.read()
    with open("/proc/mounts") as file:
        mounts = [line.split()[:3] for line in file]
    found["mounts"] = sorted(
        " ".join(one)
        for one in mounts
        if not one[1].startswith(("/run/user", "/proc", "/sys", "/dev", "/run/credentials"))
        and one[1] != "/"
    )
    found["iptables"] = [
        line for line in printed("iptables-save") if not line.startswith(("#", ":"))
    ]
    found["hostname"] = [os.uname().nodename]
    return found


print(json.dumps({**files(), **shadow(), **units(), **others()}))

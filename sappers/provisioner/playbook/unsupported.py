"""What Ansible has and is not here: what to write instead, and when it is refused.

A task that names one, or such an argument, or such a filter, test or lookup, is refused before
anything runs. Where it stands under a condition or in a loop, as in roles for several systems, it
is refused as soon as it is known to be reached: after facts are gathered, still before the first
task; or, where only a later task can tell, at the task.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from sappers.errors import PlaybookError
from sappers.provisioner.source import Place

MODULE = "_unsupported"
_COLLECTED = re.compile(r"[a-z]\w*\.[a-z]\w*(?:\.[a-z]\w*)+")

_FIREWALL = "iptables, or the command {0}"
_REPOSITORY = "deb822_repository, apt_repository, or copy with the repository's file"
_DATABASE = "command, with the database's own client"
_CONTAINERS = "command, with docker or podman"
_CERTIFICATES = "command, with openssl and `creates`"
_COMMAND = "the command {0}"
_INSTEAD: Mapping[str, str] = {
    "acl": _COMMAND.format("setfacl"),
    "alternatives": _COMMAND.format("update-alternatives --set"),
    "apache2_module": _COMMAND.format("a2enmod or a2dismod, with `creates` or `removes`"),
    "apt_key": "get_url into /etc/apt/keyrings, and `signed-by` in apt_repository",
    "apt_rpm": "command",
    "archive": _COMMAND.format("tar, with `creates`"),
    "assemble": "template, with a loop over `query('fileglob', …)`; shell with cat, of files there",
    "at": _COMMAND.format("at"),
    "capabilities": _COMMAND.format("setcap"),
    "composer": _COMMAND.format("composer"),
    "crypttab": "lineinfile",
    "docker_compose": _CONTAINERS,
    "docker_compose_v2": _CONTAINERS,
    "docker_container": _CONTAINERS,
    "docker_image": _CONTAINERS,
    "docker_network": _CONTAINERS,
    "debconf": _COMMAND.format("debconf-set-selections, with `stdin`"),
    "dpkg_divert": _COMMAND.format("dpkg-divert"),
    "dpkg_selections": _COMMAND.format("apt-mark"),
    "expect": "command, with answers in `stdin`",
    "filesystem": _COMMAND.format("mkfs, under a condition on `blkid`"),
    "firewalld": _FIREWALL.format("firewall-cmd"),
    "gem": _COMMAND.format("gem"),
    "git_config": _COMMAND.format("git config"),
    "haproxy": "shell, with what haproxy's socket is told, by socat",
    "helm": _COMMAND.format("helm"),
    "homebrew": _COMMAND.format("brew"),
    "htpasswd": _COMMAND.format("htpasswd"),
    "k8s": _COMMAND.format("kubectl"),
    "kernel_blacklist": "copy, to a file of /etc/modprobe.d",
    "known_hosts": "lineinfile, with what `ssh-keyscan` says",
    "listen_ports_facts": _COMMAND.format("ss, with `register`"),
    "lvg": _COMMAND.format("vgcreate"),
    "lvol": _COMMAND.format("lvcreate"),
    "mail": _COMMAND.format("sendmail"),
    "make": _COMMAND.format("make"),
    "mysql_db": _DATABASE,
    "mysql_query": _DATABASE,
    "mysql_user": _DATABASE,
    "mysql_variables": _DATABASE,
    "mysql_info": _DATABASE,
    "nmcli": _COMMAND.format("nmcli"),
    "npm": _COMMAND.format("npm"),
    "openssh_keypair": _COMMAND.format("ssh-keygen, with `creates`"),
    "openssl_dhparam": _CERTIFICATES,
    "openssl_csr": _CERTIFICATES,
    "openssl_privatekey": _CERTIFICATES,
    "pacman": "command",
    "pam_limits": "lineinfile, in a file of /etc/security/limits.d",
    "pamd": "lineinfile",
    "parted": _COMMAND.format("parted"),
    "patch": _COMMAND.format("patch"),
    "postgresql_db": _DATABASE,
    "postgresql_ext": _DATABASE,
    "postgresql_privs": _DATABASE,
    "postgresql_query": _DATABASE,
    "postgresql_user": _DATABASE,
    "rpm_key": _COMMAND.format("rpm --import"),
    "seboolean": _COMMAND.format("setsebool"),
    "sefcontext": _COMMAND.format("semanage"),
    "selinux": "lineinfile in /etc/selinux/config, and the command setenforce",
    "seport": _COMMAND.format("semanage port"),
    "set_stats": "set_fact",
    "snap": _COMMAND.format("snap"),
    "subversion": _COMMAND.format("svn"),
    "synchronize": "copy with a folder, unarchive, or the command rsync with delegate_to",
    "sysvinit": "service",
    "ufw": _FIREWALL.format("ufw"),
    "xml": "replace, or template",
    "yum_repository": _REPOSITORY,
    "zypper": "command",
    "zypper_repository": _REPOSITORY,
}
ANY_OTHER = (
    "write command or shell with the program that it drives, or script with one of your own; "
    "`sappers-deploy module` lists all there are"
)
_PIPE = "`lookup('pipe', …)` with the command {0}"
_VAULT = "nothing: what Vault holds is opened where it is read"
# By kind and name.
_INSTEAD_IN_TEMPLATES: Mapping[tuple[str, str], str] = {
    ("lookup", "bitwarden"): _PIPE.format("bw"),
    ("lookup", "config"): "a variable, as `ansible_forks` or `ansible_user`: what only steers "
    "Ansible itself steers nothing here",
    ("lookup", "consul_kv"): "`lookup('url', 'http://…/v1/kv/…?raw')`",
    ("lookup", "dig"): _PIPE.format("dig +short"),
    ("lookup", "filetree"): "the lookup `fileglob`, or copy with a folder",
    ("lookup", "hashi_vault"): _PIPE.format("vault kv get"),
    ("lookup", "onepassword"): _PIPE.format("op read"),
    ("lookup", "passwordstore"): _PIPE.format("pass show"),
    ("lookup", "random_string"): "the lookup `password`",
    ("filter", "ipaddr"): "the address as it is needed, as a variable",
    ("filter", "ipv4"): "the address as it is needed, as a variable",
    ("filter", "ipv6"): "the address as it is needed, as a variable",
    ("filter", "json_query"): "`selectattr`, `map(attribute='…')` and the like",
    ("filter", "unvault"): _VAULT,
    ("filter", "vault"): _VAULT,
    ("test", "vault_encrypted"): _VAULT,
    ("test", "vaulted_file"): _VAULT,
}


class Unsupported(PlaybookError):
    """A task wants what Ansible has and is not here."""


def is_of_ansible(name: str) -> bool:
    """Whether a name is one of a module that is known not to be here, or of any collection's."""
    return bool(_COLLECTED.fullmatch(name)) or name in _INSTEAD


def instead(name: str) -> str:
    """What to write instead of such a module."""
    found = _INSTEAD.get(name.rpartition(".")[2])
    return f"write {found}" if found else ANY_OTHER


def hint_in_templates(kind: str, name: str, known: Collection[str]) -> str:
    """What to write instead of a filter, test or lookup that is not among those known."""
    found = _INSTEAD_IN_TEMPLATES.get((kind, name.rpartition(".")[2]))
    close = difflib.get_close_matches(name, sorted(known), n=1)
    if found or close:
        return f"write {found}" if found else f"did you mean `{close[0]}`?"
    if kind == "lookup":
        return f"there are {', '.join(sorted(known))}"
    return "those of ansible.builtin are there; compute it with them, or set a variable"


def is_known_in_templates(kind: str, name: str) -> bool:
    """Whether a filter, test or lookup that is not here is Ansible's, or of a collection."""
    return bool(_COLLECTED.fullmatch(name)) or (kind, name) in _INSTEAD_IN_TEMPLATES


def refusal(name: str, place: Place, *, own: bool = False) -> Unsupported:
    """The error, to raise, that a task names such a module.

    Args:
        own: It is one that the role or the playbook brings.
    """
    error = f"the module `{name}` is not supported"
    hint = instead(name)
    if own:
        error += ": modules in `library` are not run"
        hint = "write what it does with the modules there are, or script with a program of its own"
    return Unsupported(error, path=place.path, line=place.line, column=place.column, hint=hint)


def arguments(refused: PlaybookError) -> dict[str, Any]:
    """What `MODULE` is given: why the task is refused."""
    return {"problem": refused, "msg": f"{refused.message} ({refused.hint})"}

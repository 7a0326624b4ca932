"""What a module says of itself: the arguments it takes, and how the engine may treat it."""

from __future__ import annotations

from typing import Any, Tuple

from sappers.provisioner.modules.record import Record


class Argument(Record):
    """One argument of a module.

    Attributes:
        kind: str, path (`~` and `$VAR` are expanded on the host), bool, int, float, list, dict,
            mode (octal or symbolic), raw (anything).
        elements: The kind of a list's items.
        default: What it is where nothing is given.
    """

    name: str
    kind: str = "str"
    help: str = ""
    required: bool = False
    default: Any = None
    choices: Tuple[str, ...] = ()
    aliases: Tuple[str, ...] = ()
    elements: str = "str"


class Module(Record):
    """A module as its file declares it.

    Attributes:
        free_form: The argument that takes a text without `name=`.
        outward: What it does may depend on other hosts: all that came before it is done on all
            hosts of the play before it starts on any.
        alone: What comes after it is prepared only when it is done on all hosts.
        tells_facts: Its `ansible_facts` become variables of the host. A host can say anything, so
            from the results of all others none are taken.
        plain_facts: Of those, patterns of names that are variables without `ansible_`, too.
        once: It is done for the first host of a batch, and counts for all, as with `run_once`.
        any_arguments: It takes arguments of any name (`set_fact`).
        one_of: At least one of each group has to be given.
        exclusive: At most one of each group may be given.
        unsupported: Ansible's arguments that are refused, each with the reason or the way out.
        returns: Name and meaning of what the result holds beside `changed`, `failed` and `msg`.
    """

    summary: str
    arguments: Tuple[Argument, ...] = ()
    free_form: str = ""
    outward: bool = False
    alone: bool = False
    once: bool = False
    any_arguments: bool = False
    one_of: Tuple[Tuple[str, ...], ...] = ()
    exclusive: Tuple[Tuple[str, ...], ...] = ()
    unsupported: Tuple[Tuple[str, str], ...] = ()
    returns: Tuple[Tuple[str, str], ...] = ()
    notes: Tuple[str, ...] = ()
    tells_facts: bool = False
    plain_facts: Tuple[str, ...] = ()


MODE = Argument("mode", "mode", "Permissions: '0644', or u=rw,g=r,o=r.")
OWNER = Argument("owner", "str", "Name or number of the user who shall own it.")
GROUP = Argument("group", "str", "Name or number of the group that shall own it.")
_LABEL = "Of an SELinux label; refused where SELinux is on."
LABELS = tuple(Argument(name, "str", _LABEL) for name in ("selevel", "serole", "setype", "seuser"))
FILE_ARGUMENTS = (MODE, OWNER, GROUP, *LABELS)
FILE_UNSUPPORTED = (
    ("attributes", "use the command chattr"),
    ("attr", "use the command chattr"),
    ("unsafe_writes", "files are always written beside and renamed; leave it out"),
)

"""What steers the run itself: includes, imports, `meta`; their arguments, as modules have them."""

from __future__ import annotations

from sappers.provisioner.modules.spec import Argument, Module

_FILE = Argument("file", "str", "The task file, relative to this one or the role's tasks.")
_ROLE = (
    Argument("name", "str", "The role.", required=True, aliases=("role",)),
    Argument("tasks_from", "str", "A file of its tasks instead of main.", default="main"),
    Argument("vars_from", "str", "A file of its vars instead of main.", default="main"),
    Argument("defaults_from", "str", "A file of its defaults instead of main.", default="main"),
    Argument("handlers_from", "str", "A file of its handlers instead of main.", default="main"),
    Argument("apply", "dict", "Keywords for all tasks of the role."),
    Argument("public", "bool", "Its variables stay known after it.", default=False),
    Argument("allow_duplicates", "bool", "Run it although it has run.", default=True),
    Argument("rolespec_validate", "bool", "Accepted and without effect.", default=True),
)
META = [
    "flush_handlers",
    "end_play",
    "end_host",
    "end_batch",
    "clear_host_errors",
    "clear_facts",
    "noop",
    "reset_connection",
    "end_role",
    "refresh_inventory",
]

FLOW_SPECS: dict[str, Module] = {
    "include_tasks": Module(
        "Run the tasks of a file that is chosen when it is reached.",
        (_FILE._replace(required=True), Argument("apply", "dict", "Keywords for its tasks.")),
        free_form="file",
    ),
    "import_tasks": Module(
        "Put the tasks of a file here, before anything runs.",
        (_FILE._replace(required=True),),
        free_form="file",
    ),
    "include_role": Module("Run a role that is chosen when it is reached.", _ROLE),
    "import_role": Module("Put the tasks of a role here, before anything runs.", _ROLE),
    "import_playbook": Module(
        "Put the plays of a file here.", (_FILE._replace(required=True),), free_form="file"
    ),
    "include_vars": Module(
        "Take variables from a file or the files of a folder.",
        (
            _FILE,
            Argument("dir", "str", "A folder of files."),
            Argument("name", "str", "Put them into this variable."),
            Argument("extensions", "list", "", default=["yaml", "yml", "json"]),
            Argument("ignore_unknown_extensions", "bool", "Others are left out.", default=False),
            Argument("files_matching", "str", "Only names that this expression matches."),
            Argument("ignore_files", "list", "Expressions for names to leave out.", default=[]),
            Argument("depth", "int", "So many levels of folders; 0: all.", default=0),
        ),
        free_form="file",
        one_of=(("file", "dir"),),
    ),
    "meta": Module(
        "Steer the run.",
        (Argument("action", "str", "What to do.", required=True, choices=tuple(META)),),
        free_form="action",
    ),
}

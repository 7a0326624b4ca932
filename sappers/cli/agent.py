"""`sappers [flags] STATE_DIR`: start an agent, or ask the one that runs there for something.

Settings come from `STATE_DIR/agent.toml` where there is one; a flag given here goes before it.
"""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sappers.agent.flags import StartFlags
from sappers.agent.running import RunningAgent, claimed, find_running, refuse_others
from sappers.assembly.agent import run_agent
from sappers.assembly.by_hand import prepare_by_hand
from sappers.cli.agent_requests import Launch, Requests
from sappers.cli.ending import run_to_the_end
from sappers.cli.help_text import reflowed
from sappers.cli.version import version_option
from sappers.config import StateFolder
from sappers.errors import ConfigError, MemberUnreachable, StateInUse

_STARTING = "Starting an agent"
_ASKING = "Asking the agent that runs on STATE_DIR"
_BOTH = "Both"
_PORT = {"min": 1, "max": 65_535}

app = typer.Typer(
    name="sappers",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


class Level(StrEnum):
    """What is logged: this and above."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


HELP = """
Start an agent of a Sappers cluster, or ask the one that runs on STATE_DIR for something.

Without a request the command starts the agent and stays until SIGTERM or Ctrl-C; guests and the
hub go on without it. With a request (--launch-…, --trigger-snapshot, or --log-level while an agent
runs) it asks the running agent, says how far it is, and ends.

[bold]A cluster by hand.[/bold] The first agent founds it and makes the cluster's keys, a folder
`cluster` beside STATE_DIR. Every other machine needs a copy of that folder for its agent's first
start. Whoever has it can make members.

\b
  sappers --node-id node1 --bootstrap 3 ./raft/node1
  sappers --node-id node2 --peers 10.0.0.11:7946 ./raft/node2
  sappers --node-id node3 --peers 10.0.0.11:7946 ./raft/node3

Several agents of one machine differ in --gossip-port, --raft-addr and --http-addr; the hub's ports
move along with the last one.

\b
  sappers --node-id node2 --gossip-port 7947 --raft-addr :12001 \\
          --http-addr :11001 --peers 127.0.0.1:7946 ./raft/node2

[bold]Running something.[/bold] An image comes from `sappers-deploy image build` and `image export`.

\b
  sappers --launch-nanovm my-app --vm-image my-app.image \\
          --consul-service my-app --service-port 8080 ./raft/node1
  sappers --launch-microvm monitor ./raft/node1
  sappers --trigger-snapshot ./raft/node1
  sappers --let-healers-in ./raft/node1
  sappers --log-level DEBUG ./raft/node1
"""

EPILOG = """
[bold]Files.[/bold] STATE_DIR (0700) has all that an agent keeps: agent.toml (settings; written by
the first start), node-id, pki/, gossip.key and hub.seed (who it is), genesis.json, raft/ or
replica/ (the log and its snapshots), images/, guests/, hub/, processes/. The cluster's keys are in
`cluster/` beside it, or where --cluster-keys says.

[bold]Exit codes.[/bold] 0 done · 1 an error: the message says what, where, and what to do · 4 no
agent runs there, or no member answers · 5 the cluster has no quorum · 64 wrong usage · 130
interrupted.

[bold]Logs.[/bold] JSON on standard error, one object a line. sappers-deploy(1) starts agents on
many hosts over SSH; `sappers-deploy status --cluster ./raft/cluster` shows a cluster made by hand.
"""


@app.command(help=reflowed(HELP), epilog=reflowed(EPILOG))
def sappers(
    state_dir: Annotated[
        Path,
        typer.Argument(
            metavar="STATE_DIR",
            help="Where the agent keeps its identity, log, snapshots and guests: ./raft/node1",
            file_okay=False,
        ),
    ],
    *,
    node_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Unique id of this agent; kept in STATE_DIR once given. "
            "Else the host's name and six random digits.",
            rich_help_panel=_STARTING,
        ),
    ] = None,
    gossip_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="Gossip, TCP and UDP: 7946 if not given.",
            rich_help_panel=_STARTING,
            **_PORT,
        ),
    ] = None,
    raft_addr: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]:PORT",
            help="Raft: `:12000` if not given. An address here is this member's own, for all that "
            "it listens on; without one the agent finds it, and listens on all addresses.",
            rich_help_panel=_STARTING,
        ),
    ] = None,
    http_addr: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]:PORT",
            help="HTTP API: `:11000` if not given.",
            rich_help_panel=_STARTING,
        ),
    ] = None,
    hub_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="NATS hub, if this member runs a part of it: 4222 if not given, moved as far as "
            "the API's port is from 11000; its servers meet 2000 above.",
            rich_help_panel=_STARTING,
            **_PORT,
        ),
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Found a new cluster once N agents have met. For one agent; others have --peers.",
            rich_help_panel=_STARTING,
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT,…",
            help="Agents to meet first, at their gossip ports.",
            rich_help_panel=_STARTING,
        ),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What this host fails together with, a rack or a site: voters are spread over "
            "zones.",
            rich_help_panel=_STARTING,
        ),
    ] = None,
    launch_nanovm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Launch an application as a unikernel, and wait until it is "
            "healthy. Again: change what the flags say, and nothing else.",
            rich_help_panel=_ASKING,
        ),
    ] = None,
    launch_microvm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Launch a micro-VM (`healer`, `monitor`, …), and wait.",
            rich_help_panel=_ASKING,
        ),
    ] = None,
    vm_image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Its image: a file of `sappers-deploy image export`, or the raw "
            "disk of a Nanos image. If not given: what runs already, or the cluster's image "
            "of that name.",
            rich_help_panel=_ASKING,
        ),
    ] = None,
    consul_service: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Register it with Consul under this name; its own if not given.",
            rich_help_panel=_ASKING,
        ),
    ] = None,
    service_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="The port it serves; the image's if not given.",
            rich_help_panel=_ASKING,
            **_PORT,
        ),
    ] = None,
    trigger_snapshot: Annotated[
        bool,
        typer.Option(
            "--trigger-snapshot",
            help="Take a snapshot of the replicated state now.",
            rich_help_panel=_ASKING,
        ),
    ] = False,
    let_healers_in: Annotated[
        bool,
        typer.Option(
            "--let-healers-in",
            help="When this agent dies, let the cluster's healer log in over SSH as this user, "
            "with a certificate for this member and for minutes, and start it again.",
            rich_help_panel=_ASKING,
        ),
    ] = False,
    cluster_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder with the cluster's keys: `cluster` beside STATE_DIR "
            "if not given. Needed for the first start, for requests, and to renew certificates.",
            rich_help_panel=_BOTH,
        ),
    ] = None,
    log_level: Annotated[
        Level | None,
        typer.Option(
            metavar="LEVEL",
            case_sensitive=False,
            help="DEBUG, INFO, WARN or ERROR, and above; INFO if not given. An agent that runs "
            "changes it at once.",
            rich_help_panel=_BOTH,
        ),
    ] = None,
    version: Annotated[bool | None, version_option("sappers")] = None,
) -> None:
    """See HELP."""
    del version
    folder = StateFolder(state_dir.absolute())
    flags = StartFlags(
        node_id=node_id,
        gossip_port=gossip_port,
        raft_addr=raft_addr,
        http_addr=http_addr,
        hub_port=hub_port,
        bootstrap=bootstrap,
        peers=peers,
        zone=zone,
        log_level=log_level,
    )
    requests = Requests(
        launch=_launch(launch_nanovm, launch_microvm, vm_image, consul_service, service_port),
        snapshot=trigger_snapshot,
        healers=let_healers_in,
        log_level=log_level.value if log_level else None,
    )
    running = _find_running(folder)
    if running is not None and requests.any:
        _refuse_start_flags(flags, running)
        # Imported late: an agent needs nothing of it.
        from sappers.cli.agent_asking import ask

        ask(folder, running, requests, cluster_keys)
    elif requests.needs_agent:
        raise MemberUnreachable(
            f"no agent runs on {state_dir}", hint=f"start it first: sappers {state_dir}"
        )
    else:
        _run(folder, flags, cluster_keys)


def _run(folder: StateFolder, flags: StartFlags, cluster_keys: Path | None) -> None:
    try:
        folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_others(folder.root)
        with claimed(folder.running) as lock:
            settings = prepare_by_hand(folder, flags, cluster_keys)
            asyncio.run(run_agent(folder, settings, flags.node_id, lock))
    except PermissionError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}", hint=_WHOSE) from error


_WHOSE = "run it as the user whose STATE_DIR this is"


def _find_running(folder: StateFolder) -> RunningAgent | None:
    try:
        if not os.path.lexists(folder.root):
            return None
        refuse_others(folder.root)
        return find_running(folder.running)
    except OSError as error:
        raise ConfigError(f"{folder.running}: {error.strerror}", hint=_WHOSE) from error


def _launch(
    nanovm: str | None,
    microvm: str | None,
    image: Path | None,
    service: str | None,
    port: int | None,
) -> Launch | None:
    if nanovm is not None and microvm is not None:
        raise ConfigError("--launch-nanovm and --launch-microvm: one at a time")
    name = microvm if nanovm is None else nanovm
    if name is None:
        for flag, given in (
            ("--vm-image", image),
            ("--consul-service", service),
            ("--service-port", port),
        ):
            if given is not None:
                raise ConfigError(f"{flag} goes with --launch-nanovm or --launch-microvm")
        return None
    return Launch(name, "microvm" if nanovm is None else "nanos", image, service or "", port)


def _refuse_start_flags(flags: StartFlags, running: RunningAgent) -> None:
    """A request may name the agent that it is for; what else is for a start would do nothing."""
    if flags.node_id not in (None, running.node_id):
        raise ConfigError(f"{running.node_id} runs there, not {flags.node_id}")
    for name in ("gossip_port", "raft_addr", "http_addr", "hub_port", "bootstrap", "peers", "zone"):
        if getattr(flags, name) is not None:
            raise StateInUse(
                f"--{name.replace('_', '-')} is for starting an agent, and {running.node_id} runs "
                "there already",
                hint="leave it out, or end that agent first",
            )


def main() -> NoReturn:
    """Run `sappers`."""
    run_to_the_end(app)


if __name__ == "__main__":
    main()

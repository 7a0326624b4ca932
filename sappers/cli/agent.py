"""`sappers [flags] STATE_DIR`: start this host's agent.

The settings come from `STATE_DIR/agent.toml`; a flag given here goes before what stands there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sappers import __version__
from sappers.assembly.agent import run_agent
from sappers.cli.exit_codes import ExitCode, exit_code_for
from sappers.config import AgentSettings, StateFolder, load_agent_settings
from sappers.errors import ConfigError, SappersError
from sappers.model.member import Ports

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _port_of(address: str, flag: str) -> int:
    """The port in `:12000` or `10.0.0.1:12000`."""
    _, _, port = address.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigError(f"{flag} {address}: expected `:PORT` or `ADDRESS:PORT`")
    return int(port)


def _show_version(value: bool) -> None:  # noqa: FBT001 — the signature that typer asks for
    if value:
        typer.echo(f"sappers {__version__}")
        raise typer.Exit


@app.command()
def start(
    state_dir: Annotated[
        Path, typer.Argument(help="Where the agent keeps its identity, log and guests.")
    ],
    node_id: Annotated[
        str | None, typer.Option(help="Unique id of this agent; kept in STATE_DIR once given.")
    ] = None,
    gossip_port: Annotated[int | None, typer.Option(help="Gossip port. [default: 7946]")] = None,
    raft_addr: Annotated[str | None, typer.Option(help="Raft. [default: :12000]")] = None,
    http_addr: Annotated[str | None, typer.Option(help="HTTP API. [default: :11000]")] = None,
    bootstrap: Annotated[
        int | None, typer.Option(help="Found a new cluster once so many agents have met.")
    ] = None,
    peers: Annotated[
        str | None, typer.Option(help="Agents to meet first: `host:port,host:port`.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="DEBUG, INFO, WARN or ERROR; logs are JSON, one a line.")
    ] = None,
    version: Annotated[
        bool | None, typer.Option("--version", callback=_show_version, is_eager=True)
    ] = None,
) -> None:
    """Start the agent of this host, and stay until it is told to stop."""
    del version
    folder = StateFolder(state_dir.absolute())
    settings = _with_flags(
        load_agent_settings(folder.settings),
        gossip_port=gossip_port,
        raft_addr=raft_addr,
        http_addr=http_addr,
        bootstrap=bootstrap,
        peers=peers,
        log_level=log_level,
    )
    asyncio.run(run_agent(folder, settings, node_id))


def _with_flags(
    settings: AgentSettings,
    *,
    gossip_port: int | None,
    raft_addr: str | None,
    http_addr: str | None,
    bootstrap: int | None,
    peers: str | None,
    log_level: str | None,
) -> AgentSettings:
    ports = Ports(
        gossip=gossip_port or settings.ports.gossip,
        raft=_port_of(raft_addr, "--raft-addr") if raft_addr else settings.ports.raft,
        http=_port_of(http_addr, "--http-addr") if http_addr else settings.ports.http,
        hub=settings.ports.hub,
        hub_routes=settings.ports.hub_routes,
        gateway=settings.ports.gateway,
    )
    changes: dict[str, object] = {"ports": ports}
    if bootstrap is not None:
        changes["bootstrap"] = bootstrap
    if peers is not None:
        changes["peers"] = tuple(peer for peer in peers.split(",") if peer)
    if log_level is not None:
        changes["log_level"] = log_level.upper()
    try:
        merged = msgspec.to_builtins(settings) | msgspec.to_builtins(changes)
        return msgspec.convert(merged, AgentSettings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error


def main() -> None:
    """Run `sappers`."""
    try:
        app(standalone_mode=True)
    except SappersError as error:
        typer.echo(f"sappers: {error.message}", err=True)
        if error.hint:
            typer.echo(f"  {error.hint}", err=True)
        raise SystemExit(exit_code_for(error)) from error
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None


if __name__ == "__main__":
    main()

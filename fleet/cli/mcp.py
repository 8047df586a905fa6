"""`fleet mcp`: tools for agents, on stdin and stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from fleet import Fleet


@click.command()
@options.file
@click.option("--read-only", is_flag=True, help="No tool that changes anything, whatever else is said.")
@click.option(
    "--toolsets",
    default="",
    metavar="SET,…",
    help="Only these sets of tools: hosts, runs, plans, changes. Default: all.",
)
@click.option("--as", "principal", default="", metavar="NAME", help="The agent of principals.toml that asks.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Sign plans as their author, with this key or its public half if ssh-agent has it.",
)
def mcp(file: Path | None, toolsets: str, principal: str, key: Path | None, *, read_only: bool) -> int:
    """Serve the fleet to an agent, by the Model Context Protocol on stdin and stdout. Needs fleet[serve].

    The agent looks, plans, and asks for changes. What policy.toml leaves to people it cannot do: it is told what to
    ask them for. What it has begun goes on if this ends: docs/mcp.md.

    \b
    fleet mcp --as agent-3
    fleet mcp --read-only --toolsets hosts,runs
    """
    from fleet import Fleet
    from fleet.errors import ConfigError
    from fleet.mcp.desk import Desk

    path = session.open_inventory(file).path
    fleet = Fleet.open(path, principal=principal)
    if not read_only:
        _require_agent(fleet)
    if key is not None and not key.exists():
        raise ConfigError(f"{key}: there is no such key")
    desk = Desk(
        file=path,
        principal=principal,
        sudo_password=session.given_password(),
        key=key.resolve() if key is not None else None,
    )
    try:
        from fleet.mcp.server import server
    except ModuleNotFoundError as error:
        raise ConfigError(f"fleet mcp needs {error.name}", hint="pip install 'fleet[serve]'") from None
    chosen = [name.strip() for name in toolsets.split(",") if name.strip()]
    server(lambda: desk, toolsets=chosen, read_only=read_only).run("stdio")
    return 0


def _require_agent(fleet: Fleet) -> None:
    """Raise `ConfigError` if an agent would act as a person here, where the two are told apart."""
    from fleet.errors import ConfigError

    if fleet.principals() is not None and fleet.is_person:
        raise ConfigError(
            f"an agent would act as {fleet.by}, whom rules for agents do not bind",
            hint="say who it is with --as NAME, an agent of principals.toml; or --read-only",
        )

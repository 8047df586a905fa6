"""The command line: one file per command, and the only place that turns errors into text and exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import click

from fleet import __version__
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "init": "init",
    "check": "look",
    "plan": "plan",
    "build": "build",
    "push": "deploy",
    "deploy": "deploy",
    "diff": "diff",
    "rollback": "deploy",
    "status": "look",
    "health": "look",
    "generations": "look",
    "trust": "access",
    "ssh": "access",
    "lab": "lab",
}
"""Each command, and the module below this one that has it: in the order of a day's work."""


class _Commands(click.Group):
    """Loads the module of a command when that command is asked for."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"fleet.cli.{COMMANDS[name]}"), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]}?", ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fleet")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def fleet(*, debug: bool) -> None:
    """Deploy NixOS to a fleet of hosts. A host that is not proven healthy is back on its old system.

    \b
    fleet deploy --all
    fleet diff gpu-01
    fleet rollback pi-edge
    """


def run(arguments: Sequence[str]) -> int:
    """The exit code of the command line. What went wrong has been told on stderr."""
    try:
        code = fleet.main(list(arguments), prog_name="fleet", standalone_mode=False)
    except click.exceptions.Abort:
        print("interrupted", file=sys.stderr)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except FleetError as error:
        if "--debug" in arguments:
            raise
        _tell(error)
        return error.exit_code
    return code if isinstance(code, int) else 0


def _tell(error: FleetError) -> None:
    from fleet.output.format import failure_lines

    host = getattr(error, "host", None)
    for line in failure_lines([host] if host else [], error.failure()):
        print(line, file=sys.stderr)

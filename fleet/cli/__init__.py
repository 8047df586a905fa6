"""The command line: one file per command, and the only place that turns errors into text and exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import click

from fleet import __version__
from fleet.errors import INTERRUPTED, ConfigError, FleetError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "init": ("init", "Write a fleet.toml next to a flake.nix."),
    "check": ("check", "Check fleet.toml, the configurations, and the flake they are in."),
    "plan": ("plan", "Tell what a deployment would do to each host."),
    "build": ("build", "Build the closures; no host is contacted."),
    "push": ("deploy", "Build, and copy the closures to the hosts."),
    "deploy": ("deploy", "Build, push, switch and prove."),
    "diff": ("diff", "Compare what runs with what would be deployed."),
    "rollback": ("deploy", "Go back to the system that ran before."),
    "status": ("look", "Tell what each host runs, keeps and boots."),
    "runs": ("runs", "List the runs that this machine remembers."),
    "resume": ("runs", "See a run through whose controller was lost."),
    "health": ("look", "Ask the checks of each host once."),
    "generations": ("look", "List the generations of each host."),
    "trust": ("access", "Write the key that a host answers with to fleet.toml."),
    "ssh": ("access", "Open a shell on a host."),
    "lab": ("lab", "Disposable hosts, to try things and to rehearse on."),
}
"""Each command, the module below this one that has it, and its line in `fleet --help`, which loads none of them.

In the order of a day's work.
"""
HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
REPORTING = ("deploy", "push", "rollback", "resume")
"""Commands whose `--json` ends with `run_finished` whatever happens."""


class _Commands(click.Group):
    """Loads the module of a command when that command is asked for."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"fleet.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return _with_short_help_flag(command)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]}?", ctx) from None


def _with_short_help_flag(command: click.Command) -> click.Command:
    """The command, and those below it, know `-h`: a command keeps the flags of its first context."""
    command.context_settings = {**HELP_FLAGS, **command.context_settings}
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _with_short_help_flag(below)
    return command


@click.group(cls=_Commands, context_settings={**HELP_FLAGS, "max_content_width": 100})
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
    """The exit code of the command line. What went wrong has been told on stderr, and as JSON where that was asked."""
    try:
        code = fleet.main(list(arguments), prog_name="fleet", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return _ended(arguments, FleetError("interrupted"), INTERRUPTED)
    except click.ClickException as error:
        error.show()
        return _ended(arguments, ConfigError(error.format_message()), error.exit_code)
    except FleetError as error:
        if "--debug" in arguments:
            raise
        _tell(error)
        return _ended(arguments, error, error.exit_code)
    return code if isinstance(code, int) else 0


def _ended(arguments: Sequence[str], error: FleetError, code: int) -> int:
    """The exit code. A script that reads events has its last one, though the run never was."""
    if "--json" in arguments and any(verb in arguments for verb in REPORTING):
        from fleet.events import RunFinished
        from fleet.model import RunId
        from fleet.output.jsonl import JsonLines

        JsonLines(sys.stdout)(RunFinished(run=RunId(""), exit_code=code, error=error.failure(), hosts=()))
    return code


def _tell(error: FleetError) -> None:
    from fleet.output.format import failure_lines

    host = getattr(error, "host", None)
    for line in failure_lines([host] if host else [], error.failure()):
        print(line, file=sys.stderr)

"""The command line, with one file for each command. Nothing else turns errors into text and exit codes."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from fleet import __version__
from fleet.errors import INTERRUPTED, FleetError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "doctor": ("doctor", "Say what keeps this machine from deploying, with remedies."),
    "init": ("init", "Write a fleet.toml for what is configured already."),
    "install": ("install", "Install NixOS on a machine, and deploy for the first time."),
    "check": ("check", "Check fleet.toml, the configurations, and the flake they are in."),
    "plan": ("plan", "Tell what a deployment would do to each host."),
    "show": ("plan", "Tell what a kept plan would do."),
    "apply": ("plan", "Do what a kept plan says."),
    "approve": ("approve", "Look at somebody's plan, and sign that it may be applied."),
    "withdraw": ("approve", "Make a plan worthless, wherever copies of it are."),
    "policy": ("policy", "Tell what policy.toml says about a plan."),
    "rehearse": ("rehearse", "Bring what a host would get up on a disposable host first."),
    "build": ("build", "Build the closures; no host is contacted."),
    "push": ("deploy", "Build, and copy the closures to the hosts."),
    "deploy": ("deploy", "Build, push, switch and prove."),
    "diff": ("diff", "Compare what runs with what would be deployed."),
    "drift": ("drift", "Find what nobody declared on each host."),
    "rollback": ("deploy", "Go back to the system that ran before."),
    "reboot": ("reboot", "Reboot hosts, and prove that they come back as they were."),
    "describe": ("describe", "Tell what the fleet consists of; no host is contacted."),
    "status": ("status", "Tell what each host runs and how it is, the worst first."),
    "runs": ("runs", "List the runs that this machine remembers."),
    "resume": ("runs", "See a run through whose controller was lost."),
    "deliver": ("deliver", "Bring hosts what they have missed while they were away."),
    "worker": ("workers", "Carry out runs for others, with other workers, until asked to stop."),
    "workers": ("workers", "Tell which workers live, and what they do."),
    "rollout": ("rollout", "Pause a rollout that is under way, go on with it, or abort it."),
    "health": ("look", "Ask the checks of each host once."),
    "generations": ("look", "List the generations of each host."),
    "history": ("history", "List what has happened on each host, as the host remembers it."),
    "ledger": ("ledger", "Show, verify or export the record of what was done from here."),
    "changes": ("history", "Tell what has happened on hosts since you looked last."),
    "who": ("who", "Tell who is at work on each host, who waits, and who was the last."),
    "gc": ("gc", "Let go what no rollback needs: old generations, and garbage."),
    "secrets": ("secrets", "Tell what hosts have of their secrets, or bring them what differs."),
    "logs": ("logs", "Show what a unit has written to the journal."),
    "exec": ("execute", "Run a command on many hosts."),
    "sandbox": ("sandbox", "Bring up where agents may run things, and prove that it holds."),
    "mesh": ("mesh", "Ask hosts for their keys of the mesh between them, and show it."),
    "notify": ("notify", "Send a trial message to everybody whom fleet.toml names."),
    "trust": ("access", "Write the keys that hosts answer with to fleet.toml."),
    "ssh": ("access", "Open a shell on a host, or run a command there."),
    "pins": ("pins", "Tell what flakes are pinned to; update one pin with a canary."),
    "image": ("image", "Make container images of hosts or packages, and load them."),
    "mcp": ("mcp", "Serve the fleet to an agent: tools to look, plan and ask."),
    "serve": ("serve", "Show the fleet in a browser, live."),
    "token": ("token", "Make and revoke tokens for fleet serve."),
    "completion": ("completion", "Let the shell complete commands, hosts, tags, runs and generations."),
    "man": ("manual", "Manual pages of all commands."),
    "lab": ("lab", "Disposable hosts, to try things and to rehearse on."),
}
"""Each command, its module below this one, and its line in `fleet --help`, which loads none of the modules.

They are in the order in which people use them.
"""
HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Why stdout takes no more. Such an error names no file."""


class _Commands(click.Group):
    """Loads the module of a command when that command is called."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"fleet.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return _with_short_help_flag(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        commands = [CompletionItem(name, help=summary) for name, (_, summary) in COMMANDS.items()]
        flags = click.Command.shell_complete(self, ctx, incomplete)
        return [item for item in commands if item.value.startswith(incomplete)] + flags

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
    """Give the command and its subcommands the flag `-h`: a command keeps the flags of its first context."""
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
    """Run the command line and return its exit code.

    Errors go to stderr; `reporting.py` writes them to stdout too where scripts wait for them.
    """
    from fleet.cli import session

    session.take_password()
    if "_FLEET_COMPLETE" in os.environ:
        from fleet.cli.completion import shells

        shells.register()
    _spell_out_what_cannot_be_printed()
    try:
        code = fleet.main(list(arguments), prog_name="fleet", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FleetError as error:
        if "--debug" in arguments:
            raise
        _print_error(error)
        return error.exit_code
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITABLE or "--debug" in arguments:
            raise
        return _unwritable(error)
    return code if isinstance(code, int) else 0


def _unwritable(error: OSError) -> int:
    """Say that stdout takes no more, and return the exit code. A reader that has left is click's: exit code 1 too."""
    from fleet.output.stream import discard

    discard(sys.stdout)
    _print_error(FleetError(f"what was found cannot be written to stdout: {error.strerror}"))
    return 1


def _spell_out_what_cannot_be_printed() -> None:
    """Let stdout and stderr print `?` for characters that their encoding lacks: in the POSIX locale it is ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def _print_error(error: FleetError) -> None:
    from fleet.output import is_capable
    from fleet.output.format import failure_lines
    from fleet.output.patch import coloured

    host = getattr(error, "host", None)
    first, *others = failure_lines([host] if host else [], error.failure())
    if is_capable(sys.stderr):
        first = coloured(first, "bold red")
    print("\n".join([first, *others]), file=sys.stderr)

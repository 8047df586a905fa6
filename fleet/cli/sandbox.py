"""`fleet sandbox`: where agents and others may run what nobody has read."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.inventory import Host, Inventory
    from fleet.library.sandboxes import Act

WORDS = {"up": "bring the sandbox up", "down": "take it down", "reset": "reset it", "prove": "try to leave it"}
PLACE = click.argument("place", metavar="HOST/NAME")


@click.group()
def sandbox() -> None:
    """Sandboxes of hosts: bring one up, prove that it holds, and take it down. Hosts declare them: docs/sandbox.md.

    What runs in one reaches the addresses that are named, sees what is named, and is gone when its time is over.

    \b
    fleet sandbox list
    fleet sandbox up gpu-01/claude
    fleet sandbox ssh gpu-01/claude
    fleet sandbox prove gpu-01/claude
    """


def _verb(function: Callable[..., int]) -> click.Command:
    """Make the function a verb about one sandbox."""
    flags = (PLACE, options.file, options.as_json, options.break_glass)
    for flag in reversed(flags):
        function = flag(function)
    return sandbox.command(function.__name__)(function)


@_verb
def up(place: str, file: Path | None, *, as_json: bool, break_glass: str) -> int:
    """Bring a sandbox up, if it is proven that it holds. It ends by itself when its time is over.

    \b
    fleet sandbox up gpu-01/claude
    """
    return _act("up", place, file, as_json=as_json, break_glass=break_glass)


@_verb
def down(place: str, file: Path | None, *, as_json: bool, break_glass: str) -> int:
    """Take a sandbox down, with all that runs in it. What an ephemeral one has written is gone.

    \b
    fleet sandbox down gpu-01/claude
    """
    return _act("down", place, file, as_json=as_json, break_glass=break_glass)


@_verb
def reset(place: str, file: Path | None, *, as_json: bool, break_glass: str) -> int:
    """Let a sandbox be as it was at first: what was written in it is gone. It comes up again if it was up.

    A folder of the host that is its workspace stays as it is.

    \b
    fleet sandbox reset gpu-01/claude
    """
    return _act("reset", place, file, as_json=as_json, break_glass=break_glass)


@_verb
def prove(place: str, file: Path | None, *, as_json: bool, break_glass: str) -> int:
    """Try to leave a sandbox in every way that fleet knows, and show what came of it.

    The attempts run as what runs there does, with the same rights, in the same network. What cannot be tried has not
    held. The exit code is 1 unless all held.

    \b
    fleet sandbox prove gpu-01/claude
    """
    return _act("prove", place, file, as_json=as_json, break_glass=break_glass)


@sandbox.command("list")
@options.reads
def list_(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool) -> int:
    """List the sandboxes that hosts declare, and which of them are up.

    \b
    fleet sandbox list
    fleet sandbox list @gpu --json
    """
    from fleet.errors import FleetError, UnfitError
    from fleet.sandbox import list_json, list_lines

    inventory = session.open_inventory(file)
    hosts = session.choose_computers(inventory, selectors, everything=everything or not selectors)
    fleet = session.fleet(inventory, hosts)
    with session.asking("sandboxes", as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.sandboxes.list(*(host.name for host in hosts), on_wait=wait_for))
    if not selectors:  # most hosts have none, and nobody asked for these
        answers = {name: answer for name, answer in answers.items() if not isinstance(answer, UnfitError)}
    if as_json:
        click.echo(json.dumps(list_json(answers)))
    else:
        for line in list_lines(answers, is_terminal=sys.stdout.isatty()):
            click.echo(line)
        if not any(answers.values()):
            click.echo("no host has sandboxes: docs/sandbox.md", err=True)
        session.tell_errors(answers)
    return 1 if any(isinstance(answer, FleetError) for answer in answers.values()) else 0


@sandbox.command(context_settings={"ignore_unknown_options": True})
@PLACE
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options.file
@options.break_glass
def ssh(place: str, command: tuple[str, ...], file: Path | None, break_glass: str) -> int:
    """Open a shell in a sandbox that is up, or run COMMAND there, as what runs there does.

    \b
    fleet sandbox ssh gpu-01/claude
    fleet sandbox ssh gpu-01/claude -- git status
    """
    import subprocess

    from fleet import Fleet
    from fleet.cli.access import ssh_argv
    from fleet.inventory import Sudo
    from fleet.library.judging import Plea
    from fleet.machine.login import Logins
    from fleet.sandbox import PROGRAM

    inventory = session.open_inventory(file)
    host, name = _found(inventory, place)
    logins, plea = Logins(inventory.hosts), Plea(break_glass=break_glass)
    fleet = Fleet.of(inventory, logins)
    asyncio.run(fleet.require_act("exec", host.name, plea=plea, begins=True))
    session.tell_unentered(fleet)
    argv = [PROGRAM, "enter", name, *command]
    if logins.is_here(host):
        return subprocess.run(argv if _is_root() else ["sudo", *argv], check=False).returncode
    login = ssh_argv(inventory, host, user_of=lambda host: asyncio.run(logins.user(host)))
    becomes = argv if host.sudo is Sudo.NONE else ["sudo", *argv]
    terminal = ["-t"] if sys.stdin.isatty() else []
    return subprocess.run([*login[:1], *terminal, *login[1:], "--", shlex.join(becomes)], check=False).returncode


def _is_root() -> bool:
    import os

    return os.geteuid() == 0


def _found(inventory: Inventory, place: str) -> tuple[Host, str]:
    """Return the host and the name of the sandbox that `HOST/NAME` means. Raise `ConfigError` for anything else."""
    from fleet.errors import ConfigError
    from fleet.inventory.profiles import computers
    from fleet.sandbox import NAME

    name, slash, inside = place.rpartition("/")
    if not slash or not NAME.fullmatch(inside):
        raise ConfigError(
            f"{place}: is no sandbox", hint="write HOST/NAME; fleet sandbox list names those that there are"
        )
    (host,) = computers(inventory, [session.single_host(inventory, name)])
    if host.gate:
        message = f"{host.name}: its login runs the gate, which does nothing with sandboxes"
        raise ConfigError(message, hint="log in by another account, and call /etc/fleet/sandbox there")
    return host, inside


def _act(verb: Act, place: str, file: Path | None, *, as_json: bool, break_glass: str) -> int:
    from fleet.errors import FleetError
    from fleet.library.judging import Plea
    from fleet.sandbox import report_json, report_lines

    inventory = session.open_inventory(file)
    host, name = _found(inventory, place)
    fleet, plea = session.fleet(inventory, (host,)), Plea(break_glass=break_glass)
    with session.asking(WORDS[verb], as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.sandboxes.act(verb, name, host.name, on_wait=wait_for, plea=plea))
    answer = answers[host.name]
    if as_json:
        click.echo(json.dumps(report_json(answers, name)))
    elif not isinstance(answer, FleetError):
        for line in report_lines(f"{host.name}/{name}", answer, in_full=verb == "prove"):
            click.echo(line)
    session.tell_errors({} if as_json else answers)
    session.tell_unentered(fleet)
    return 0 if _is_well(verb, answer) else 1


def _is_well(verb: str, answer: Any) -> bool:
    from fleet.errors import FleetError

    if isinstance(answer, FleetError) or answer.holds is False:
        return False
    return answer.is_up if verb == "up" else True

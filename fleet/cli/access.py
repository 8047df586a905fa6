"""`fleet trust` and `fleet ssh`."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options, questions, session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.inventory import Host, Inventory
    from fleet.library.trusting import ShownKey


@click.command()
@options.everything
@options.selectors
@options.file
@click.option("--yes", "-y", is_flag=True, help="Do not ask: the fingerprints were compared some other way.")
def trust(selectors: tuple[str, ...], file: Path | None, *, everything: bool, yes: bool) -> int:
    """Show the keys that hosts answer with, ask once, and write them to fleet.toml.

    Compare each fingerprint with what the host itself shows, on its console:
    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

    \b
    fleet trust gpu-01
    fleet trust @prod
    """
    from fleet.errors import ConfigError
    from fleet.library.trusting import ShownKey, shown_keys, trust_keys
    from fleet.machine.login import Logins
    from fleet.output.format import counted

    inventory = session.open_inventory(file)
    hosts = session.choose_computers(inventory, selectors, everything=everything)
    given = session.given_to(inventory)
    with session.asking("host keys", as_json=False) as wait_for:
        answers = asyncio.run(shown_keys(Logins(inventory.hosts), hosts, given, on_wait=wait_for))
    keys = [answer for answer in answers.values() if isinstance(answer, ShownKey)]
    _show(keys)
    code = 1 if session.tell_errors(answers) else 0
    asked = [shown for shown in keys if not shown.is_trusted]
    if not asked:
        return code
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("there is no terminal to ask on", hint="compare the fingerprints, then say --yes")
        if not questions.confirmed(_question(asked)):
            click.echo(questions.UNTOUCHED, err=True)
            return 1
    if written := trust_keys(inventory.path, asked, given):
        click.echo(f"wrote host_key of {counted(written, 'host')} to {inventory.path}", err=True)
    return code


def _show(keys: Sequence[ShownKey]) -> None:
    """Print the keys as a table, each on one line: a fingerprint that is broken in two is hard to compare."""
    from fleet.output.table import table

    rows = [(shown.host.name, _places(shown.host), shown.fingerprint, shown.remarks) for shown in keys]
    if rows:
        click.echo(table(("host", "address", "fingerprint", "remarks"), rows), err=True)


def _places(host: Host) -> str:
    port = "" if host.port is None else f" port {host.port}"
    return f"{', '.join(host.address)}{port}"


def _question(asked: Sequence[ShownKey]) -> str:
    changed = [shown.host.name for shown in asked if shown.is_changed]
    if changed:
        from fleet.text import listed

        click.echo(f"{listed(changed)}: was it set up anew? If not, somebody else may be answering", err=True)
    if len(asked) == 1:
        return f"Is this the fingerprint that {asked[0].host.name} itself shows?"
    return f"Are these the fingerprints that the {len(asked)} hosts themselves show?"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="HOST", shell_complete=options.completes("host"))
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options.file
@options.break_glass
def ssh(name: str, command: tuple[str, ...], file: Path | None, break_glass: str) -> int:
    """Open a shell on HOST, or run COMMAND there, logging in as a deployment would.

    Where this machine is HOST it is a shell of your own, without SSH.

    \b
    fleet ssh gpu-01
    fleet ssh gpu-01 -- journalctl -f
    """
    import subprocess

    from fleet import Fleet
    from fleet.library.judging import Plea
    from fleet.machine.login import Logins

    inventory = session.open_inventory(file)
    host = session.single_host(inventory, name)
    if host.gate:
        from fleet.errors import ConfigError

        message = f"{host.name}: its login runs the gate, and no shell"
        raise ConfigError(
            message, hint="log in by another account, with ssh itself; fleet check names those that there are"
        )
    logins, plea = Logins(inventory.hosts), Plea(break_glass=break_glass)
    fleet = Fleet.of(inventory, logins)
    asyncio.run(fleet.require_act("exec", host.name, plea=plea, begins=True))
    session.tell_unentered(fleet)
    if logins.is_here(host):
        return _own_shell(host, command)
    argv = ssh_argv(inventory, host, user_of=lambda host: asyncio.run(logins.user(host)))
    try:
        return subprocess.run([*argv, "--", *command], check=False).returncode
    except FileNotFoundError:
        from fleet.errors import ConfigError

        raise ConfigError("there is no ssh on PATH", hint="install an OpenSSH client") from None


def _own_shell(host: Host, command: tuple[str, ...]) -> int:
    """Run the command, or a login shell, as a login by SSH would: in the home folder, by the shell of this user."""
    import pwd
    import subprocess

    account = pwd.getpwuid(os.getuid())
    shell = account.pw_shell or "/bin/sh"
    home = account.pw_dir if Path(account.pw_dir).is_dir() else "/"
    if not command:
        click.echo(f"{host.name} is this machine: a shell of {account.pw_name}", err=True)
    # Shells take a dash before their name for what `login` does.
    argv = [shell, "-c", " ".join(command)] if command else [f"-{Path(shell).name}"]
    return subprocess.run(argv, executable=shell, cwd=home, check=False).returncode


def ssh_argv(inventory: Inventory, host: Host, *, user_of: Callable[[Host], str]) -> list[str]:
    """Return OpenSSH's arguments for what fleet.toml says about the host, ending with its address.

    Raise `UnfitError` if it has none for other machines.
    """
    from fleet.inventory.local import remote_addresses
    from fleet.machine.recognition import not_here

    argv = ["ssh", "-l", user_of(host)]
    if host.port is not None:
        argv += ["-p", str(host.port)]
    if host.identity_file is not None:
        argv += ["-i", str(host.identity_file), "-o", "IdentitiesOnly=yes"]
    if host.host_key is not None:
        # %H is the name that ssh looks up, with the port if that is not 22.
        key = " ".join(host.host_key.split()[:2])  # without its comment, which a shell could interpret
        known = f"/bin/sh -c 'echo \"$0 {key}\"' %H"
        argv += ["-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=/dev/null"]
        argv += ["-o", f"KnownHostsCommand={known}"]
    if host.jump is not None:
        argv += _through(inventory, host.jump, user_of)
    addresses = remote_addresses(host)
    if not addresses:
        raise not_here(host)
    return [*argv, addresses[0]]


def _through(inventory: Inventory, jump: str, user_of: Callable[[Host], str]) -> list[str]:
    """Return the arguments that lead through the jump host.

    If that is a host of the inventory, it has its own key and identity, and perhaps a jump host.
    """
    from fleet.machine.recognition import is_here

    known = next((host for host in inventory.hosts.values() if host.name == jump), None)
    if known is None:
        return ["-J", jump]
    if is_here(known):
        return []
    *login, address = ssh_argv(inventory, known, user_of=user_of)
    command = shlex.join(login).replace("%", "%%")
    return ["-o", f"ProxyCommand={command} -W '[%h]:%p' {shlex.quote(address)}"]

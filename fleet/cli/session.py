"""What every command about hosts begins with: the inventory, the selection, and how to log in."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fleet import Fleet
    from fleet.inventory import Check, Host, Inventory
    from fleet.machine.given import GivenTo
    from fleet.machine.sudo import Secret
    from fleet.model import HostName
    from fleet.output import Display

PASSWORD_VARIABLE = "FLEET_SUDO_PASSWORD"
METRICS = 60.0
"""Seconds between two times that a command which goes on writes the metrics."""
_taken: list[str] = []
"""The sudo password that was in the environment, or that somebody has typed; empty if there was none so far."""


def open_inventory(file: Path | None) -> Inventory:
    """Return the inventory in the file, or in the nearest fleet.toml.

    Its secrets are not in the environment any more, so that nothing that runs from now on inherits them.
    """
    from fleet import inventory

    if file is None:
        file = nearest()
        if not file.exists():
            hint = "fleet init writes one; --file names one that is elsewhere"
            raise ConfigError(f"there is no fleet.toml in {Path.cwd()}, nor in a folder above it", hint=hint)
    found = inventory.load(file)
    if any(secret.env for host in found.hosts.values() for secret in host.secrets.values()):
        from fleet.steps.secret_values import take_environment

        take_environment(found)
    return found


def nearest() -> Path:
    """Return the fleet.toml here or in the nearest folder above; `fleet.toml` alone if there is none."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "fleet.toml").is_file():
            return folder / "fleet.toml"
    return Path("fleet.toml")


def choose(inventory: Inventory, selectors: Sequence[str], *, everything: bool) -> tuple[Host, ...]:
    """Return the hosts that a changing command is about. They have to be named, or `--all`."""
    from fleet import selector

    if everything and selectors:
        raise ConfigError("--all and a selector: give one of them")
    if not everything and not selectors:
        raise ConfigError("no hosts were named", hint="name hosts, @tags or kind:KIND, or say --all")
    return tuple(inventory.hosts.values()) if everything else selector.select(inventory, selectors)


def choose_computers(inventory: Inventory, selectors: Sequence[str], *, everything: bool) -> tuple[Host, ...]:
    """Return one host for each computer of those that `choose` returns."""
    from fleet.inventory.profiles import computers

    return computers(inventory, choose(inventory, selectors, everything=everything))


def single_host(inventory: Inventory, name: str) -> Host:
    """Return the one host that a selector means. Raise `ConfigError` if it means none or several."""
    from fleet import selector

    hosts = selector.select(inventory, [name])
    if len(hosts) != 1:
        raise ConfigError(f"{name}: names {len(hosts)} hosts, and this is for one")
    return hosts[0]


def choose_or_all(inventory: Inventory, selectors: Sequence[str], *, everything: bool = False) -> tuple[Host, ...]:
    """Return the hosts that a reading command is about: those that are named, or all."""
    return choose(inventory, selectors, everything=everything or not selectors)


def fleet(inventory: Inventory, hosts: Sequence[Host]) -> Fleet:
    """Return the fleet of the inventory. If one of these hosts needs a sudo password, ask for it once."""
    from fleet import Fleet
    from fleet.inventory import Sudo
    from fleet.machine.login import Logins

    asking = [host for host in hosts if host.sudo is Sudo.PASSWORD]
    secret = _sudo_password(asking) if asking else None
    passwords = {host.name: secret for host in asking if secret is not None}
    return Fleet.of(inventory, Logins(inventory.hosts, passwords, given_to(inventory), tell=_tell))


def given_to(inventory: Inventory) -> GivenTo:
    """Return what remembers the hosts of the inventory that have had the sudo password."""
    from fleet.files import state_folder
    from fleet.machine.given import GIVEN, GivenTo

    return GivenTo(state_folder(inventory.name) / GIVEN)


def _tell(host: HostName, text: str) -> None:
    """Say on stderr at once what a host wants of people before it lets us in."""
    import click

    click.echo(f"{host}: {text}", err=True)


def has_password() -> bool:
    """Whether the environment, or somebody, has given the sudo password."""
    return bool(_taken)


def given_password() -> str | None:
    """Return the sudo password that was given; None if none was."""
    return _taken[0] if _taken else None


def take_password() -> None:
    """Take the sudo password out of the environment: Nix, git, ssh and its helpers must not inherit it."""
    if PASSWORD_VARIABLE in os.environ:
        _taken[:] = [os.environ.pop(PASSWORD_VARIABLE)]


def _sudo_password(asking: Sequence[Host]) -> Secret:
    import click

    from fleet.machine.sudo import Secret

    if _taken:
        return Secret(_taken[0])  # and once more where a command opens the fleet anew
    names = ", ".join(host.name for host in asking)
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{names}: sudo needs a password, and there is no terminal to ask on", hint=f"set {PASSWORD_VARIABLE}"
        )
    _taken[:] = [click.prompt(f"sudo password for {names}", hide_input=True, err=True)]
    return Secret(_taken[0])


@contextlib.contextmanager
def display(
    *,
    as_json: bool = False,
    verbose: bool = False,
    checks: Mapping[HostName, Iterable[Check]] | None = None,
    moves: bool = True,
) -> Iterator[Display]:
    """Open the display that every command shows its progress on, and says with what is waited for, while inside.

    With `as_json` people are shown nothing. `checks` are those that decide about each host. One that `moves` needs a
    terminal for itself: where there may be several at a time, none does.
    """
    from fleet.output import is_capable, open_display

    limits = {(host, check.name): check.within for host, those in (checks or {}).items() for check in those}
    with open_display(
        json=as_json,
        stdout=sys.stdout,
        stderr=sys.stderr,
        is_terminal=moves and is_capable(sys.stderr),
        is_verbose=verbose,
        within=lambda host, check: limits.get((host, check)),
    ) as opened:
        yield opened


@contextlib.contextmanager
def asking(words: str, *, as_json: bool) -> Iterator[Callable[[Sequence[HostName]], None]]:
    """Show what hosts are asked, while inside. Takes the names of those that have not answered yet."""
    with display(as_json=as_json) as shown:
        yield lambda left: shown.wait_for(words, hosts=left)


async def keep_metrics(fleet: Fleet) -> None:
    """Write the metrics now and every minute, without an end. Say why they cannot be written, once."""
    import asyncio  # completion has no use for it, and is to be quick

    told = ""
    while True:
        trouble = await fleet.write_metrics()
        if trouble and trouble != told:
            warn(trouble)
        told = trouble
        await asyncio.sleep(METRICS)


def warn(text: str) -> None:
    """Say on stderr what went wrong and changes nothing else."""
    import click

    with contextlib.suppress(OSError):  # stderr may be gone
        click.echo(f"warning: {text}", err=True)


def tell_unread(fleet: Fleet) -> None:
    """Print to stderr why the state could not be read, if runs were asked for and it could not."""
    if fleet.unread is not None:
        import click

        click.echo(f"warning: {fleet.unread.message}; this is what this machine knows by itself", err=True)
        if fleet.unread.hint:
            click.echo(f"  {fleet.unread.hint}", err=True)


def tell_unentered(fleet: Fleet) -> None:
    """Print to stderr what was done and is not in the ledger."""
    for line in dict.fromkeys(fleet.unentered):
        warn(line)


def tell_errors(answers: Mapping[HostName, object]) -> bool:
    """Print the error of each host that could not be asked to stderr. Return whether there were any."""
    import click

    from fleet.errors import FleetError
    from fleet.output.format import failure_lines

    failed = {name: answer for name, answer in answers.items() if isinstance(answer, FleetError)}
    for name, error in failed.items():
        click.echo("\n".join(failure_lines([name], error.failure())), err=True)
    return bool(failed)

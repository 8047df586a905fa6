"""`fleet install`: NixOS on a machine for the first time, and the first deployment."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, questions, session

if TYPE_CHECKING:
    from fleet.inventory import Host, Inventory
    from fleet.library.installing import Site

PATH = click.Path(path_type=Path)
FAILED = 3
"""The exit code when nixos-anywhere fails: that of a build which fails."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="HOST")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENT...]")
@click.option(
    "--at", "address", metavar="ADDRESS", help="Where the machine is now. Default: its address in fleet.toml."
)
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="Where its SSH server listens now.")
@click.option("--user", default="root", show_default=True, metavar="USER", help="Who logs in there now.")
@click.option(
    "--host-key", type=PATH, metavar="FILE", help="The private key that the host shall have. Default: a new one."
)
@click.option("--extra-files", type=PATH, metavar="FOLDER", help="What else the host gets below its root.")
@click.option(
    "--disk-key",
    "disk_keys",
    multiple=True,
    metavar="PATH=FILE",
    help="The key of an encrypted disk, from a file here.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask, and erase the disks.")
@options.file
@options.verbose
def install(name: str, more: tuple[str, ...], file: Path | None, *, yes: bool, verbose: bool, **asked: Any) -> int:
    """Erase the disks of a machine, install NixOS there by nixos-anywhere, and deploy for the first time.

    The configuration of the host says how its disks are divided, by disko. The host gets a key, which fleet.toml has
    then; nobody has to trust what answers first. What stands after -- goes to nixos-anywhere.

    nixos-anywhere does not check which machine answers at the address, and gives it that key: install where nobody
    else can answer.

    \b
    fleet install web-1 --at 203.0.113.7
    fleet install web-1 --disk-key /tmp/disk.key=disk.key -- --phases kexec,disko,install
    """
    from fleet.library import installing

    inventory = session.open_inventory(file)
    host = session.single_host(inventory, name)
    # With the host: where nobody can give its sudo password, that is said before its disks are erased.
    asyncio.run(session.fleet(inventory, [host]).require_act("deploy", host.name))
    site = _site(host, more, asked)
    installing.require_installable(inventory, host, site)
    if not yes and not _is_agreed(host, site):
        click.echo(questions.UNTOUCHED, err=True)
        return 1
    if status := _install(inventory, host, site):
        click.echo(f"error: {host.name}: nixos-anywhere ended with exit status {status}", err=True)
        return FAILED
    return _prove(inventory.path, host.name, verbose=verbose)


def _site(host: Host, more: tuple[str, ...], asked: dict[str, Any]) -> Site:
    """Return what was asked for. Raise `ConfigError` for what cannot be."""
    from fleet.errors import ConfigError
    from fleet.inventory import values
    from fleet.library.installing import Site, site_of

    pairs = []
    for text in asked["disk_keys"]:
        there, equals, here = text.partition("=")
        if not equals or not there.startswith("/") or not Path(here).is_file():
            raise ConfigError(f"--disk-key {text}: expected PATH=FILE, an absolute path there and a file here")
        pairs.append((there, Path(here)))
    key_file, extra = asked["host_key"], asked["extra_files"]
    if key_file is not None and not key_file.is_file():
        raise ConfigError(f"--host-key {key_file}: there is no such file")
    if extra is not None and not extra.is_dir():
        raise ConfigError(f"--extra-files {extra}: there is no such folder")
    try:
        address, user = values.address(site_of(host, asked["address"])), values.user(asked["user"])
    except ValueError as error:
        raise ConfigError(f"--at or --user: {error}") from None
    return Site(
        address=address,
        user=user,
        port=asked["port"],
        key_file=key_file,
        extra_files=extra,
        disk_keys=tuple(pairs),
        more=more,
    )


def _is_agreed(host: Host, site: Site) -> bool:
    """Let a person type the name of the host. Raise `ConfigError` where nobody can."""
    from fleet.errors import ConfigError

    if not sys.stdin.isatty():
        raise ConfigError(
            "disks would be erased, and there is no terminal to ask on", hint="say --yes if that is meant"
        )
    click.echo(f"This erases the disks of the machine at {site.address}, which becomes {host.name}.", err=True)
    questions.forget_typed()
    return bool(
        click.prompt("Type the name of the host to go on", default="", show_default=False, err=True) == host.name
    )


def _install(inventory: Inventory, host: Host, site: Site) -> int:
    """Run nixos-anywhere, and write the key to fleet.toml if that has succeeded. Return its exit status."""
    from fleet.library import installing
    from fleet.library.tools import LocalNix

    with installing.handed_files(site) as root:
        public = asyncio.run(installing.hand_key(LocalNix(inventory.nix_options), site, host, root))
        status = subprocess.run(installing.argv(inventory, host, site, root), check=False).returncode
    if status == 0:
        installing.remember_key(inventory, host, public)
    return status


def _prove(file: Path, name: str, *, verbose: bool) -> int:
    """Wait for the host, deploy to it, and ask its checks. Return the exit code."""
    from fleet.cli.changing import change
    from fleet.cli.interrupts import hear_again
    from fleet.cli.look import ask_health
    from fleet.cli.questions import Consent
    from fleet.deploy.options import Options
    from fleet.library.installing import wait_for_host

    inventory = session.open_inventory(file)
    hosts = session.choose(inventory, [name], everything=False)
    with session.display(verbose=verbose) as output:
        output.wait_for("boot", hosts=[hosts[0].name])
        asyncio.run(wait_for_host(session.fleet(inventory, hosts), hosts[0], patience=hosts[0].boot_timeout))
    asked = Options(intent="first installation")
    code = change(asked, [name], everything=False, file=file, as_json=False, verbose=verbose, consent=Consent(yes=True))
    hear_again()
    return code or ask_health(inventory, hosts, as_json=False)

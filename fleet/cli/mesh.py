"""`fleet mesh`: the WireGuard mesh between the hosts of a fleet."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import click

from fleet.cli import options, questions, session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.library.meshing import MeshKey
    from fleet.model import HostName


@click.group()
def mesh() -> None:
    """Hosts reach each other by WireGuard, with keys that never leave them. They declare that: docs/mesh.md.

    \b
    fleet mesh keys --all
    fleet mesh show
    """


@mesh.command()
@options.everything
@options.selectors
@options.file
@click.option("--yes", "-y", is_flag=True, help="Do not ask before mesh.toml is written.")
def keys(selectors: tuple[str, ...], file: Path | None, *, everything: bool, yes: bool) -> int:
    """Ask hosts for their public keys, show what changes, ask once, and write mesh.toml beside fleet.toml.

    Hosts make their keys by themselves, and no private key is read. Entries without a host in fleet.toml are taken out.

    \b
    fleet mesh keys web-1
    fleet mesh keys --all
    """
    from fleet.cli.signing import with_id
    from fleet.errors import ConfigError
    from fleet.inventory.mesh import load_mesh, mesh_file, prefix_of, require_prefix
    from fleet.library.meshing import MeshKey, mesh_keys, stale, write
    from fleet.machine.login import Logins
    from fleet.output.format import counted

    inventory = session.open_inventory(file)
    hosts = session.choose_computers(inventory, selectors, everything=everything)
    path = mesh_file(inventory.path)
    before = load_mesh(path)
    if before is not None and inventory.id:
        require_prefix(path, before, prefix_of(inventory.id))
    with session.asking("mesh keys", as_json=False) as wait_for:
        answers = asyncio.run(mesh_keys(Logins(inventory.hosts), inventory, hosts, before, on_wait=wait_for))
    found = [answer for answer in answers.values() if isinstance(answer, MeshKey)]
    gone = stale(inventory, before)
    _show(found, gone)
    code = 1 if session.tell_errors(answers) else 0
    asked = [each for each in found if not each.is_known]
    if not asked and not gone:
        return code
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("there is no terminal to ask on", hint="say --yes if mesh.toml is to be written")
        if not questions.confirmed(f"Write this to {path}?"):
            click.echo(questions.UNTOUCHED, err=True)
            return 1
    written = write(with_id(inventory), asked, gone)
    click.echo(f"{path} has {counted(len(written.hosts), 'host')}: commit it, then deploy to all of them", err=True)
    return code


def _show(found: Sequence[MeshKey], gone: Sequence[HostName]) -> None:
    """Print what changes as a table."""
    from fleet.output.table import table

    rows = [(each.name, each.key, each.remark) for each in found]
    rows += [(name, "-", "REMOVED: it is no host of fleet.toml") for name in gone]
    if rows:
        click.echo(table(("host", "public key", "remarks"), rows), err=True)


@mesh.command()
@options.file
@options.as_json
def show(file: Path | None, *, as_json: bool) -> int:
    """Show who is in the mesh, by mesh.toml. No host is contacted.

    \b
    fleet mesh show
    fleet mesh show --json
    """
    from fleet.errors import ConfigError
    from fleet.inventory.mesh import load_mesh, mesh_file
    from fleet.library.meshing import document
    from fleet.output.table import table

    inventory = session.open_inventory(file)
    path = mesh_file(inventory.path)
    found = load_mesh(path)
    if found is None:
        raise ConfigError(f"{path}: there is no such file", hint="fleet mesh keys --all writes it: docs/mesh.md")
    shown = document(inventory, found)
    if as_json:
        click.echo(json.dumps(shown))
        return 0
    rows = [
        (one["name"], one["address"], one["endpoint"] or "-", one["public_key"], "no host" if one["is_stale"] else "")
        for one in shown["hosts"]
    ]
    click.echo(table(("host", "address", "endpoint", "public key", ""), rows, is_terminal=sys.stdout.isatty()))
    if not shown["is_member"]:
        click.echo("this machine is not in the mesh, and reaches hosts by their other addresses", err=True)
    return 0

"""`fleet rehearse`: bring what a host would get up on a disposable host first."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session
from fleet.cli.reporting import Reporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet import Fleet, Stop
    from fleet.inventory import Host, Inventory
    from fleet.lab import Lab
    from fleet.library.rehearsing import Scene
    from fleet.model import Closure
    from fleet.output import Display


@click.command(cls=Reporting)
@click.argument("name", metavar="HOST", shell_complete=options.completes("host"))
@options.closure
@options.no_eval_cache
@click.option("--keep", is_flag=True, help="Leave the disposable host, to look at it.")
@options.verbose
@options.as_json
@options.file
def rehearse(
    name: str,
    closure: Closure | None,
    file: Path | None,
    *,
    no_eval_cache: bool,
    keep: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Bring what HOST would get up on a disposable host of a lab, with the checks of HOST, and say what came of it.

    HOST is not contacted. The disposable host reaches nothing but itself. The exit code is that of the deployment.

    \b
    fleet rehearse web-1
    fleet rehearse web-1 --keep
    """
    from fleet.cli.changing import carry_out

    inventory = session.open_inventory(file)
    host = session.single_host(inventory, name)
    wanted = _wanted(inventory, host, closure, eval_cache=not no_eval_cache, verbose=verbose)
    with _stage(host, keep=keep) as scene:

        async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
            from fleet.cli.changing import plan_and_apply
            from fleet.deploy.options import Options

            return await plan_and_apply(fleet, output, stop, [scene.host], Options(closure=wanted), asks=False)

        fleet = session.fleet(scene.inventory, [scene.host])
        checks = {scene.host.name: scene.host.checks}
        code = carry_out(fleet, act, as_json=as_json, verbose=verbose, checks=checks)
    for line in scene.left_out:
        click.echo(f"not rehearsed: {line}", err=True)
    click.echo(f"{host.name}: " + _verdict(scene, code), err=True)
    return code


def _verdict(scene: Scene, code: int) -> str:
    from fleet.output.format import counted

    asked = len(scene.host.checks)
    checks = f"{counted(asked, 'check')} passed" if asked else "no check was asked"
    return f"came up in the lab, {checks}" if code == 0 else "did not come up in the lab; the host itself is as it was"


def _wanted(inventory: Inventory, host: Host, closure: Closure | None, *, eval_cache: bool, verbose: bool) -> Closure:
    """Return the closure that the host would get, built here."""
    from fleet.lab import engine
    from fleet.library.rehearsing import require_rehearsable

    require_rehearsable(host, engine.connect().system)
    if closure is not None:
        return closure
    with session.display(verbose=verbose) as output:
        output.wait_for(f"evaluate and build {host.name}")
        built = asyncio.run(session.fleet(inventory, ()).build(host.name, eval_cache=eval_cache, on_event=output.show))
    return built[host.name]


@contextlib.contextmanager
def _stage(host: Host, *, keep: bool) -> Iterator[Scene]:
    """Make a lab with a host that stands for this one, while inside; with `keep` it stays."""
    from fleet import inventory as inventories
    from fleet.lab import Lab, faults
    from fleet.library.rehearsing import scene

    folder = Path(tempfile.mkdtemp(prefix="fleet-rehearsal-"))
    lab: Lab | None = None
    try:
        with session.display() as output:
            output.wait_for("make a disposable host")
            lab = Lab.find(folder)
            Lab.up(folder, [str(host.name)], say=output.wait_for)
            faults.isolate(lab.any_host(host.name))
        yield scene(host, inventories.load(lab.folder.inventory))
    finally:
        if keep:
            click.echo(f"the lab stays: fleet lab down --dir {folder} removes it", err=True)
        else:
            if lab is not None:
                lab.down()
            shutil.rmtree(folder, ignore_errors=True)

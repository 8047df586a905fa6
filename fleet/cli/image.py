"""`fleet image`: container images of hosts and packages, made without Docker."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from fleet.images import Image
    from fleet.images.loading import Loaded
    from fleet.inventory import Inventory
    from fleet.library.imaging import Wish
    from fleet.model import HostName

    Command = Any


@click.group()
def image() -> None:
    """Container images of hosts or packages: OCI, without Docker, and the same bytes each time.

    WHAT is a host of fleet.toml, a package of its flake, or a store path.

    \b
    fleet image build web-1 -o web-1.tar
    fleet image load hello --on gpu-01
    """


def _made_of(command: Command) -> Command:
    """Add what says what an image is made of."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
        options.file,
        click.option(
            "--layers",
            "most_layers",
            type=click.IntRange(2, 125),
            default=100,
            show_default=True,
            metavar="N",
            help="The most layers.",
        ),
        click.option("--system", default="", metavar="SYSTEM", help="What a store path is for.  [default: this one]"),
        click.option(
            "--program", default="", metavar="PROGRAM", help="What a container runs, in bin or by its path in WHAT."
        ),
        click.argument("what", metavar="WHAT", shell_complete=options.completes("host")),
    ):
        command = option(command)
    return command


@image.command()
@_made_of
@click.option(
    "-o",
    "--output",
    type=options.output_file,
    metavar="FILE",
    help="Where to write it.  [default: NAME.tar here]",
)
def build(file: Path | None, output: Path | None, *, as_json: bool, **wish: Any) -> int:
    """Write an image to one file, which is an OCI layout and what docker load and podman load take.

    A host boots in its container by its own init; a package runs its program.

    \b
    fleet image build web-1
    fleet image build hello --program hello -o hello.tar
    """
    inventory = session.open_inventory(file)
    wanted = _wish(wish)
    target = output or Path(f"{_file_name(wanted.what)}.tar")
    made = _build(inventory, wanted, target, as_json=as_json)
    if as_json:
        click.echo(json.dumps({"file": str(target), **dataclasses.asdict(made)}))
    else:
        click.echo(f"{target}: {_told(made)}")
    return 0


@image.command()
@_made_of
@options.break_glass
@click.option("--on", "host", metavar="HOST", help="The host whose engine gets it.  [default: this machine]")
@click.option("--engine", type=click.Choice(["docker", "podman"]), help="Default: the one that is there.")
def load(
    file: Path | None, host: str | None, engine: str | None, break_glass: str, *, as_json: bool, **wish: Any
) -> int:
    """Make an image and bring it to Docker or podman, here or on a host. What is there already is not sent again.

    \b
    fleet image load hello
    fleet image load web-1 --on gpu-01
    """
    inventory = session.open_inventory(file)
    on = session.single_host(inventory, host).name if host else None
    with tempfile.TemporaryDirectory(prefix="fleet-image-") as folder:
        target = Path(folder) / "image.tar"
        made = _build(inventory, _wish(wish), target, as_json=as_json)
        done = _load(inventory, made, target, on, engine or "", break_glass, as_json=as_json)
    if as_json:
        click.echo(json.dumps({"host": on, **dataclasses.asdict(made), **dataclasses.asdict(done)}))
    else:
        how = "has it already" if done.was_there else "has it now"
        click.echo(
            f"{_told(made)}\n{on or 'this machine'}: {done.engine} {how}; {done.engine} run --rm {made.reference}"
        )
    return 0


def _wish(asked: dict[str, Any]) -> Wish:
    from fleet.library.imaging import Wish

    return Wish(**asked)


def _file_name(what: str) -> str:
    return Path(what).name.lstrip(".") or "image"


def _build(inventory: Inventory, wish: Wish, target: Path, *, as_json: bool) -> Image:
    with session.display(as_json=as_json) as output:
        output.wait_for(f"make the image of {wish.what}")
        return asyncio.run(session.fleet(inventory, ()).images.build(wish, target, on_event=output.show))


def _load(
    inventory: Inventory,
    made: Image,
    target: Path,
    on: HostName | None,
    engine: str,
    break_glass: str,
    *,
    as_json: bool,
) -> Loaded:
    from fleet.library.judging import Plea
    from fleet.output.format import human_bytes

    hosts = (inventory.hosts[on],) if on else ()
    fleet = session.fleet(inventory, hosts)
    with session.display(as_json=as_json) as output:
        output.wait_for(f"load the image, {human_bytes(made.size)}", hosts=[on] if on else ())
        plea = Plea(break_glass=break_glass)
        return asyncio.run(fleet.images.load(made, target, on=on, engine=engine, plea=plea))


def _told(made: Image) -> str:
    from fleet.output.format import counted, human_bytes

    parts = f"{counted(made.paths, 'path')} in {counted(made.layers, 'layer')}, {human_bytes(made.size)}"
    return f"{made.reference}, {parts}, {made.digest}"

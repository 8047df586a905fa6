"""`fleet init`: write a first fleet.toml for the hosts that a flake or a file configures."""

from __future__ import annotations

from pathlib import Path

import click

from fleet.cli import session


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(),
    help="The folder of the flake. Default: this one.",
)
@click.option("--name", help="The name of the fleet. Default: the folder's name.")
@click.option(
    "--expression",
    metavar="FILE",
    help="The file with the systems, where no flake has them. Default: default.nix, if there is no flake.nix.",
)
def init(folder: Path, name: str | None, expression: str | None) -> None:
    """Write a fleet.toml for the hosts that are configured already.

    From nixosConfigurations, colmena's colmenaHive and deploy-rs's deploy.nodes of the flake.nix here, or from the
    attribute set of systems in default.nix. What is only likely is in comments; so are hosts that do not evaluate, with
    the reason. Nothing else is changed, and no host is contacted.

    \b
    cd my-flake && fleet init
    """
    import asyncio

    from fleet.library.adopting import adopt
    from fleet.machine.local import LocalMachine
    from fleet.output.format import counted, one_line

    with session.display() as output:
        output.wait_for("Nix evaluates what is configured")
        adopted = asyncio.run(adopt(LocalMachine(), folder, name=name, expression=expression))
    for host, reason in adopted.left_out.items():
        click.echo(one_line(f"left out: {host}: {reason}"), err=True)
    if adopted.unseen:
        click.echo(one_line(f"  hint:  {adopted.unseen}"), err=True)
    for image in adopted.ignored:
        click.echo(one_line(f"ignored: {image}: makes an image or a virtual machine, and is no host"), err=True)
    click.echo("no check is declared yet: hosts count as healthy where no unit fails and people can log in", err=True)
    add = f"git add {adopted.path} && " if adopted.is_in_git else ""
    hosts = counted(len(adopted.hosts), "host")
    click.echo(f"wrote {adopted.path} with {hosts}; read it, then: {add}fleet check", err=True)

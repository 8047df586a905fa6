"""`fleet lab`: a disposable fleet, to try things and to rehearse on."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab


def _meant(_context: click.Context, _parameter: click.Parameter, given: Path | None) -> Path:
    """Return the folder of the lab: the given one, otherwise this one if it is a lab, otherwise `lab`."""
    from fleet.lab.folder import Folder

    return given or (Path() if Folder(Path()).is_lab else Path("lab"))


_folder = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    callback=_meant,
    help="The folder of the lab.  [default: this one if it is a lab, else lab]",
)


@click.group()
def lab() -> None:
    """Disposable hosts in containers or VMs, to try things and to rehearse on.

    \b
    fleet lab up && cd lab && fleet deploy --all
    fleet lab up --vm vm-01
    fleet lab power gpu-01 off
    fleet lab cut gpu-01; fleet lab restore gpu-01
    fleet lab down
    """


@lab.command()
@_folder
@click.option("--hosts", metavar="NAME,NAME…", default="", help="Default: laptop,gpu-01,pi-edge.")
@click.option("--vm", "vms", metavar="NAME,NAME…", default="", help="Hosts with a kernel and boot loader of their own.")
def up(folder: Path, hosts: str, vms: str) -> None:
    """Boot the hosts, and write a fleet.toml and a flake for them."""
    from fleet.lab import Lab

    with session.display() as output:

        def say(text: str) -> None:
            output.say(text)
            output.wait_for(text)

        output.wait_for("look for Docker")
        Lab.up(folder, _names(hosts), vms=_names(vms), say=say)
    _say("the lab is up; " + ("" if folder == Path() else f"cd {folder} && ") + "fleet deploy --all")


@lab.command()
@_folder
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def status(folder: Path, *, as_json: bool) -> None:
    """List the hosts of the lab."""
    lab = _lab(folder)
    if as_json:
        rows: list[dict[str, object]] = [
            {"name": host.name, "container": host.container.name, "port": host.port} for host in lab.hosts
        ]
        rows += [{"name": vm.name, "process": vm.process, "port": vm.port} for vm in lab.vms]
        click.echo(json.dumps({"hosts": rows}))
        return
    for host in lab.hosts:
        click.echo(f"{host.name:16} {'on' if host.is_on else 'off':4} 127.0.0.1:{host.port}  {host.container.name}")
    for vm in lab.vms:
        where = f"VM, process {vm.process}" if vm.is_on else "VM"
        click.echo(f"{vm.name:16} {'on' if vm.is_on else 'off':4} 127.0.0.1:{vm.port}  {where}")


@lab.command()
@_folder
def down(folder: Path) -> None:
    """Remove the hosts, and all that `up` wrote. Files that you edited stay."""
    lab = _lab(folder)
    with _working("remove the hosts"):
        kept = lab.down()
    _say(f"the lab in {lab.folder.path} is gone")
    if kept:
        _say(f"kept, since you wrote or edited them: {', '.join(kept)}")


@lab.command()
@_folder
@click.argument("host")
@click.argument("state", type=click.Choice(["on", "off"]))
def power(folder: Path, host: str, state: str) -> None:
    """Cut the power of HOST, or switch it on and wait until it answers."""
    target = _lab(folder).any_host(host)
    if state == "off":
        with _working(f"cut the power of {host}"):
            target.power_off()
        _say(f"{host}: off")
    else:
        with _working(f"{host} boots"):
            said = target.power_on()
        _say(f"{host}: {said}, 127.0.0.1:{target.port}")


@lab.command()
@_folder
@click.argument("host")
@click.option("--new-only", is_flag=True, help="Connections that stand live on; no new one is let in.")
def cut(folder: Path, host: str, *, new_only: bool) -> None:
    """Cut HOST off the network, until it is restored or its power is cut."""
    from fleet.lab import faults

    with _working(f"cut {host} off"):
        faults.cut(_lab(folder).any_host(host), new_only=new_only)
    _say(f"{host}: " + ("lets no new connection in" if new_only else "cut off the network"))


@lab.command()
@_folder
@click.argument("host")
@click.argument("what", type=click.Choice(["/nix", "/boot"]), default="/nix")
@click.option("--prepare", is_flag=True, help="Give it a disk of its own, and leave that empty.")
def fill(folder: Path, host: str, what: str, *, prepare: bool) -> None:
    """Fill /nix or /boot of HOST, until it is restored.

    It gets a small disk of its own first, so that this machine's disk stays as it is. Do that beforehand (--prepare)
    to fill it in the middle of a deployment.
    """
    from fleet.lab import faults

    target = _lab(folder).any_host(host)
    with _working(f"{'prepare' if prepare else 'fill'} {what} of {host}"):
        if prepare:
            faults.give_disk(target, what)
        else:
            faults.fill(target, what)
    _say(f"{host}: {what} " + ("has a disk of its own" if prepare else "is full"))


@lab.command()
@_folder
@click.argument("host")
def restore(folder: Path, host: str) -> None:
    """Undo every fault of HOST: it has power, network and space."""
    from fleet.lab import faults

    with _working(f"restore {host}"):
        faults.restore(_lab(folder).any_host(host))
    _say(f"{host}: restored")


@lab.command()
@_folder
@click.argument("host")
@click.option("--rate", default="10mbit", show_default=True, metavar="RATE", help="Each way.")
@click.option("--delay", default="25ms", show_default=True, metavar="TIME", help="Each way.")
def slow(folder: Path, host: str, rate: str, delay: str) -> None:
    """Put a slow link before HOST, for as long as this runs.

    fleet.toml leads over it; Ctrl-C ends it.
    """
    import signal

    from fleet.lab import faults

    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    link = faults.slow(_lab(folder), host, rate=rate, delay=delay)
    with link as port, contextlib.suppress(KeyboardInterrupt):
        _say(f"{host}: 127.0.0.1:{port}, {rate}, {delay}; Ctrl-C ends it")
        signal.pause()
    _say(f"{host}: its own link again")


@contextlib.contextmanager
def _working(words: str) -> Iterator[None]:
    """Say what is done, where it takes long."""
    with session.display() as output:
        output.wait_for(words)
        yield


def _lab(folder: Path) -> Lab:
    from fleet.lab import Lab

    return Lab.existing(folder)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _say(text: str) -> None:
    click.echo(text, err=True)

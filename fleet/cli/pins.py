"""`fleet pins`: what flakes are pinned to, what hosts end with, and one pin updated with a canary."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session
from fleet.cli.reporting import Reporting, end_without_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet import Fleet, Stop
    from fleet.events import Envelope
    from fleet.inventory import Host, Inventory
    from fleet.library.pinning import Pinned, Update
    from fleet.output import Display


@click.group(invoke_without_command=True)
@options.file
@options.as_json
@click.pass_context
def pins(ctx: click.Context, file: Path | None, *, as_json: bool) -> int:
    """Tell what the flakes are pinned to, and which nixpkgs, kernel, driver and CUDA each host ends with.

    No host is contacted and nothing is built. An age is that of the commit.

    \b
    fleet pins
    fleet pins check
    fleet pins update nixpkgs --canary web-1
    """
    if ctx.invoked_subcommand is not None:
        return 0
    from fleet.library.pinning import document

    inventory = session.open_inventory(file)
    pinned = _look(inventory, tuple(inventory.hosts.values()), as_json=as_json)
    if as_json:
        click.echo(json.dumps(document(pinned)))
    else:
        click.echo("\n".join(_lines(pinned, is_terminal=sys.stdout.isatty())))
        session.tell_errors(pinned.failed)
    return 3 if pinned.failed else 0


@pins.command()
@options.reads
def check(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool) -> int:
    """Check that every input is locked and can be had elsewhere, and that hosts go together.

    Hosts of one kind should be made of one nixpkgs, and end with the NVIDIA driver that their checks want. The exit
    code is 1 if something is wrong; notes do not count.

    \b
    fleet pins check
    fleet pins check @gpu --json
    """
    from fleet.library.pinning import document
    from fleet.model import Severity
    from fleet.output.format import finding_lines

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    pinned = _look(inventory, hosts, as_json=as_json)
    if as_json:
        click.echo(json.dumps(document(pinned)))
    else:
        click.echo("\n".join(finding_lines(pinned.findings)) or "Everything is locked, and all hosts go together.")
        session.tell_errors(pinned.failed)
    if pinned.failed:
        return 3
    return 1 if any(finding.severity is Severity.ERROR for finding in pinned.findings) else 0


@pins.command(cls=Reporting)
@click.argument("name", metavar="INPUT")
@options.selectors
@click.option("--canary", required=True, metavar="HOST", help="The host that gets it first, and has to be proven.")
@click.option(
    "--soak", metavar="TIME", default="0s", help="For how long the canary is watched before the others begin (10m)."
)
@options.file
@options.verbose
@options.as_json
@options.ask
@options.yes
@options.reboots
@options.intent
def update(name: str, selectors: tuple[str, ...], canary: str, soak: str, file: Path | None, **asked: Any) -> int:
    """Update one input of the flake, deploy to a canary first, and to the others once it is proven.

    The others are those that the selectors name, by default all hosts of the same flake; they go in their waves. If no
    host keeps the new system, flake.lock is what it was before. If one does it stays updated, to be committed.

    \b
    fleet pins update nixpkgs --canary web-1
    fleet pins update nixpkgs @web --canary web-1 --soak 10m --yes
    """
    from fleet.cli.questions import Consent
    from fleet.deploy.options import Options

    inventory = session.open_inventory(file)
    first, hosts = _chosen(inventory, canary, selectors)
    consent = Consent(yes=asked.pop("yes"), ask=asked.pop("ask"))
    consent.require_terminal(len(hosts))
    options.seconds("--soak", soak)  # a duration that is none is refused before anything is done
    wanted = Options(**options.asked_reboot(asked), intent=asked.pop("intent") or f"update {name}")
    ordered = _canary_first(inventory, first, soak)
    with session.display(as_json=asked["as_json"]) as output:
        output.wait_for(f"update {name}")
        updated = _updated(inventory, first, name)
    old, new = updated.old, updated.new
    if updated.after == updated.before:
        click.echo(f"{name} is {_commit(old)} already: there is nothing newer.", err=True)
        if asked["as_json"]:
            end_without_run()
        return 0
    click.echo(f"{name}: {_commit(old)} -> {_commit(new)}", err=True)
    keepers = _Keepers()

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        from fleet.cli.changing import plan_and_apply

        output = dataclasses.replace(output, lines=keepers.tapped(output))
        return await plan_and_apply(fleet, output, stop, hosts, wanted, asks=consent.is_asked_for(len(hosts)))

    return _deployed(ordered, hosts, act, updated, keepers, **asked)


def _deployed(
    inventory: Inventory, hosts: Sequence[Host], act: Any, updated: Update, keepers: _Keepers, **shown: bool
) -> int:
    """Deploy, and put the lock file back if no host has what it names now."""
    from fleet.cli.changing import carry_out

    code = 1
    try:
        checks = {host.name: host.checks for host in hosts}
        code = carry_out(session.fleet(inventory, hosts), act, checks=checks, **shown)
    finally:
        if code == 0 or keepers.names:
            click.echo(f"{updated.file} is updated: look at the difference, and commit it.", err=True)
        elif updated.put_back():
            click.echo(f"{updated.file} is as it was before: no host has the update.", err=True)
        else:
            click.echo(f"{updated.file} was changed by somebody else meanwhile, and stays as it is.", err=True)
    return code


class _Keepers:
    """The hosts that have, or may have, what a run brought them."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def tapped(self, output: Display) -> Any:
        """Return what writes the lines of a display, and takes note of the results among them."""
        from fleet.events import RunFinished
        from fleet.model import Outcome

        def write(envelope: Envelope) -> None:
            if isinstance(envelope.event, RunFinished):
                may_have = (Outcome.KEPT, Outcome.STAGED, Outcome.NEEDS_HUMAN)
                self.names = [host.host for host in envelope.event.hosts if host.outcome in may_have]
            output.lines(envelope)

        return write


def _chosen(inventory: Inventory, canary: str, selectors: Sequence[str]) -> tuple[Host, tuple[Host, ...]]:
    """Return the canary, and all hosts that are deployed to, in the order of the file."""
    from fleet import selector

    first = session.single_host(inventory, canary)
    groups = inventory.by_reference(inventory.hosts.values())
    ours = next(group for group in groups.values() if first in group)
    others = selector.select(inventory, selectors) if selectors else ours
    return first, tuple(host for host in inventory.hosts.values() if host is first or host in others)


def _canary_first(inventory: Inventory, canary: Host, soak: str) -> Inventory:
    """Return the inventory with a first wave of one host. What it comes after elsewhere does not hold it up."""
    from fleet.inventory.rollouts import Wave

    waves = (Wave.model_validate({"hosts": canary.name, "soak": soak}), *inventory.rollout.waves)
    rollout = inventory.rollout.model_copy(update={"waves": waves})
    return inventory.model_copy(update={"rollout": rollout})


def _updated(inventory: Inventory, canary: Host, name: str) -> Update:
    from fleet.library import pinning
    from fleet.library.tools import LocalNix

    flake = next(iter(inventory.by_reference([canary])))
    return asyncio.run(pinning.update(LocalNix(inventory.nix_options), flake, name))


def _look(inventory: Inventory, hosts: Sequence[Host], *, as_json: bool) -> Pinned:
    from fleet.library.pinning import Pinner
    from fleet.library.tools import LocalNix

    with session.display(as_json=as_json) as output:
        pinner = Pinner(LocalNix(inventory.nix_options), inventory, wait_for=output.wait_for)
        return asyncio.run(pinner.look(hosts))


def _lines(pinned: Pinned, *, is_terminal: bool) -> list[str]:
    from fleet.output.table import table
    from fleet.source.pins import followed

    now = time.time()
    several = len({pin.flake for pin in pinned.pins}) > 1
    inputs = [
        [
            f"{pin.flake}#{pin.name}" if several else pin.name,
            pin.source,
            pin.revision[:12] or "-",
            _age(pin.changed, now),
        ]
        for pin in pinned.pins
        if pin.is_direct
    ]
    hosts = []
    for name, ends in pinned.ends.items():
        pin = followed(ends, pinned.pins)
        made_of = pin.name if pin else ends.nixpkgs or "-"
        hosts.append([name, made_of, *(value or "-" for value in (ends.nixos, ends.kernel, ends.driver, ends.cuda))])
    lines = [table(["input", "follows", "commit", "age"], inputs, is_terminal=is_terminal)] if inputs else []
    lines += [""] if inputs and hosts else []
    headers = ["host", "nixpkgs", "nixos", "kernel", "driver", "cuda"]
    return lines + ([table(headers, hosts, is_terminal=is_terminal)] if hosts else [])


def _age(changed: int | None, now: float) -> str:
    return f"{max(0, int((now - changed) / 86_400))} d" if changed is not None else "-"


def _commit(pin: Any) -> str:
    from fleet.text import local_time

    day = f" of {local_time(pin.changed, '%Y-%m-%d')}" if pin.changed is not None else ""
    return f"{pin.revision[:12] or 'what it was'}{day}"

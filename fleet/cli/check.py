"""`fleet check`: find everything that is wrong without contacting a host."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fleet.events import Event
    from fleet.inventory import Host, Inventory
    from fleet.machine import Machine
    from fleet.model import Finding
    from fleet.source.outputs import FlakeCheck
    from fleet.steps.evaluate import Evaluation


@click.command()
@click.option("--build", is_flag=True, help="Build the flake's own checks for this machine's system, too.")
@options.reads
def check(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool, build: bool) -> int:
    """Check fleet.toml, that each host evaluates, and what `nix flake check` leaves open.

    That is: hosts and configurations match one to one; those of nix-darwin and home-manager evaluate, too; flake.lock
    fits, and every input is locked and can be had elsewhere; no file is missing in git; no secret would be copied to
    the store; the commands in README and docs parse; and which of the flake's own checks nobody looked at. No host is
    contacted.

    \b
    fleet check
    fleet check @prod --json
    """
    import asyncio

    from fleet.library.tools import LocalNix
    from fleet.output.format import unprefixed

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    with session.display(as_json=as_json) as output:
        looking = _look(LocalNix(inventory.nix_options), inventory, hosts, build=build, wait_for=output.wait_for)
        evaluation, findings, checks = asyncio.run(looking)
    rows = [_row(host, evaluation) for host in hosts]
    if as_json:
        click.echo(json.dumps({"hosts": rows, **_as_json(findings, checks)}))
    else:
        for row in rows:
            click.echo(f"{row['name']}: {row['closure'] or unprefixed(row['error'], row['name'])}")
        for line in _lines(findings, checks):
            click.echo(line)
        session.tell_errors(evaluation.failed)
    if evaluation.failed or any(check.status == "failed" for check in checks):
        return 3
    return 1 if any(finding.severity.value == "error" for finding in findings) else 0


async def _look(
    here: Machine,
    inventory: Inventory,
    hosts: Sequence[Host],
    *,
    build: bool,
    wait_for: Callable[[str], None],
) -> tuple[Evaluation, list[Finding], list[FlakeCheck]]:
    from fleet import cli
    from fleet.cli.parse import complaint
    from fleet.events import OutputLine
    from fleet.output.format import counted
    from fleet.source import commands, lock, outputs, tree
    from fleet.source.options import require_known
    from fleet.steps.evaluate import evaluate

    await require_known(here, inventory.path, inventory.nix_options)
    flake = inventory.flake
    findings = outputs.unchecked(hosts)
    wait_for(f"read {flake}")
    described = await outputs.metadata(here, flake)
    if described.status == 0:
        findings += lock.findings(outputs.locks(described), now=time.time())
    elif stale := lock.stale(described.stderr):
        findings.append(stale)
    files = await tree.look(here, flake)
    findings += tree.findings(files) if files else []
    configurations = await outputs.configurations(here, flake)
    if configurations is not None:
        findings += outputs.unmatched(hosts, inventory.hosts.values(), configurations, inventory.ignore)
    if files is not None:
        findings += tree.without_host(files, {*inventory.hosts, *(configurations or ())})
        findings += commands.findings(files, cli.COMMANDS, complaint)
    events: list[Event] = []
    wait_for(f"evaluate {counted(len(hosts), 'host')}")
    evaluation = await evaluate(here, flake, hosts, emit=events.append)
    findings += outputs.warnings(event.text for event in events if isinstance(event, OutputLine))
    wait_for(f"{'build' if build else 'evaluate'} the flake's own checks")
    return evaluation, findings, await outputs.checks(here, flake, build=build)


def _row(host: Host, evaluation: Evaluation) -> dict[str, Any]:
    found, failed = evaluation.found.get(host.name), evaluation.failed.get(host.name)
    return {
        "name": host.name,
        "closure": found.closure if found else None,
        "error": failed.message if failed else None,
    }


def _as_json(findings: Sequence[Finding], checks: Sequence[FlakeCheck]) -> dict[str, Any]:
    import dataclasses

    return {
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "checks": [dataclasses.asdict(check) for check in checks],
    }


def _lines(findings: Sequence[Finding], checks: Sequence[FlakeCheck]) -> list[str]:
    from fleet.output.format import one_line

    lines = [f"{check.place}: {check.status}" + (f" ({check.said})" if check.said else "") for check in checks]
    for finding in findings:
        lines.append(f"{finding.severity.value}: {finding.message}")
        lines += [f"  hint:  {finding.hint}"] if finding.hint else []
    return list(map(one_line, lines))

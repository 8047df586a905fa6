"""`fleet check`: find everything that is wrong. Only hosts with a gate are contacted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fleet.inventory import Host, Inventory
    from fleet.library.checking import Checked
    from fleet.library.gates import Reports
    from fleet.model import Finding, HostName
    from fleet.source.outputs import FlakeCheck
    from fleet.source.tree import Tree


@click.command()
@click.option("--build", is_flag=True, help="Build the flake's own checks for this machine's system, too.")
@options.reads
def check(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool, build: bool) -> int:
    """Check fleet.toml, policy.toml, that each host evaluates, and what `nix flake check` leaves open.

    That is: hosts and configurations match one to one; those of nix-darwin and home-manager evaluate, too; flake.lock
    fits, and every input is locked and can be had elsewhere; no file is missing in git; no secret would be copied to
    the store; the commands in README and docs parse; mesh.toml fits the hosts; and which of the flake's own checks
    nobody looked at. Hosts with a gate are asked how that is, and what would get round it. No other host is contacted.

    \b
    fleet check
    fleet check @prod --json
    """
    import asyncio

    from fleet.library.authority import authority_of
    from fleet.library.checking import Checker
    from fleet.library.gates import as_json as as_json_gate
    from fleet.library.gates import findings_on
    from fleet.library.meshing import findings_of
    from fleet.library.tools import LocalNix
    from fleet.output.format import unprefixed

    inventory = session.open_inventory(file)
    authority = authority_of(inventory)  # what is wrong with who may what is wrong with the fleet
    meshed = findings_of(inventory)
    hosts = session.choose_or_all(inventory, selectors, everything=everything)
    with session.display(as_json=as_json) as output:
        here = LocalNix(inventory.nix_options)
        checker = Checker(here, inventory, build=build, of_tree=_wrong_commands, wait_for=output.wait_for)
        checked = asyncio.run(checker.check(hosts))
        gates = _look_at_gates(inventory, hosts, output.wait_for)
    principals = authority.principals if authority is not None else None
    findings = (*checked.findings, *meshed, *findings_on(inventory, gates, principals))
    checks = checked.checks
    rows = [_row(host, checked) | ({"gate": as_json_gate(gates[host.name])} if host.gate else {}) for host in hosts]
    if as_json:
        click.echo(json.dumps({"hosts": rows, **_as_json(findings, checks)}))
    else:
        for row in rows:
            click.echo(f"{row['name']}: {row['closure'] or unprefixed(row['error'], row['name'])}")
        for line in _on_gates(hosts, gates):
            click.echo(line)
        for line in _lines(findings, checks):
            click.echo(line)
        session.tell_errors(checked.failed)
    if checked.failed or any(check.status == "failed" for check in checks):
        return 3
    return 1 if any(finding.severity.value == "error" for finding in findings) else 0


def _wrong_commands(files: Tree) -> Iterator[Finding]:
    """Yield the commands in the documentation of a flake that this command line would refuse."""
    from fleet import cli
    from fleet.cli.parse import complaint
    from fleet.source import commands

    return commands.findings(files, cli.COMMANDS, complaint)


def _look_at_gates(inventory: Inventory, hosts: Sequence[Host], wait_for: Callable[..., None]) -> Reports:
    if not any(host.gate for host in hosts):
        return {}
    import asyncio

    from fleet.library.gates import gates_of
    from fleet.machine.login import Logins  # most fleets have no gate, and nobody is asked

    def waits(names: Sequence[HostName]) -> None:
        wait_for("ask the gates", hosts=names)

    return asyncio.run(gates_of(Logins(inventory.hosts), hosts, on_wait=waits))


def _on_gates(hosts: Sequence[Host], gates: Reports) -> Iterator[str]:
    """Yield how each gate is, and which hosts have none; nothing in a fleet without gates."""
    from fleet.library.gates import described
    from fleet.output.format import one_line

    for name, report in gates.items():
        if not isinstance(report, Exception):
            yield one_line(f"{name}: {described(report)}")
    if gates:
        yield from (f"{host.name}: no gate" for host in hosts if not host.gate)


def _row(host: Host, checked: Checked) -> dict[str, Any]:
    found, failed = checked.found.get(host.name), checked.failed.get(host.name)
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
    from fleet.output.format import finding_lines, one_line

    lines = [f"{check.place}: {check.status}" + (f" ({check.said})" if check.said else "") for check in checks]
    return [*map(one_line, lines), *finding_lines(findings)]

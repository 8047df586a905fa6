"""`fleet status`, `fleet health` and `fleet generations`: they only look."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.checks import Answer
    from fleet.host.answers import Generation, HostFacts
    from fleet.inventory import Host
    from fleet.machine.link import Link


@click.command()
@options.reads
def status(selectors: tuple[str, ...], file: Path | None, *, as_json: bool) -> int:
    """Tell what each host runs, keeps and boots, and whether a transaction is open there.

    What a reboot or a crash had left open on a host is settled by this very contact. The exit code is 1 when a host
    cannot be reached or has units that failed.

    \b
    fleet status
    fleet status gpu-01 --json
    """
    from fleet.cli.reading import ask_all
    from fleet.steps.preflight import preflight

    async def ask(host: Host, link: Link) -> HostFacts:
        return await preflight(link, host)

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors)
    answers = ask_all(session.logins(inventory, hosts), hosts, ask)
    rows = [_status(host, answer) for host, answer in answers]
    if as_json:
        click.echo(json.dumps({"hosts": rows}))
    else:
        _tell_status(answers)
    return 0 if all(row["reachable"] and not row["failed_units"] for row in rows) else 1


def _status(host: Host, answer: HostFacts | FleetError) -> dict[str, Any]:
    if isinstance(answer, FleetError):
        empty = dict.fromkeys(("running", "profile", "boot_default", "booted", "generation", "reboot_pending"))
        rest: dict[str, Any] = {
            "transaction": None,
            "quarantined": [],
            "failed_units": [],
            "error": dataclasses.asdict(answer.failure()),
        }
        return {"name": host.name, "reachable": False, **empty, **rest}
    return {
        "name": host.name,
        "reachable": True,
        "running": answer.running,
        "profile": answer.profile,
        "boot_default": answer.boot_default,
        "booted": answer.booted,
        "generation": int(answer.generation) if answer.generation.isdigit() else None,
        "reboot_pending": bool(answer.reboot_pending),
        "transaction": dataclasses.asdict(answer.transaction) if answer.transaction else None,
        "quarantined": list(answer.quarantined),
        "failed_units": list(answer.failed_units),
        "error": None,
    }


def _tell_status(answers: Sequence[tuple[Host, HostFacts | FleetError]]) -> None:
    from fleet.cli.reading import tell_errors
    from fleet.output.format import short_name
    from fleet.output.table import table

    rows = []
    for host, answer in answers:
        if isinstance(answer, FleetError):
            rows.append((host.name, answer.kind, "-", "-", answer.message))
            continue
        rows.append((
            host.name,
            short_name(answer.running, host.name),
            answer.generation or "-",
            _boots(answer, host),
            "; ".join(_remarks(answer)) or "-",
        ))  # fmt: skip
    headers = ("host", "running", "generation", "boots next", "remarks")
    click.echo(table(headers, rows, is_terminal=sys.stdout.isatty()))
    tell_errors(answers)


def _boots(facts: HostFacts, host: Host) -> str:
    from fleet.output.format import short_name

    if facts.boot_default is None:
        return "unverified"
    return "the same" if facts.boot_default == facts.running else short_name(facts.boot_default, host.name)


def _remarks(facts: HostFacts) -> list[str]:
    remarks = []
    if facts.transaction is not None:
        left = facts.transaction.closes_in
        when = f"closes in {left} s" if left >= 0 else f"its deadline passed {-left} s ago"
        remarks.append(f"open: {facts.transaction}, {when}")
    if facts.profile != facts.running:
        remarks.append("the profile names another system")
    if facts.reboot_pending:
        remarks.append(f"reboot pending: {', '.join(facts.reboot_pending)}")
    if facts.failed_units:
        remarks.append(f"failed: {', '.join(facts.failed_units)}")
    if facts.last is not None and facts.last.state in ("reverted", "stuck", "superseded"):
        remarks.append(f"last run {facts.last.state}: {facts.last.reason or facts.last.run}")
    if facts.quarantined:
        remarks.append(f"{len(facts.quarantined)} quarantined")
    return remarks


@click.command()
@options.reads
def health(selectors: tuple[str, ...], file: Path | None, *, as_json: bool) -> int:
    """Ask the declared checks of each host once, and list its failed units.

    \b
    fleet health @prod
    """
    import asyncio

    from fleet import checks
    from fleet.cli.reading import ask_all, tell_errors
    from fleet.machine.local import LocalMachine
    from fleet.steps.preflight import preflight

    async def ask(host: Host, link: Link) -> tuple[HostFacts, list[Answer]]:
        facts = await preflight(link, host)
        here = LocalMachine()
        found = await asyncio.gather(*(checks.ask(check, host=link, controller=here) for check in host.checks))
        return facts, found

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors)
    answers = ask_all(session.logins(inventory, hosts), hosts, ask)
    rows = [_health(host, answer) for host, answer in answers]
    if as_json:
        click.echo(json.dumps({"hosts": rows}))
    else:
        for row in rows:
            _tell_health(row)
        tell_errors(answers)
    return 0 if all(row["healthy"] for row in rows) else 1


def _health(host: Host, answer: tuple[HostFacts, list[Answer]] | FleetError) -> dict[str, Any]:
    if isinstance(answer, FleetError):
        error = dataclasses.asdict(answer.failure())
        return {"name": host.name, "healthy": False, "checks": [], "failed_units": [], "error": error}
    facts, found = answer
    return {
        "name": host.name,
        "healthy": all(one.passed for one in found) and not facts.failed_units,
        "checks": [dataclasses.asdict(one) for one in found],
        "failed_units": list(facts.failed_units),
        "error": None,
    }


def _tell_health(row: dict[str, Any]) -> None:
    click.echo(f"{row['name']}: {'healthy' if row['healthy'] else 'not healthy'}")
    for one in row["checks"]:
        click.echo(f"  {'pass' if one['passed'] else 'FAIL'}  {one['check']}: {one['said']}")
    for unit in row["failed_units"]:
        click.echo(f"  FAIL  {unit} has failed")


@click.command()
@options.reads
def generations(selectors: tuple[str, ...], file: Path | None, *, as_json: bool) -> int:
    """List the generations of each host, and where a rollback would go.

    \b
    fleet generations pi-edge
    """
    from fleet.cli.reading import ask_all, tell_errors
    from fleet.host import answers as words
    from fleet.host.program import HostProgram
    from fleet.host.program import ask as ask_program

    async def ask(host: Host, link: Link) -> tuple[Generation, ...]:
        return words.generations(await ask_program(link, host, HostProgram().call("generations")))

    inventory = session.open_inventory(file)
    hosts = session.choose_or_all(inventory, selectors)
    answers = ask_all(session.logins(inventory, hosts), hosts, ask)
    if as_json:
        click.echo(json.dumps({"hosts": [_generations(host, answer) for host, answer in answers]}))
    else:
        for host, answer in answers:
            if not isinstance(answer, FleetError):
                _tell_generations(host, answer)
        tell_errors(answers)
    return 1 if any(isinstance(answer, FleetError) for _, answer in answers) else 0


def _generations(host: Host, answer: tuple[Generation, ...] | FleetError) -> dict[str, Any]:
    if isinstance(answer, FleetError):
        return {"name": host.name, "generations": [], "error": dataclasses.asdict(answer.failure())}
    return {"name": host.name, "generations": [dataclasses.asdict(one) for one in answer], "error": None}


def _tell_generations(host: Host, there: tuple[Generation, ...]) -> None:
    click.echo(f"{host.name}:")
    for one in there:
        marks = [word for word in ("current", "running", "previous") if getattr(one, word)]
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created))
        click.echo(f"  {one.number:>4}  {created}  {one.closure}" + (f"  ({', '.join(marks)})" if marks else ""))

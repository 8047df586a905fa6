"""`fleet secrets`: what hosts have of their secrets, and bring them what differs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet import Fleet
    from fleet.cli.questions import Consent
    from fleet.inventory import Host, Inventory

STATES = {
    "same": "as declared",
    "differs": "differs",
    "absent": "is not there",
    "unsafe": "others than root decide what is there, or it is no file",
}


@click.group()
def secrets() -> None:
    """Tell what hosts have of their secrets, or bring them what differs. A deployment brings them too.

    \b
    fleet secrets status
    fleet secrets push web-1
    """


@secrets.command()
@options.reads
def status(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool) -> int:
    """Compare the secrets of each host with what fleet.toml declares.

    Their values are read on this machine, as for a deployment, and none is sent: hosts answer with digests under a key
    that is drawn for this question. The exit code is 1 if anything differs.

    \b
    fleet secrets status
    fleet secrets status @web
    """
    from fleet.errors import FleetError
    from fleet.library import secret_documents

    inventory = session.open_inventory(file)
    hosts = _with_secrets(inventory, selectors, everything=everything or not selectors)
    fleet = session.fleet(inventory, hosts)
    with session.asking("secrets", as_json=as_json) as wait_for:
        answers = asyncio.run(fleet.secrets_status(*(host.name for host in hosts), on_wait=wait_for)) if hosts else {}
    document = secret_documents.status(answers)
    if as_json:
        click.echo(json.dumps(document))
    else:
        for row in document["hosts"]:
            _print_states(row)
        session.tell_errors(answers)
        if not hosts:
            click.echo("fleet.toml declares no secrets", err=True)
    good = (not isinstance(answer, FleetError) and answer.is_as_declared for answer in answers.values())
    return 0 if all(good) else 1


def _with_secrets(inventory: Inventory, selectors: tuple[str, ...], *, everything: bool) -> list[Host]:
    """Return the hosts that have secrets. Those that were named may have lost theirs from fleet.toml.

    A profile has none: they are its host's. Raise `ConfigError` if nothing but profiles is named.
    """
    from fleet.errors import ConfigError

    chosen = session.choose(inventory, selectors, everything=everything)
    whole = [host for host in chosen if not host.profile]
    if not whole:
        names = ", ".join(host.name for host in chosen)
        raise ConfigError(f"{names}: a profile has no secrets", hint="name its host, whose they are")
    return [host for host in whole if host.secrets or selectors]


def _print_states(row: dict[str, Any]) -> None:
    for secret in row["secrets"]:
        click.echo(
            f"{row['name']}: {secret['name']}: {STATES.get(secret['state'], secret['state'])} ({secret['path']})"
        )
    for name in row["left"]:
        click.echo(f"{row['name']}: {name}: is there, and not in fleet.toml any more")


@secrets.command()
@options.reads
@options.break_glass
@options.yes
@options.ask
def push(selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool, **consents: Any) -> int:
    """Bring each host its secrets now, without a deployment. What differs is written, and its units are restarted.

    If a unit does not start with the new ones, the host has the old ones back. To have checks prove them too, deploy.
    Secrets that fleet.toml does not have any more are removed from the host.

    \b
    fleet secrets push web-1
    fleet secrets push --all --yes
    """
    from fleet.cli.questions import Consent

    inventory = session.open_inventory(file)
    hosts = _with_secrets(inventory, selectors, everything=everything)
    consent = Consent(**consents)
    consent.require_terminal(len(hosts))
    return asyncio.run(_push(session.fleet(inventory, hosts), hosts, consent, as_json=as_json))


async def _push(fleet: Fleet, hosts: Sequence[Host], consent: Consent, *, as_json: bool) -> int:
    from fleet.cli import questions
    from fleet.cli.interrupts import interrupts
    from fleet.errors import INTERRUPTED, FleetError, StoppedError
    from fleet.library import secret_documents
    from fleet.library.judging import Plea
    from fleet.output.format import counted

    plea = Plea(break_glass=consent.break_glass)
    names = [host.name for host in hosts]
    with interrupts() as stop:
        await fleet.require_act("deploy", *names, plea=plea)
        with session.display(as_json=as_json) as output:
            if consent.is_asked_for(len(hosts)):
                with output.paused():
                    for host in hosts:
                        click.echo(f"{host.name}: {', '.join(host.secrets) or 'none any more'}", err=True)
                    agreed = await questions.agreed(f"Bring {counted(len(hosts), 'host')} these secrets?", stop)
                if not agreed:
                    click.echo(questions.UNTOUCHED, err=True)
                    return 1
            answers = {}
            if names:
                answers = await fleet.push_secrets(
                    *names, plea=plea, stop=stop, on_wait=lambda left: output.wait_for("bring the secrets", hosts=left)
                )
        document = secret_documents.push(answers)
        if as_json:
            click.echo(json.dumps(document))
        else:
            for row in document["hosts"]:
                if row["error"] is None:
                    click.echo(f"{row['name']}: {_written(row)}")
            session.tell_errors(answers)
        session.tell_unentered(fleet)
    if any(isinstance(answer, StoppedError) for answer in answers.values()):
        return INTERRUPTED
    return 1 if any(isinstance(answer, FleetError) for answer in answers.values()) else 0


def _written(row: dict[str, Any]) -> str:
    unknown = f"; there is no unit {', '.join(row['unknown_units'])} to restart" if row["unknown_units"] else ""
    return (f"written: {', '.join(row['changed'])}" if row["changed"] else "all as declared") + unknown

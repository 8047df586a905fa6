"""`fleet rollout`: what people ask of a rollout that is under way, in this terminal or in another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session
from fleet.cli.reporting import Reporting, end_without_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet import Fleet, Stop
    from fleet.output import Display
    from fleet.state import Asked, RunRecord

RUN = click.argument("run_id", metavar="[RUN]", required=False, shell_complete=options.completes("run"))


@click.group()
def rollout() -> None:
    """Pause a rollout that is under way, go on with it, or abort it. Without RUN: the newest.

    A host that has begun is always seen through: it keeps the new system proven, or goes back.

    \b
    fleet rollout pause
    fleet rollout continue
    fleet rollout abort 20261120T042211-3fa9c1d2
    """


@rollout.command()
@RUN
@options.file
def pause(run_id: str | None, file: Path | None) -> int:
    """Let no further host begin until `fleet rollout continue`. Whoever runs it need not stay."""
    from fleet.state import Asked

    return _ask(run_id, file, Asked.PAUSE, "is paused: hosts that have begun are seen through, and no other begins")


@rollout.command()
@RUN
@options.file
def abort(run_id: str | None, file: Path | None) -> int:
    """Let no further host begin. Hosts that keep the new system keep it; `fleet rollback` takes them back."""
    from fleet.state import Asked

    return _ask(run_id, file, Asked.ABORT, "is aborted: hosts that have begun are seen through, and no other begins")


@rollout.command("continue", cls=Reporting)
@RUN
@options.file
@options.as_json
@options.verbose
def continue_(run_id: str | None, file: Path | None, *, as_json: bool, verbose: bool) -> int:
    """Let a paused rollout go on. If nobody runs it any more, this command does, to its end.

    Hosts that had begun are seen through, the others begin as its plan says, and nothing is done twice.
    """
    from fleet.cli.changing import carry_out, follow_to_end

    inventory = session.open_inventory(file)
    fleet = session.fleet(inventory, ())
    past, is_under_way = _find(fleet, run_id, may_have_ended=True)
    was_asked = asyncio.run(fleet.asked(past.id))
    asyncio.run(fleet.ask(past.id, None))
    if is_under_way:
        told = "goes on in the process that runs it" if was_asked else "is under way, and nobody has paused it"
        click.echo(f"run {past.id} {told}", err=True)
        if as_json:
            end_without_run()
        return 0
    hosts = [host for name, host in inventory.hosts.items() if name in past.hosts]

    async def act(fleet: Fleet, output: Display, stop: Stop) -> int:
        return await follow_to_end(await fleet.carry_on(past, stop=stop), output)

    checks = {host.name: host.checks for host in hosts}
    return carry_out(session.fleet(inventory, hosts), act, as_json=as_json, verbose=verbose, checks=checks)


def _ask(run_id: str | None, file: Path | None, asked: Asked, told: str) -> int:
    fleet = session.fleet(session.open_inventory(file), ())
    past, _ = _find(fleet, run_id, may_have_ended=False)
    asyncio.run(fleet.ask(past.id, asked))
    click.echo(f"run {past.id} {told}", err=True)
    return 0


def _find(fleet: Fleet, run_id: str | None, *, may_have_ended: bool) -> tuple[RunRecord, bool]:
    """Return the run with this id or beginning of one, or the newest that is under way, and whether it is under way.

    A run that has ended is meant only if it `may_have_ended`; without an id it was cut short. Raise `ConfigError` if
    there is none.
    """
    from fleet.errors import ConfigError
    from fleet.library.past import find_run
    from fleet.model import Verb

    records = asyncio.run(fleet.runs())
    session.tell_unread(fleet)
    if run_id:
        record, is_under_way = find_run(records, run_id)
        if record.verb == Verb.REBOOT:
            raise ConfigError(f"run {record.id} is a reboot of hosts, and no rollout", hint="Ctrl-C there ends it")
        if is_under_way or may_have_ended:
            return record, is_under_way
        raise ConfigError(f"run {record.id} is not under way", hint="fleet runs lists what there is")
    rollouts = [(record, is_under_way) for record, is_under_way in records if record.verb != Verb.REBOOT]
    for record, is_under_way in rollouts:
        if is_under_way or (may_have_ended and record.exit_code is None):
            return record, is_under_way
    raise ConfigError("no rollout is under way", hint=_remedy(rollouts, may_have_ended=may_have_ended))


def _remedy(rollouts: Sequence[tuple[RunRecord, bool]], *, may_have_ended: bool) -> str:
    """Return what can be done where no rollout is under way."""
    from fleet.errors import INTERRUPTED

    newest = rollouts[0][0] if rollouts else None
    if newest is not None and may_have_ended and (newest.exit_code == INTERRUPTED or newest.is_open):
        return f"the newest was interrupted: fleet rollout continue {newest.id} goes on with it"
    return "fleet runs lists what there is"

"""`fleet gc`: let go what no rollback needs, on hosts and on this machine."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fleet import Fleet, Stop
    from fleet.cli.questions import Consent
    from fleet.host.garbage import Garbage
    from fleet.inventory import Inventory
    from fleet.library.garbage_here import GarbageHere
    from fleet.library.judging import Plea
    from fleet.model import HostName
    from fleet.output import Display

    Answers = Mapping[HostName, Any]

MOST_KEPT = 10_000


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the flags ask for."""

    keep: int | None
    within: float
    """Seconds."""
    dry_run: bool
    as_json: bool


@click.command()
@options.reads
@options.yes
@options.ask
@options.break_glass
@click.option(
    "--keep",
    type=click.IntRange(1, MOST_KEPT),
    metavar="N",
    help="How many of the newest generations stay in any case. Default: keep_generations of fleet.toml. With --local: "
    "how many runs and builds; default: 20.",
)
@click.option("--dry-run", is_flag=True, help="Tell what would go, and change nothing.")
@click.option(
    "--within",
    default="30m",
    show_default=True,
    metavar="TIME",
    help="How long a host may collect. What is left then goes the next time.",
)
@click.option(
    "--local", is_flag=True, help="On this machine instead: old runs, builds and plans of fleet, and their roots."
)
def gc(
    selectors: tuple[str, ...], file: Path | None, *, as_json: bool, everything: bool, within: str, **asked: Any
) -> int:
    """Delete old generations and collect garbage, and leave what a rollback may need.

    On each host stay the systems that run, were booted, and boot next; what was last proven, and what ran before it,
    where fleet rollback goes; what is staged or being deployed; and the newest generations. The boot menu is written
    before anything of it is gone. A host that somebody deploys or pushes to is left out, and a collection ends when
    that begins. Ctrl-C ends it too, and harms nothing.

    \b
    fleet gc --all --dry-run
    fleet gc gpu-01 --keep 3
    fleet gc --local
    """
    from fleet.cli.questions import Consent
    from fleet.errors import ConfigError

    seconds = options.seconds("--within", within)
    inventory = session.open_inventory(file)
    consent = Consent(yes=asked.pop("yes"), ask=asked.pop("ask"), break_glass=asked.pop("break_glass"))
    wanted = Wanted(keep=asked["keep"], within=seconds, dry_run=asked["dry_run"], as_json=as_json)
    if asked["local"]:
        if selectors or everything:
            raise ConfigError("--local is about this machine: leave the hosts out")
        return asyncio.run(_free_here(inventory, wanted, consent))
    hosts = session.choose_computers(inventory, selectors, everything=everything)
    if not wanted.dry_run:
        consent.require_terminal(len(hosts))
    fleet = session.fleet(inventory, hosts)
    names = [host.name for host in hosts]
    return asyncio.run(_free(fleet, names, wanted, consent))


async def _free(fleet: Fleet, names: Sequence[HostName], wanted: Wanted, consent: Consent) -> int:
    """Find garbage, show it, ask, and let it go. Return the exit code."""
    from fleet.cli.interrupts import interrupts
    from fleet.errors import FleetError
    from fleet.library import garbage_documents as documents
    from fleet.library.judging import Plea

    plea = Plea(break_glass=consent.break_glass)
    with interrupts() as stop, session.display(as_json=wanted.as_json) as output:
        if not wanted.dry_run:
            await fleet.require_act("gc", *names, plea=plea)
        found = await fleet.garbage.find(
            *names, keep=wanted.keep, stop=stop, on_wait=lambda left: output.wait_for("look for garbage", hosts=left)
        )
        output.wait_for("")
        rubbish = {name: one for name, one in found.items() if not isinstance(one, FleetError) and not one.is_clean}
        freed: Answers = {}
        if not wanted.as_json:
            with output.paused():
                _print_found(found, to_stderr=not wanted.dry_run)
        if rubbish and not wanted.dry_run and not stop.is_requested:
            if consent.is_asked_for(len(rubbish)) and not await _is_agreed(output, stop, rubbish):
                return 1
            freed = await _take(fleet, output, stop, rubbish, wanted.within, plea)
        output.wait_for("")
    session.tell_unentered(fleet)
    document = documents.garbage(found, freed)
    if wanted.as_json:
        click.echo(json.dumps(document))
    else:
        _print_freed(document["hosts"])
        session.tell_errors({name: freed.get(name, one) for name, one in found.items()})
    return _exit_code({name: freed.get(name, one) for name, one in found.items()})


async def _take(
    fleet: Fleet, output: Display, stop: Stop, rubbish: Mapping[HostName, Garbage], within: float, plea: Plea
) -> Answers:
    """Let it go, and show how far that is."""
    total, left, gone = sum(one.paths for one in rubbish.values()), list(rubbish), 0

    def show() -> None:
        output.wait_for(f"collect garbage, {gone} of {total} store paths", hosts=left)

    def wait(names: Sequence[HostName]) -> None:
        left[:] = names
        show()

    def count(now: int) -> None:
        nonlocal gone
        gone = now
        show()

    return await fleet.garbage.free(rubbish, within=within, stop=stop, on_wait=wait, on_count=count, plea=plea)


def _print_found(found: Answers, *, to_stderr: bool) -> None:
    from fleet.library import garbage_documents as documents
    from fleet.output.garbage import garbage_lines

    stream = sys.stderr if to_stderr else sys.stdout
    for line in garbage_lines(documents.garbage(found, {})["hosts"], is_terminal=stream.isatty()):
        click.echo(line, err=to_stderr)


def _print_freed(rows: Sequence[Mapping[str, Any]]) -> None:
    from fleet.output.garbage import freed_line

    for row in rows:
        if row["freed"] is not None:
            click.echo(freed_line(row))


async def _is_agreed(output: Display, stop: Stop, rubbish: Mapping[HostName, Garbage]) -> bool:
    """Ask whether this is to go. Raise `StoppedError` at a request to stop."""
    from fleet.cli import questions
    from fleet.output.format import counted, human_bytes

    size = human_bytes(sum(one.bytes for one in rubbish.values()))
    with output.paused():
        agreed = await questions.agreed(f"Free about {size} on {counted(len(rubbish), 'host')}?", stop)
        if not agreed:
            click.echo(questions.UNTOUCHED, err=True)
    return agreed


def _exit_code(answers: Answers) -> int:
    from fleet.errors import INTERRUPTED, FleetError, LockedError, StoppedError

    errors = [answer for answer in answers.values() if isinstance(answer, FleetError)]
    if any(isinstance(error, StoppedError) for error in errors):
        return INTERRUPTED
    if errors and len(errors) == len(answers) and all(isinstance(error, LockedError) for error in errors):
        return LockedError.exit_code
    return 1 if errors else 0


async def _free_here(inventory: Inventory, wanted: Wanted, consent: Consent) -> int:
    """Do the same for what fleet keeps on this machine. Return the exit code."""
    from fleet.cli.interrupts import interrupts
    from fleet.library import garbage_documents as documents
    from fleet.state import KEEP

    fleet, count = session.fleet(inventory, ()), KEEP if wanted.keep is None else wanted.keep
    if not wanted.dry_run and consent.ask:
        consent.require_terminal(1)
    with interrupts() as stop, session.display(as_json=wanted.as_json) as output:
        output.wait_for("look for what fleet has left on this machine")
        found = await stop.unless(fleet.garbage.find_here(keep=count))
        output.wait_for("")
        freed: GarbageHere | None = None
        if not wanted.dry_run and not found.is_clean:
            if consent.is_asked_for(1) and not await _is_agreed_here(output, stop, found):
                return 1
            output.wait_for("remove what fleet has left on this machine")
            freed = await _taken_here(fleet, stop, found, count)
            output.wait_for("")
    document = documents.garbage_here(found, freed)
    if wanted.as_json:
        click.echo(json.dumps(document))
    else:
        click.echo(_here_line(document, dry_run=wanted.dry_run))
    if freed is not None and freed.note:
        session.warn(freed.note)
        return 1
    return 0


async def _taken_here(fleet: Fleet, stop: Stop, found: GarbageHere, keep: int) -> GarbageHere:
    """Let it go, and return what is gone. Raise `StoppedError` at a request to stop: some of it is gone then."""
    from fleet.errors import StoppedError

    try:
        return await stop.unless(fleet.garbage.free_here(found, keep=keep))
    except StoppedError:
        message = "interrupted: what is gone was not needed, and the next fleet gc --local goes on"
        raise StoppedError(message) from None


def _here_line(document: Mapping[str, Any], *, dry_run: bool) -> str:
    from fleet.output.format import counted, human_bytes

    told = document if document["freed"] is None else document["freed"]
    what = [counted(len(told[f"{noun}s"]), noun) for noun in ("run", "build", "plan")]
    what += [f"what waited for {counted(len(told['deliveries']), 'host')} too long"] if told["deliveries"] else []
    words = "would go" if dry_run else "gone"
    return f"{words}: {', '.join(what)}; {counted(told['paths'], 'store path')}, {human_bytes(told['bytes'])}"


async def _is_agreed_here(output: Display, stop: Stop, found: GarbageHere) -> bool:
    from fleet.cli import questions
    from fleet.library import garbage_documents as documents

    with output.paused():
        click.echo(_here_line(documents.garbage_here(found, None), dry_run=True), err=True)
        agreed = await questions.agreed("Remove that from this machine?", stop)
        if not agreed:
            click.echo(questions.UNTOUCHED, err=True)
    return agreed

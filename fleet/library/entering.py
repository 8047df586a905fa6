"""Enter in the ledger what people and runs do. Everything that is entered from above the state comes through here."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fleet.errors import StateError
from fleet.ledger import Entry, Kind
from fleet.library.patience import PATIENCE, Asking
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from fleet.ledger import Head
    from fleet.ledger.entries import Value
    from fleet.library.tools import Tools
    from fleet.model import HostName, RunId, Verb
    from fleet.plans import Plan
    from fleet.state import Entered

NAMES = 500
"""Hosts that one entry names, so that it is not too large."""


async def enter(tools: Tools, kind: Kind, *, waits: bool = True, **values: Value) -> Head | None:
    """Enter something that somebody has done, and return the head of the ledger after it. `Kind` says what belongs in.

    It is on disk then, or `StateError` is raised. If it must not wait for the database (`waits=False`), as with
    break-glass, it is kept in a file, is entered before whatever is entered next, and None is returned. See
    `enter_later` for what cannot be kept either.
    """
    if waits:
        entry = Entry(kind=kind, by=tools.by, origin=tools.origin, values=values)
        return await in_state(tools.state.ledger.enter, entry)
    await enter_later(tools, kind, [values])
    return None


async def enter_later(tools: Tools, kind: Kind, all_values: Iterable[Mapping[str, Value]]) -> bool:
    """Keep entries of one kind in a file, without a wait for the database. See `enter`.

    Return whether they are on disk. If they are not, `tools.unentered` says so: what they are about is done already.
    """
    entries = [Entry(kind=kind, by=tools.by, origin=tools.origin, values=values) for values in all_values]
    return await _kept(tools, entries)


async def _kept(tools: Tools, entries: Sequence[Entry]) -> bool:
    if not entries or await in_state(tools.state.ledger.enter_later, *entries):
        return True
    kinds = dict.fromkeys(entry.kind.value for entry in entries)
    tools.unentered.append(f"the ledger lacks what was done, since it cannot be written: {', '.join(kinds)}")
    return False


async def head(tools: Tools) -> str:
    """Return the head of the ledger as plans have it; nothing if there is no ledger, or it cannot be read."""
    with contextlib.suppress(StateError):
        noted = await Asking(tools.state.ledger.noted)()
        return str(noted) if noted is not None else ""
    return ""


def planned(tools: Tools, plan: Plan) -> Entry:
    """Return the entry of a plan that is kept, or about to be applied."""
    values: dict[str, Value] = {
        "plan": plan.digest,
        "author": plan.by,
        "verb": plan.verb.value,
        "goal": plan.goal.value,
        "count": len(plan.parts),
        "source": str(plan.source) if plan.source.reference else None,
        "intent": plan.intent or None,
        "expires": plan.expires,
        "ledger": plan.ledger or None,
    }
    return Entry(kind=Kind.PLAN, by=tools.by, origin=tools.origin, values=values)


def beginnings(tools: Tools, run: RunId, hosts: Sequence[HostName], verb: Verb, plan: Plan | None) -> Iterator[Entry]:
    """Yield the entries that say that a run is about to touch these hosts."""
    told: dict[str, Value] = {"run": run, "verb": verb.value, "count": len(hosts)}
    if plan is not None:
        told |= {"plan": plan.digest, "intent": plan.intent or None}
    for first in range(0, len(hosts), NAMES):
        values = {**told, "hosts": hosts[first : first + NAMES]}
        yield Entry(kind=Kind.BEGIN, by=tools.by, origin=tools.origin, values=values)


@contextlib.asynccontextmanager
async def begun(
    tools: Tools, run: RunId, hosts: Sequence[HostName], entered: Entered, *, plan: Plan | None, must_record: bool
) -> AsyncIterator[Callable[[], str]]:
    """Keep the plan, and enter that the run is about to touch its hosts. Inside, it may, and their ends are `entered`.

    Yields a function that returns the head of the ledger with that entry; nothing while it is not known. With
    `must_record` both are on disk inside, or `StateError` is raised. Without, as on the way back, nobody waits for the
    database: the entries are in a file until it takes them.
    """
    state, entries = tools.state, list(beginnings(tools, run, hosts, entered.verb, plan))
    known: list[Head] = []

    def keep_plan(entry: Entry | None) -> None:
        if plan is not None:
            state.keep_plan(plan.digest, plan.text, expires=plan.expires, entry=entry)

    def enter_now() -> None:
        if must_record:
            keep_plan(planned(tools, plan) if plan is not None else None)
            known.append(state.ledger.enter(*entries))
        else:
            known.append(state.ledger.enter())
            keep_plan(None)

    if must_record:
        await in_state(enter_now)
        entering = None
    else:
        first = [planned(tools, plan)] if plan is not None else []
        await _kept(tools, [*first, *entries])
        entering = asyncio.ensure_future(in_state(enter_now))
        # What could not be entered waits in its file. It may be known only when nobody is here any more.
        entering.add_done_callback(lambda task: task.cancelled() or task.exception())
    entered.begin(hosts)
    try:
        yield lambda: str(known[-1]) if known else ""
    finally:
        if entering is not None:
            await asyncio.wait([entering], timeout=PATIENCE)

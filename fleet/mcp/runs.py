"""Tell what became of what was asked for: of runs, and of requests that have no run yet or never will."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from fleet.errors import ConfigError
from fleet.events import HostFinished, PhaseStarted
from fleet.mcp import human
from fleet.mcp.answers import Document, failure, foreign, page, rows_from
from fleet.mcp.arguments import After, MaybeHost, RunName, Wait  # noqa: TC001 - the SDK reads these
from fleet.mcp.plans import plan_document
from fleet.model import FailureKind, Verb
from fleet.text import store_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet.library.fleet import Fleet
    from fleet.library.past import PastRun
    from fleet.mcp.desk import Desk
    from fleet.mcp.requests import Request
    from fleet.model import HostResult
    from fleet.state import HostRecord, RunRecord

LOOK = 0.25
"""Seconds between two looks at whether something has ended."""
RUNNING = "running"
"""The state of what goes on."""
NEXT = "call run with this id; it goes on by itself, also if this server ends"


class Runs:
    """Tools that tell of runs, for whoever is at the desk."""

    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk

    async def runs(self, after: After = "") -> Document:
        """The runs that this machine remembers, newest first. history asks the hosts, whoever has changed them."""
        async with await self._desk().fleet() as fleet:
            found = {record.id: (record, under_way) for record, under_way in await fleet.runs()}
        names = rows_from(list(found), after)
        return page(((name, _row(*found[name])) for name in names), names, key="runs")

    async def run(self, run: RunName, host: MaybeHost = "", after: After = "", wait: Wait = 0) -> Document:
        """What became of a run or a request: its state, and each host's phase, outcome and failure."""
        desk = self._desk()
        async with await desk.fleet() as fleet:
            return await told_of(fleet, desk, run, host=host, after=after, wait=wait)


async def told_of(fleet: Fleet, desk: Desk, run: str, *, host: str = "", after: str = "", wait: float = 0) -> Document:
    """Return what is known of a run or a request when it has ended, or after `wait` seconds.

    Raise `ConfigError` if nothing is.
    """
    requests, deadline = desk.requests(fleet), time.monotonic() + wait
    while True:
        request = await asyncio.to_thread(requests.find, run)
        found = await _look(fleet, run, request, host, after)
        if found["state"] != RUNNING or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(LOOK)


async def _look(fleet: Fleet, run: str, request: Request | None, host: str, after: str) -> Document:
    is_alive = request is not None and request.is_alive
    if request is not None and request.about["verb"] == Verb.PLAN.value:
        return await _planning(fleet, request, after, is_alive=is_alive)
    try:
        past = await fleet.past_run(request.run or request.id if request is not None else run)
    except ConfigError:
        if request is None:
            raise
        return _without_run(request, is_alive=is_alive)
    if host:
        return _host(past, host)
    return _document(fleet, past, after, is_alive=is_alive)


async def _planning(fleet: Fleet, request: Request, after: str, *, is_alive: bool) -> Document:
    """Tell of a plan that is being made, or that was."""
    head = {"run": request.id, "verb": "plan"}
    if is_alive:
        return {**head, "state": RUNNING, "plan": None, "then": NEXT}
    if digest := request.planned:
        told = await plan_document(fleet, await fleet.kept_plan(digest), after, request.plan_file)
        return {**head, **told, "said": {"foreign": foreign(request.complaint())}}
    document = await asyncio.to_thread(request.document)
    return {**head, "state": "failed", "plan": None, "foreign": _why(request, document)}


def _without_run(request: Request, *, is_alive: bool) -> Document:
    """Tell of a request that has not got as far as a run, or was refused before."""
    head = {"run": request.run or request.id, "verb": request.about["verb"], "plan": request.about["plan"] or None}
    if is_alive:
        return {**head, "state": RUNNING, "then": NEXT}
    last = request.last()
    # The run may have been forgotten since.
    state = "finished" if request.run and last.get("event") == "run_finished" else "failed"
    return {**head, "state": state, "exit_code": last.get("exit_code"), "foreign": _why(request, last)}


def _why(request: Request, last: Document) -> Any:
    outcomes = Counter(str(host.get("outcome")) for host in last.get("hosts") or () if isinstance(host, dict))
    return foreign({"error": last.get("error"), "outcomes": outcomes, "said": request.complaint()})


def _document(fleet: Fleet, past: PastRun, after: str, *, is_alive: bool) -> Document:
    """Describe a run with a page of its hosts."""
    record = past.record
    names = rows_from(list(record.hosts), after)
    phases = {one.event.host: one.event.phase.value for one in past.envelopes if isinstance(one.event, PhaseStarted)}
    ended = {one.event.host for one in past.envelopes if isinstance(one.event, HostFinished)}
    state = _state(past, is_alive=is_alive)
    error = past.finished.error if record.exit_code is not None else None
    told: Document = {**_row(record, past.is_under_way), "state": state}
    if state == RUNNING:
        told["then"] = NEXT
    if state == "open":
        told["human"] = human.resumes(fleet.inventory, record.id)
    if error is not None:
        told["error"] = failure(error)
        if error.kind is FailureKind.POLICY and record.verb == Verb.ROLLBACK.value:
            told["human"] = human.goes_back(fleet.inventory, record.hosts)
    rows = ((name, _host_row(record.hosts[name], phases.get(name), name in ended)) for name in names)
    return {**told, **page(rows, names)}


def _state(past: PastRun, *, is_alive: bool) -> str:
    if past.is_under_way or is_alive:
        return RUNNING
    if past.record.is_open or not past.record.is_readable:
        return "open"
    return "cut_short" if past.record.exit_code is None else "finished"


def _row(record: RunRecord, is_under_way: bool) -> Document:  # noqa: FBT001 - as `Fleet.runs` pairs them
    outcomes = Counter(host.result.outcome.value if host.result else "unknown" for host in record.hosts.values())
    return {
        "run": record.id,
        "verb": record.verb,
        "plan": record.plan,
        "under_way": is_under_way,
        "exit_code": record.exit_code,
        "started": record.started,
        "finished": record.finished,
        "outcomes": dict(outcomes),
        "foreign": foreign({"by": record.by}),
    }


def _host_row(host: HostRecord, phase: str | None, has_ended: bool) -> Document:  # noqa: FBT001
    result = host.result
    return {
        "name": host.name,
        "phase": None if has_ended else phase,
        "outcome": result.outcome.value if result else None,
        **(_result(result) if result else {}),
    }


def _result(result: HostResult) -> Document:
    told: Document = {
        "closure": store_path(result.closure),
        "previous": store_path(result.previous),
        "reboot_pending": result.reboot_pending,
        "error": failure(result.failure) if result.failure else None,
    }
    return {**told, "foreign": foreign({"notes": result.notes})} if result.notes else told


def _host(past: PastRun, name: str) -> Document:
    """Describe one host of a run, step by step. Raise `ConfigError` if it was not in it."""
    host = past.host(name)

    def steps() -> Iterator[Document]:
        for step in past.steps(host.name):
            row = {"at": step.at, "phase": step.text} if step.is_phase else {"at": step.at}
            yield {**row, "seconds": step.seconds, **({} if step.is_phase else {"foreign": foreign(step.text)})}

    state = _state(past, is_alive=False)
    head = {"run": past.record.id, "verb": past.record.verb, "state": state, **_host_row(host, None, has_ended=True)}
    every = list(steps())
    shown = page(((str(number), row) for number, row in enumerate(every[-100:])), [], key="steps")["steps"]
    return {**head, "steps": shown, "left_out": len(every) - len(shown)}

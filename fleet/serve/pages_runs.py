"""The runs that this machine remembers, one of them, and one host of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.exceptions import HTTPException

from fleet.errors import ConfigError
from fleet.mcp import human
from fleet.model import Outcome, Phase
from fleet.serve.site import number_of, paged, site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from fleet.library.recent import RecentRun
    from fleet.model import HostName
    from fleet.serve.plan_heads import PlanHead
    from fleet.serve.site import Site
    from fleet.state import HostRecord

STEPS = (Phase.PREFLIGHT, Phase.PUSH, Phase.SWITCH, Phase.PROVE, Phase.COMMIT)
"""The phases that a host goes through if all is well, as a page draws them."""
INSTEAD = {
    Phase.REBOOT: Phase.SWITCH,
    Phase.HOOK: Phase.SWITCH,
    Phase.WAITING: Phase.SWITCH,
    Phase.REVERT: Phase.COMMIT,
}
"""Where others are drawn."""
BAD = (Outcome.NEEDS_HUMAN, Outcome.FAILED, Outcome.ROLLED_BACK)
ORDER = {outcome: rank for rank, outcome in enumerate((*BAD, Outcome.SKIPPED, Outcome.DEFERRED))}


class RunRow(NamedTuple):
    """A run, as a list shows it."""

    run: RecentRun
    head: PlanHead | None
    outcomes: dict[str, int]
    state: str
    """`running`, `open` (somebody has to resume it), `cut short`, `ended well` or `ended badly`."""


class HostRow(NamedTuple):
    """A host of a run."""

    host: HostRecord
    phase: Phase | None
    steps: list[tuple[str, str]]
    """Each phase that is drawn, with `done`, `now`, `back` or nothing."""
    seconds: float | None


async def runs(request: Request) -> Response:
    """List the runs, newest first."""
    site = site_of(request)
    return site.page(request, "runs.html", rows=[await row(site, run) for run in site.picture.runs])


async def row(site: Site, run: RecentRun) -> RunRow:
    """Return a run as a list shows it."""
    results = [host.result for host in run.record.hosts.values()]
    rest = "to come" if run.is_under_way else "unknown"
    outcomes = Counter(result.outcome.value if result is not None else rest for result in results)
    return RunRow(run, await site.heads.head(site.fleet, run.record.plan), dict(outcomes), state_of(run))


def state_of(run: RecentRun) -> str:
    """Return how a run is, in words."""
    record = run.record
    if run.is_under_way:
        return "running"
    if record.is_open or not record.is_readable:
        return "open"
    if record.exit_code is None:
        return "cut short"
    return "ended well" if record.exit_code == 0 else "ended badly"


async def run(request: Request) -> Response:
    """Show one run, with its hosts: those that are under way first, then the worst."""
    site = site_of(request)
    found = _run(site, request)
    rows = sorted((_host_row(found, host) for host in found.record.hosts.values()), key=_rank)
    page, pages, part = paged(len(rows), number_of(request, "page"))
    return site.page(
        request,
        "run.html",
        row=await row(site, found),
        run=found,
        record=found.record,
        rows=rows[part],
        page=page,
        pages=pages,
        done=sum(1 for one in rows if one.host.result is not None),
        command=human.resumes(site.fleet.inventory, found.record.id)["command"],
    )


async def host(request: Request) -> Response:
    """Show what happened to one host of a run, step by step."""
    site = site_of(request)
    found = _run(site, request)
    name = request.path_params["name"]
    try:
        past = await site.fleet.past_run(found.record.id)
        record = past.host(name)
    except ConfigError as error:
        raise HTTPException(404, error.message) from error
    values: dict[str, Any] = {"steps": past.steps(record.name)[-500:], "evidence": past.evidence(record.name)}
    return site.page(request, "run_host.html", run=found, record=found.record, one=_host_row(found, record), **values)


def _run(site: Site, request: Request) -> RecentRun:
    found = site.picture.run(request.path_params["run"])
    if found is None:
        raise HTTPException(404, "This machine does not remember such a run.")
    return found


def _host_row(run: RecentRun, host: HostRecord) -> HostRow:
    phase = run.phase(host.name)
    entered = run.phases.get(host.name, ())
    ended = run.ended.get(host.name, 0.0)
    seconds = ended - entered[0].at if entered and entered[0].at and ended else None
    return HostRow(host, phase, steps_of(run, host.name), seconds)


def steps_of(run: RecentRun, name: HostName) -> list[tuple[str, str]]:
    """Return the phases that are drawn for a host, each with how far it is."""
    seen = {one.phase for one in run.phases.get(name, ())}
    drawn = {INSTEAD.get(phase, phase) for phase in seen}
    now = run.phase(name)
    at = INSTEAD.get(now, now) if now is not None else None
    went_back = Phase.REVERT in seen
    steps = []
    for phase in STEPS:
        word = "revert" if phase is Phase.COMMIT and went_back else phase.value
        how = "now" if phase is at else "back" if word == "revert" else "done" if phase in drawn else ""
        steps.append((word, how))
    return steps


def _rank(one: HostRow) -> tuple[int, int]:
    if one.phase is not None:
        return 0, 0
    result = one.host.result
    return (1, ORDER.get(result.outcome, len(ORDER))) if result is not None else (1, -1)

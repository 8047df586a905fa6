"""The table of the fleet, and one host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException

from fleet.errors import FleetError
from fleet.library.overview import check_label
from fleet.serve.pages_runs import steps_of
from fleet.serve.picture import GROUPS, matches
from fleet.serve.site import number_of, paged, site_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from fleet.model import HostName
    from fleet.serve.picture import HostView
    from fleet.serve.site import Site

LONGEST = 200
"""Characters of a filter."""
RUNS = 8
"""Runs that the page of a host lists."""


async def hosts(request: Request) -> Response:
    """Show the hosts, the worst first."""
    site = site_of(request)
    picture = site.picture
    text, group = request.query_params.get("q", "")[:LONGEST], request.query_params.get("show", "")
    words = text.lower().split()
    fitting = [one for one in picture.hosts.values() if matches(one, words)]
    shown = [one for one in fitting if one.group == group] if group in GROUPS else fitting
    page, pages, rows = paged(len(shown), number_of(request, "page"))
    counts = {name: sum(1 for one in fitting if one.group == name) for name in GROUPS}

    def link(**changes: str | int) -> str:
        """Return the address of this page with some of its query changed."""
        query = {"q": text, "show": group if group in GROUPS else "", "page": "", **changes}
        return f"/?{urlencode({key: value for key, value in query.items() if value})}".rstrip("?")

    return site.page(
        request,
        "hosts.html",
        rows=shown[rows],
        found=len(shown),
        total=len(picture.hosts),
        counts=counts,
        group=group,
        text=text,
        page=page,
        pages=pages,
        link=link,
        under_way=[run for run in picture.runs if run.is_under_way],
    )


async def host(request: Request) -> Response:
    """Show one host: what it is, what is under way there, and which runs it was in."""
    site = site_of(request)
    view = _view(site, request)
    picture = site.picture
    watched = picture.watched.get(view.name)
    facts = watched.answer if watched is not None and not isinstance(watched.answer, FleetError) else None
    runs = list(picture.runs_of(view.name))[:RUNS]
    return site.page(
        request,
        "host.html",
        host=view,
        last=watched.last if watched is not None else None,
        waits=watched.waits if watched is not None else None,
        facts=facts,
        checks=[check_label(check) for check in view.host.checks],
        secrets=len(view.host.secrets),
        runs=runs,
        current=next((run for run in runs if run.phase(view.name) is not None), None),
        steps_of=steps_of,
        asks=site.settings.asks,
    )


async def history(request: Request) -> Response:
    """Ask a host which transactions it remembers."""
    return await _asked(request, "history", lambda site, name: site.fleet.history(name))


async def generations(request: Request) -> Response:
    """Ask a host which generations it has."""
    return await _asked(request, "generations", lambda site, name: site.fleet.generations(name))


async def drift(request: Request) -> Response:
    """Look at a host for what nobody declared."""
    return await _asked(request, "drift", lambda site, name: site.fleet.drift(name), fresh=120.0)


async def _asked(
    request: Request, what: str, ask: Callable[[Site, HostName], Awaitable[Any]], *, fresh: float = 20.0
) -> Response:
    site = site_of(request)
    view = _view(site, request)
    if not site.settings.asks:
        raise HTTPException(403, "This server asks no hosts.")
    error, found = None, None
    try:
        answers = await site.asking.answer((what, view.name), lambda: ask(site, view.name), fresh=fresh)
        found = answers[view.name]
        if isinstance(found, FleetError):
            error, found = found, None
    except FleetError as caught:
        error = caught
    return site.page(request, f"{what}.html", host=view, found=found, error=error)


def _view(site: Site, request: Request) -> HostView:
    found = site.picture.hosts.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "There is no such host in fleet.toml.")
    return found

"""The application: which page is where, and what stands before it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from fleet.errors import BugError, ConfigError, FleetError
from fleet.serve import agents, live, pages_entry, pages_hosts, pages_ledger, pages_metrics, pages_plans, pages_runs
from fleet.serve.agents import Agents
from fleet.serve.door import Door
from fleet.serve.guard import Guard
from fleet.serve.site import Site, site_of
from fleet.serve.visitors import Visitors
from fleet.serve.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from fleet.mcp.desk import Desk
    from fleet.serve.settings import Settings
    from fleet.serve.source import Source

ROUTES = (
    ("/", pages_hosts.hosts),
    ("/hosts/{name}", pages_hosts.host),
    ("/hosts/{name}/history", pages_hosts.history),
    ("/hosts/{name}/generations", pages_hosts.generations),
    ("/runs", pages_runs.runs),
    ("/runs/{run}", pages_runs.run),
    ("/runs/{run}/hosts/{name}", pages_runs.host),
    ("/plans", pages_plans.plans),
    ("/plans/{digest}", pages_plans.plan),
    ("/plans/{digest}/hosts/{name}", pages_plans.diff),
    ("/ledger", pages_ledger.ledger),
    ("/live", live.live),
    ("/metrics", pages_metrics.metrics),
    ("/static/{version}/{name}", pages_entry.static),
)
POSTS = (
    ("/hosts/{name}/drift", pages_hosts.drift),
    ("/leave", pages_entry.leave),
)


def new_site(source: Source, settings: Settings, desk: Callable[[str], Desk]) -> Site:
    """Return what is served of a fleet. `desk` is that of a principal, or of whoever this process acts as."""
    visitors = Visitors(source.fleet.by, lambda: source.principals)
    watcher = Watcher(source, asks=settings.asks, every=settings.every)
    return Site(source=source, settings=settings, visitors=visitors, watcher=watcher, agents=Agents(source, desk))


def application(site: Site) -> Guard:
    """Return the application that serves the site. What it says of its own bugs passes the guard too."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with site.watcher, site.agents.running():
            yield

    app = Starlette(
        routes=[
            Route("/enter", pages_entry.enter, methods=["GET", "POST"]),
            *(Route(path, page, methods=["GET"]) for path, page in ROUTES),
            *(Route(path, page, methods=["POST"]) for path, page in POSTS),
            Route(agents.PATH, site.agents),
        ],
        exception_handlers={FleetError: _failed, HTTPException: _not_there, Exception: _bug},
        lifespan=lifespan,
    )
    app.state.site = site
    app.state.listeners = live.Listeners()
    return Guard(Door(app, site.settings, site.visitors, site.guesses), site.settings)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, FleetError)
    status = 404 if isinstance(error, ConfigError) else 502
    return _error(request, status, error.message, error.hint)


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(request, error.status_code, error.detail, "")


async def _bug(request: Request, error: Exception) -> Response:
    """Say that there is a bug; its traceback goes to the log alone."""
    return _error(request, 500, BugError.of(error).message, "The log of the server says where.")


def _error(request: Request, status: int, message: str, hint: str) -> Response:
    if "visitor" not in request.scope.get("state", {}):
        return PlainTextResponse(message, status)
    return site_of(request).page(request, "error.html", status=status, message=message, hint=hint)

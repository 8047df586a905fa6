"""Everything that pages are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.serve.asking import Asking
from fleet.serve.door import visitor_of
from fleet.serve.limits import Bucket
from fleet.serve.plan_heads import PlanHeads
from fleet.serve.render import Renderer, Static

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import HTMLResponse

    from fleet.library.fleet import Fleet
    from fleet.serve.agents import Agents
    from fleet.serve.picture import Picture
    from fleet.serve.settings import Settings
    from fleet.serve.source import Source
    from fleet.serve.visitors import Visitors
    from fleet.serve.watcher import Watcher

PAGE = 100
"""Rows of one page."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is served, and to whom."""

    source: Source
    settings: Settings
    visitors: Visitors
    watcher: Watcher
    agents: Agents
    asking: Asking = field(default_factory=Asking)
    heads: PlanHeads = field(default_factory=PlanHeads)
    static: Static = field(default_factory=Static)
    guesses: Bucket = field(default_factory=lambda: Bucket(burst=10, per_second=0.2))
    """How often somebody may bring what lets nobody in."""
    renderer: Renderer = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "renderer", Renderer(self.static))

    @property
    def fleet(self) -> Fleet:
        """The fleet, as its files are now."""
        return self.source.fleet

    @property
    def picture(self) -> Picture:
        """What is known of it now."""
        return self.watcher.picture

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page, with what all of them show."""
        return self.renderer.page(
            request,
            template,
            status=status,
            fleet_name=self.fleet.inventory.name,
            trouble=self.picture.trouble,
            visitor=visitor_of(request.scope),
            **values,
        )


def site_of(request: Request) -> Site:
    """Return what the request is about."""
    found: Site = request.app.state.site
    return found


def number_of(request: Request, name: str, usual: int = 1) -> int:
    """Return a number of the query; the usual one if there is none, or something else."""
    text = request.query_params.get(name, "")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else usual


def paged(count: int, page: int) -> tuple[int, int, slice]:
    """Return the page that there is, how many there are, and its rows."""
    pages = max(1, -(-count // PAGE))
    page = min(page, pages)
    return page, pages, slice((page - 1) * PAGE, page * PAGE)

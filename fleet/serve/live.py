"""Tell pages that something has changed, as it happens. They fetch anew what they show."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import PlainTextResponse, Response

from fleet.serve.door import cookie, cookie_name, visitor_of
from fleet.serve.site import site_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from fleet.serve.site import Site

MOST, MOST_OF_ONE = 64, 12
"""Pages that are told at the same time, of all visitors and of one."""
EVENT = "changed"


class Listeners:
    """Counts the pages that are told."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    def may_listen(self, key: str) -> bool:
        """Whether one more page of this visitor can be told."""
        return sum(self._count.values()) < MOST and self._count.get(key, 0) < MOST_OF_ONE

    def add(self, key: str, by: int) -> None:
        """Count pages of this visitor."""
        self._count[key] = self._count.get(key, 0) + by
        if not self._count[key]:
            del self._count[key]


async def live(request: Request) -> Response:
    """Tell when the picture of the fleet has changed, until the visitor has to come in again."""
    site, visitor = site_of(request), visitor_of(request.scope)
    listeners: Listeners = request.app.state.listeners
    if not listeners.may_listen(visitor.key):
        return PlainTextResponse("Too many pages are open.", 429, headers={"Retry-After": "30"})
    return EventSourceResponse(_news(site, request, listeners), ping=15)


async def _news(site: Site, request: Request, listeners: Listeners) -> AsyncIterator[ServerSentEvent]:
    visitor = visitor_of(request.scope)
    word = cookie(request.headers, cookie_name(site.settings))
    listeners.add(visitor.key, 1)
    try:
        async with site.watcher.watching():
            number = site.picture.number
            yield ServerSentEvent(event="hello", data=str(number), retry=1000)
            while time.time() < visitor.until and (not word or site.visitors.session(word) is not None):
                if (newest := await site.watcher.changed(number)) is not None:
                    number = newest
                    yield ServerSentEvent(event=EVENT, data=str(number))
    finally:
        listeners.add(visitor.key, -1)

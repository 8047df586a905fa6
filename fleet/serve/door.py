"""Let in whom we know: by the cookie of a session, or by a token that comes with the request."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from fleet.serve.guard import too_many

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from fleet.serve.limits import Bucket
    from fleet.serve.settings import Settings
    from fleet.serve.visitors import Visitor, Visitors

ENTRY = "/enter"


class Door:
    """Stands behind the guard. `scope["state"]["visitor"]` says to all behind it who looks."""

    def __init__(self, app: ASGIApp, settings: Settings, visitors: Visitors, guesses: Bucket) -> None:
        self._app = app
        self._cookie = cookie_name(settings)
        self._visitors = visitors
        self._guesses = guesses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        token = _bearer(headers)
        if token is None:
            visitor = self._visitors.session(cookie(headers, self._cookie))
        else:
            visitor = self._visitors.bearer(token)
            client = scope.get("client")
            if visitor is None and (wait := self._guesses.take(client[0] if client else "")):
                await too_many(wait)(scope, receive, send)
                return
        if visitor is None:
            await _outside(scope, headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["visitor"] = visitor
        await self._app(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether anybody may have what is there: the page to come in by, and what pages are drawn with."""
    return path == ENTRY or path.startswith("/static/")


def visitor_of(scope: Scope) -> Visitor:
    """Return who looks."""
    found: Visitor = scope["state"]["visitor"]
    return found


def cookie_name(settings: Settings) -> str:
    """Return what the cookie of a session is called. Servers on one address have one each: cookies know no ports."""
    return "__Host-fleet" if settings.is_encrypted else f"fleet-{settings.port}"


def cookie(headers: Headers, name: str) -> str:
    """Return the value of a cookie; empty if there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return found[name].value if name in found else ""


def _bearer(headers: Headers) -> str | None:
    """Return the token that the request brings; None if it brings none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _outside(scope: Scope, headers: Headers) -> Response:
    """Return what somebody is told whom we do not know."""
    if "hx-request" in headers:
        return PlainTextResponse("Come in first.", 401, headers={"HX-Redirect": ENTRY})
    if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        return RedirectResponse(f"{ENTRY}?next={quote(scope['path'], safe='')}", 303)
    return PlainTextResponse("Bring a token: fleet token new makes one.", 401, headers={"WWW-Authenticate": "Bearer"})

"""Refuse what neither a page of ours nor a program with a token has sent, before anybody reads it.

Browsers say where a request comes from, and send cookies along whatever that is; SameSite knows no ports. So a request
of another page is refused by what the browser says of it, without a look at cookies. Pages of ours may load and send
nothing but our own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from fleet.serve.limits import Bucket

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from fleet.serve.settings import Settings

LARGEST = 64 << 10
"""Bytes of a request's body."""
SLOWEST = 10.0
"""Seconds in which a body has to arrive."""
METHODS = ("GET", "HEAD", "POST")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with less, browsers do not say which page posts a form
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""Every answer has these."""


class Guard:
    """Stands before the application."""

    def __init__(self, app: ASGIApp, settings: Settings, *, largest: int = LARGEST) -> None:
        self._app = app
        self._settings = settings
        self._largest = largest
        self.requests = Bucket(burst=120, per_second=30)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        send = _with_headers(send, is_encrypted=self._settings.is_encrypted)
        refusal = self._refusal(scope["method"], headers) or self._too_many(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _Body(receive, self._largest).receive, send)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        """Return the answer to what is not let through; None for all else."""
        named = headers.getlist("host")
        if len(named) != 1 or named[0].lower() not in self._settings.hosts:
            return PlainTextResponse("This server is not called that.", 421)
        if method not in METHODS:
            return PlainTextResponse("Only GET, HEAD and POST.", 405, headers={"Allow": ", ".join(METHODS)})
        if not self._is_ours(method, headers):
            return PlainTextResponse("This comes from a page that is not of this server.", 403)
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > 10 or int(length) > self._largest:
            return PlainTextResponse("That is too large.", 413, headers={"Connection": "close"})
        return None

    def _is_ours(self, method: str, headers: Headers) -> bool:
        """Whether a page of ours has sent this, a person by typing or by a link, or a program."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if origin is not None and origin not in self._settings.origins:
            return False
        if method == "POST":
            by_program = headers.get("authorization", "").lower().startswith("bearer ") and "cookie" not in headers
            return site == "same-origin" or (site is None and (origin is not None or by_program))
        is_visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return site in (None, "same-origin", "none") or is_visit

    def _too_many(self, scope: Scope) -> PlainTextResponse | None:
        client = scope.get("client")
        wait = self.requests.take(client[0] if client else "")
        return too_many(wait) if wait else None


def too_many(wait: float) -> PlainTextResponse:
    """Return the answer to whoever asks too often."""
    return PlainTextResponse("Too many requests: wait a moment.", 429, headers={"Retry-After": str(int(wait) + 1)})


class _Body:
    """Hands on the body of a request, as long as it is short and comes soon."""

    def __init__(self, receive: Receive, largest: int) -> None:
        self._receive = receive
        self._left = largest
        self._until = asyncio.get_running_loop().time() + SLOWEST
        self._is_whole = False

    async def receive(self) -> Message:
        """Return what comes next. Raise `HTTPException` if that is too much or too late."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The request took too long.", {"Connection": "close"}) from None
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, "That is too large.", {"Connection": "close"})
        return message


def _with_headers(send: Send, *, is_encrypted: bool) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if is_encrypted:
                headers["Strict-Transport-Security"] = "max-age=31536000"
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending

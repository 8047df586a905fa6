"""The tools of `fleet mcp` over HTTP, each call as the principal whose token comes with it."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse

from fleet.mcp.server import server
from fleet.policy import PrincipalKind
from fleet.serve.door import visitor_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

    from fleet.mcp.desk import Desk
    from fleet.serve.source import Source
    from fleet.serve.visitors import Visitor

PATH = "/mcp"


class Agents:
    """Answers at `PATH`. Tools that change something are there for agents whom principals.toml lets ask for that."""

    def __init__(self, source: Source, desk: Callable[[str], Desk]) -> None:
        """`desk` is that of a principal; with an empty name, of whoever this process acts as."""
        self._source = source
        self._asking: ContextVar[str] = ContextVar("asking")
        self._looking = self._app(desk, read_only=True)
        self._changing = self._app(desk, read_only=False)

    def _app(self, desk: Callable[[str], Desk], *, read_only: bool) -> Starlette:
        tools = server(lambda: desk(self._asking.get()), read_only=read_only)
        return tools.streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,
            json_response=True,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the guard does that
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer, while inside."""
        async with contextlib.AsyncExitStack() as stack:
            for app in (self._looking, self._changing):
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Only a token counts: a browser sends cookies along whatever it asks for."""
        visitor = visitor_of(scope)
        if not visitor.by_bearer:
            refused = PlainTextResponse("Bring a token.", 401, headers={"WWW-Authenticate": "Bearer"})
            await refused(scope, receive, send)
            return
        may_change = self._may_change(visitor)
        self._asking.set(visitor.name if may_change else "")
        await (self._changing if may_change else self._looking)(scope, receive, send)

    def _may_change(self, visitor: Visitor) -> bool:
        principals = self._source.principals
        known = principals.tables.get(visitor.name) if principals is not None else None
        return known is not None and known.kind is PrincipalKind.AGENT and known.may_request

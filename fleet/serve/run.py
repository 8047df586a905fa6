"""Serve until somebody asks for the end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn

from fleet.errors import ConfigError
from fleet.serve.app import application, new_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.mcp.desk import Desk
    from fleet.serve.guard import Guard
    from fleet.serve.settings import Settings
    from fleet.serve.source import Source

AT_ONCE = 300
"""Connections and requests at a time. Who comes when there are more is told to come later."""


def listening(settings: Settings) -> socket.socket:
    """Return a socket that listens at the address of the settings. Raise `ConfigError` if it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((settings.address, settings.port))
        opened.listen(100)  # who comes from now on is served
    except OSError as error:
        opened.close()
        where = f"{settings.address}:{settings.port}"
        raise ConfigError(f"cannot listen at {where}: {error.strerror}", hint="--listen names another port") from error
    return opened


def config_of(app: Guard, settings: Settings) -> uvicorn.Config:
    """Return how the application is served."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses may have words that let somebody in
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=3,
        limit_concurrency=AT_ONCE,
        h11_max_incomplete_event_size=32 << 10,
        ssl_certfile=str(settings.certificate) if settings.certificate else None,
        ssl_keyfile=str(settings.key) if settings.key else None,
        http="h11",
        ws="none",
        lifespan="on",
    )


async def serve(
    source: Source, settings: Settings, desk: Callable[[str], Desk], tell: Callable[[str, str], None]
) -> None:
    """Serve the fleet, and its tools at the desk of each principal.

    `tell` gets the address, and the word that lets in the first who comes, when both are good.
    """
    site = new_site(source, settings, desk)
    opened = listening(settings)
    tell(settings.url, site.visitors.new_link())
    await uvicorn.Server(config_of(application(site), settings)).serve(sockets=[opened])

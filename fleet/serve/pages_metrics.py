"""What Prometheus reads: the same as `[metrics]` in fleet.toml writes to a file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

from fleet.library.metrics import Known, samples, text
from fleet.serve.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from fleet.serve.picture import Picture

FORMAT = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(request: Request) -> Response:
    """Tell what is known of the fleet now. No host is asked."""
    found = await asyncio.to_thread(_metrics, site_of(request).picture)
    return PlainTextResponse(found, headers={"Content-Type": FORMAT})


def _metrics(picture: Picture) -> str:
    known = Known(
        inventory=picture.inventory,
        runs=[(run.record, run.is_under_way) for run in picture.runs],
        seen={name: one.last for name, one in picture.watched.items() if one.last is not None},
        waiting=[one.waits for one in picture.watched.values() if one.waits is not None],
    )
    return text(samples(known))

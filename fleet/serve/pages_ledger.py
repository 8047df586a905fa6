"""The ledger of this machine, and whether it is as it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError
from fleet.ledger.chain import parse
from fleet.ledger.entries import OURS
from fleet.serve.site import number_of, paged, site_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

FRESH = 5.0
"""Seconds for which the entries are shown again, and `VERIFIED` for what was found about them."""
VERIFIED = 60.0
SHOWN = (*OURS, "run", "host", "plan")
"""What a page shows in a place of its own, or not at all."""


async def ledger(request: Request) -> Response:
    """Show the entries, newest first."""
    site = site_of(request)
    entries = await site.asking.answer("ledger", site.fleet.ledger.entries, fresh=FRESH)
    page, pages, part = paged(len(entries), number_of(request, "page"))
    rows = [(number, body, _more(body)) for number, line in entries[::-1][part] for body in [parse(line)]]
    report, error = None, None
    try:
        report = await site.asking.answer(("verify", len(entries)), site.fleet.ledger.verify, fresh=VERIFIED)
    except FleetError as caught:
        error = caught
    return site.page(
        request, "ledger.html", rows=rows, total=len(entries), page=page, pages=pages, report=report, error=error
    )


def _more(body: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return what an entry tells beside what has a place of its own."""
    told = {key: value for key, value in (body or {}).items() if key not in SHOWN and value not in ("", None)}
    return [(key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for key, value in told.items()]

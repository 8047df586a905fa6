"""The plans that this machine keeps, one of them, and what it changes on a host."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from fleet.errors import ConfigError, FleetError
from fleet.events import FindingReported, HostPlanned
from fleet.plans.announce import announced
from fleet.serve.site import number_of, paged, site_of
from fleet.serve.standing import standing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from fleet.plans import Plan
    from fleet.serve.site import Site

DAY = 86_400.0
"""Seconds for which a comparison is shown again: a plan brings the same to the same system."""
MOST = 200
"""Plans that are listed."""


async def plans(request: Request) -> Response:
    """List the plans, newest first."""
    site = site_of(request)
    records = (await site.fleet.kept_plans())[:MOST]
    heads = [head for record in records if (head := await site.heads.head(site.fleet, record.digest)) is not None]
    used = {run.record.plan: run for run in reversed(site.picture.runs) if run.record.plan}
    return site.page(request, "plans.html", heads=heads, used=used, clock=time.time())


async def plan(request: Request) -> Response:
    """Show what a plan would do, whether it may be applied, and who has to agree."""
    site = site_of(request)
    found = await _plan(site, request)
    events = list(announced(found, frozenset(found.hosts)))
    planned = [event for event in events if isinstance(event, HostPlanned)]
    findings = [event for event in events if isinstance(event, FindingReported)]
    about: dict[str, list[FindingReported]] = {}
    for finding in findings:
        about.setdefault(finding.host or "", []).append(finding)
    page, pages, part = paged(len(planned), number_of(request, "page"))
    return site.page(
        request,
        "plan.html",
        plan=found,
        standing=await standing(site, found),
        rows=planned[part],
        about=about,
        actions=Counter(event.action for event in planned),
        push=sum(event.missing_bytes - event.substitute_bytes for event in planned),
        reboots=[event.host for event in planned if event.reboot],
        sources=[found.source, *(other.source for other in found.other_sources)],
        page=page,
        pages=pages,
        runs=[run for run in site.picture.runs if run.record.plan == found.digest],
        clock=time.time(),
    )


async def diff(request: Request) -> Response:
    """Show what would differ on one host of a plan."""
    site = site_of(request)
    found = await _plan(site, request)
    name = next((name for name in found.hosts if name == request.path_params["name"]), None)
    if name is None or name not in site.fleet.inventory.hosts:
        raise HTTPException(404, "This host is not in the plan.")
    if not site.settings.asks:
        raise HTTPException(403, "This server asks no hosts.")
    error, difference = None, None
    try:
        answers = await site.asking.answer(
            ("diff", found.digest, name), lambda: site.fleet.compare(found, name), fresh=DAY
        )
        difference = answers.get(name)
        if isinstance(difference, FleetError):
            error, difference = difference, None
    except FleetError as caught:
        error = caught
    return site.page(request, "diff.html", plan=found, name=name, diff=difference, error=error)


async def _plan(site: Site, request: Request) -> Plan:
    digest = request.path_params["digest"]
    if re.fullmatch(r"[0-9a-f]{6,64}", digest) is None:
        raise HTTPException(404, "That is no digest of a plan.")
    try:
        return await site.heads.plan(site.fleet, digest)
    except ConfigError as error:
        raise HTTPException(404, error.message) from error

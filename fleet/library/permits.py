"""What allows a run to begin: it is asked for once the run is on record, and before anything is touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.deploy.context import Context
    from fleet.events import PolicyApplied

Permit = Callable[[], Awaitable["PolicyApplied | None"]]
"""Returns what there is to tell of the policy, or raises `PolicyError`."""


async def anything() -> PolicyApplied | None:
    """Allow what belongs to something that was allowed before, such as taking it back."""
    return None


def permitted(context: Context, applied: PolicyApplied | None) -> Context:
    """Tell of the policy, and return the context in which the run goes on."""
    if applied is None:
        return context
    context.journal.emit(applied)
    if not applied.broken_by:
        return context
    context.journal.need_not_record()
    return dataclasses.replace(context, break_glass=f"break-glass by {applied.broken_by}: {applied.reason}")

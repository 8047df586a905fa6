"""Keep plans that were just made, together with the connections and facts of their hosts.

A plan that is applied at once needs no second look at its hosts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping, Sequence

    from fleet.deploy.context import Context
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.steps.job import Job


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known when a plan is applied."""

    selected: Sequence[HostName]
    """All hosts that were selected, including those that nothing will happen to."""
    jobs: Mapping[HostName, Job]
    is_late: bool = False
    """Whether it brings hosts what they have missed."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A plan that was made in this process and is not applied yet."""

    context: Context
    hosts: tuple[HostName, ...]
    """All hosts that were selected, including those that nothing will happen to."""
    jobs: Mapping[HostName, Job]
    is_late: bool = False
    """Whether it brings hosts what they have missed."""
    resources: contextlib.AsyncExitStack
    """Open connections and files. Whoever takes the draft closes them."""

    def applied(self) -> Known:
        """Return what is known when the draft goes on as the run that it began."""
        return Known(selected=self.hosts, jobs=self.jobs, is_late=self.is_late)


class Drafts:
    """The drafts of one fleet."""

    def __init__(self) -> None:
        self._drafts: dict[str, list[Draft]] = {}
        """Drafts by the digest of their plan. Plans that were made in the same second may be equal."""

    def keep(self, digest: str, draft: Draft) -> None:
        """Keep the draft of the plan with this digest until somebody takes it, or all are closed."""
        self._drafts.setdefault(digest, []).append(draft)

    def take(self, plan: Plan) -> Draft | None:
        """Remove and return a draft of the plan; None if it was taken before, or made elsewhere."""
        drafts = self._drafts.get(plan.digest)
        return drafts.pop() if drafts else None

    def find(self, plan: Plan) -> Draft | None:
        """Return the draft that `take` would return, and keep it."""
        drafts = self._drafts.get(plan.digest)
        return drafts[-1] if drafts else None

    async def close(self) -> None:
        """Close everything that is open for the remaining drafts."""
        drafts, self._drafts = [draft for equals in self._drafts.values() for draft in equals], {}
        for draft in drafts:
            await draft.resources.aclose()

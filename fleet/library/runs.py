"""The plannings and runs that the library hands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fleet.deploy import result
from fleet.deploy.run import RunResult
from fleet.library.work import Work
from fleet.plans import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleet.deploy.journal import Journal
    from fleet.deploy.stop import Stop
    from fleet.events import Envelope
    from fleet.model import HostName, HostResult, RunId

    OnEnvelope = Callable[[Envelope], None]

T = TypeVar("T")


class _JournalWork(Work[T]):
    """Work whose events and results are in a journal."""

    def __init__(self, journal: Journal, stop: Stop, start: Callable[[OnEnvelope], Coroutine[None, None, T]]) -> None:
        self._journal = journal
        self.stop = stop
        """Ends the work early when it is asked to."""
        super().__init__(start)

    @property
    def contacted(self) -> tuple[HostName, ...]:
        """The hosts that are being contacted now and have not answered yet."""
        return tuple(self._journal.contacted)

    @property
    def results(self) -> tuple[HostResult, ...]:
        """The results so far. Of a planning: of hosts that stand on their closure already, or cannot take part."""
        return tuple(self._journal.results.values())

    @property
    def untold(self) -> tuple[str, ...]:
        """Who could not be told how it has ended, and why. Known when the work is done."""
        return tuple(self._journal.untold)


class Planning(_JournalWork[Plan]):
    """A plan that is being made. Await it to get the plan; raises `FleetError` if there can be none."""

    @property
    def run(self) -> RunId:
        """The id of the run that begins with this planning.

        The first `apply` of the plan by the same fleet goes on with that run, unless the verb is `Verb.PLAN`.
        """
        return self._journal.run

    @property
    def exit_code(self) -> int:
        """The exit code of a command that only makes the plan."""
        ended = self._journal.record.exit_code
        return result.exit_code(self.results) if ended is None else ended


class Run(_JournalWork[RunResult]):
    """A run that goes on. Await it to get its result; it never raises because of what happens to hosts."""

    @property
    def id(self) -> RunId:
        """The id by which `fleet resume` and the hosts know the run."""
        return self._journal.run

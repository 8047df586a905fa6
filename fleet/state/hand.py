"""One rollout in the hands of one process for a moment: to decide what comes next, or to write what was seen."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fleet.events import HostFinished
from fleet.state import queries, shares
from fleet.state.joint import StoredRecord
from fleet.state.shares import Share, ShareState, Step

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fleet.events import Event
    from fleet.model import HostName, HostResult, Outcome, RunId
    from fleet.state.entered import Entered
    from fleet.state.jobs import Jobs
    from fleet.state.ledgers import StoredLedger
    from fleet.state.session import Session
    from fleet.state.shares import Rollout

MANY = 1 << 30
"""More waves than there are."""
UNDER_WAY = (ShareState.QUEUED, ShareState.DOING)


class Hand(StoredRecord):
    """The record of a rollout that workers carry out, and its rows. It is good for one transaction of the caller."""

    def __init__(
        self,
        session: Session,
        rollout: Rollout,
        by: str,
        ledger: StoredLedger,
        entered: Entered | None,
        jobs: Jobs,
    ) -> None:
        """The row of the rollout is locked."""
        super().__init__(session, rollout.run, by, ledger, entered)
        self._session = session
        self._jobs = jobs
        self.rollout = rollout
        """What its row says."""

    @property
    def run(self) -> RunId:
        """The id of the run."""
        return self.rollout.run

    def note(self, **changes: Any) -> None:
        """Write how far the rollout has come."""
        self.rollout = dataclasses.replace(self.rollout, **changes)
        shares.set_rollout(self._session, self.rollout)

    def under_way(self) -> int:
        """Return how many hosts are under way, or may begin as soon as a worker is free."""
        return shares.count(self._session, self.run, *UNDER_WAY)

    def waiting(self, wave: int = 0, most: int = 0) -> list[Share]:
        """Return the hosts that wait for their turn: of one wave if it is given, and `most` if that is."""
        return shares.shares(self._session, self.run, ShareState.WAITING, wave=wave, most=most)

    def outcomes(self, since: int, until: int = MANY) -> dict[HostName, Outcome | None]:
        """Return the hosts of these waves, each with its outcome; None if it has none."""
        return shares.outcomes(self._session, self.run, since, until)

    def queue(self, those: Sequence[Share], step: Step = Step.DELIVER) -> None:
        """Let workers take these shares."""
        for share in those:
            changed = dataclasses.replace(share, state=ShareState.QUEUED, step=step, worker="", said="")
            shares.set_share(self._session, self.run, changed)
        self._jobs.add(self._session, self.run, those)

    def soak(self, hosts: Collection[HostName]) -> None:
        """Let workers watch these hosts, which have ended."""
        ended = shares.shares(self._session, self.run, ShareState.ENDED)
        those = [dataclasses.replace(share, attempt=0) for share in ended if share.host in hosts]
        self.queue(those, Step.SOAK)

    def soaked(self) -> dict[HostName, str]:
        """Return the hosts that were watched, each with what was wrong with it; nothing if it stayed well."""
        ended = shares.shares(self._session, self.run, ShareState.ENDED)
        return {share.host: share.said for share in ended if share.step is Step.SOAK}

    def result_of(self, host: HostName) -> HostResult | None:
        """Return the result of a host; None if it has none."""
        found = list(queries.envelopes(queries.record_of_host(self._session, self.run, host)))
        results = [one.event.result for one in found if isinstance(one.event, HostFinished)]
        return results[-1] if results else None

    def close_soak(self) -> None:
        """Note that nobody is watched any more."""
        for share in shares.shares(self._session, self.run, ShareState.ENDED):
            if share.step is Step.SOAK:
                closed = dataclasses.replace(share, step=Step.DELIVER, said="")
                shares.set_share(self._session, self.run, closed)

    def skip(self, result: HostResult) -> None:
        """Give a host whose turn has not come its result."""
        self.finish(result)
        if (share := shares.share(self._session, self.run, result.host)) is not None:
            self._end(share, result)

    def say(self, events: Sequence[Event], worker: str, counted: Collection[HostName]) -> set[HostName]:
        """Tell what a worker has seen, and end the shares of those hosts that have a result. `counted` ended badly.

        What it says of hosts that somebody has taken from it is not told; they are returned.
        """
        hosts = {host for event in events if (host := getattr(event, "host", None)) is not None}
        owned = shares.owned(self._session, self.run, worker, hosts)
        told: list[Event] = []
        for event in events:
            host = getattr(event, "host", None)
            if host is not None and host not in owned:
                continue
            if not isinstance(event, HostFinished):
                told.append(event)
                continue
            self.tell(*told)
            told.clear()
            if self.finish(event.result) is not None and event.host in counted:
                self.note(bad=self.rollout.bad + 1)
            if (share := shares.share(self._session, self.run, event.host)) is not None:
                self._end(share, event.result)
        self.tell(*told)
        return hosts - owned

    def end_soak(self, host: HostName, worker: str, said: str) -> None:
        """Note what was wrong with a host that was watched, unless somebody has taken it from this worker."""
        share = shares.share(self._session, self.run, host)
        if share is not None and share.state is ShareState.DOING and share.worker == worker:
            ended = dataclasses.replace(share, state=ShareState.ENDED, worker="", said=said)
            shares.set_share(self._session, self.run, ended)

    def worsen(self, result: HostResult) -> None:
        """Tell the second result of a host that was kept and got unwell while it was watched."""
        self.tell(HostFinished(host=result.host, result=result))
        self.note(bad=self.rollout.bad + 1)

    def _end(self, share: Share, result: HostResult) -> None:
        ended = dataclasses.replace(share, state=ShareState.ENDED, worker="", outcome=result.outcome.value)
        shares.set_share(self._session, self.run, ended)

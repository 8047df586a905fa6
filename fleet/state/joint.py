"""Write the record of a run together with other processes. Each of them has it alone for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.events import Envelopes, HostFinished
from fleet.state import queries
from fleet.state.interface import JointRecord
from fleet.state.records import NOT_KEPT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.events import Envelope, Event
    from fleet.model import HostName, HostResult, RunId
    from fleet.state.database import Connection
    from fleet.state.entered import Entered
    from fleet.state.interface import Request
    from fleet.state.ledgers import StoredLedger


class StoredRecord(JointRecord):
    """See `JointRecord`. It is good for one transaction of the caller, which writes."""

    def __init__(
        self, connection: Connection, run: RunId, by: str, ledger: StoredLedger, entered: Entered | None
    ) -> None:
        """The run has a row."""
        self._connection = connection
        self._run = run
        self._ledger = ledger
        self._entered = entered
        self._envelopes = Envelopes(run, by, after=queries.last_number(connection, run) or 0)
        self.taken: list[Path] = []
        """Files of the ledger to remove when the transaction has been committed."""

    @property
    def request(self) -> Request | None:
        return queries.request(self._connection, self._run)

    def has_ended(self, host: HostName) -> bool:
        return queries.has_host_ended(self._connection, self._run, host)

    def tell(self, *events: Event) -> Sequence[Envelope]:
        told = [self._envelopes.wrap(event) for event in events if not isinstance(event, NOT_KEPT)]
        queries.add_events(self._connection, told)
        entries = list(self._entered.entries(told)) if self._entered is not None else []
        if entries:
            self.taken += self._ledger.add(self._connection, entries)[1]
        return told

    def finish(self, result: HostResult) -> Envelope | None:
        if self.has_ended(result.host):
            return None
        return self.tell(HostFinished(host=result.host, result=result))[0]

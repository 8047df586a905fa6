"""Say which events of a run come into the ledger too, and as which entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.events import HostFinished, PolicyApplied, RunFinished, SecretsCompared
from fleet.ledger import Entry, Kind
from fleet.model import Outcome, Verb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fleet.events import Envelope
    from fleet.model import HostName, HostResult, RunId


class Entered:
    """Which events of a run are entered in the ledger too, together with their storing: none, until it has begun."""

    def __init__(self, origin: str, verb: Verb) -> None:
        """`origin` is the name of this machine."""
        self.origin = origin
        self.verb = verb
        self._hosts: frozenset[HostName] = frozenset()
        self._is_begun = False
        self._secrets: dict[HostName, tuple[str, ...]] = {}
        """The secrets of each host that get another value if it keeps its new system."""

    def begin(self, hosts: Iterable[HostName]) -> None:
        """From now on the ends of these hosts are entered, and the end of the run."""
        self._hosts |= frozenset(hosts)
        self._is_begun = True

    def entries(self, envelopes: Iterable[Envelope]) -> Iterator[Entry]:
        """Yield the entries for these events."""
        for one in envelopes:
            match one.event:
                case SecretsCompared(host=host, changed=changed):
                    self._secrets[host] = changed
                case HostFinished(host=host, result=result) if host in self._hosts:
                    kept = self._secrets.get(host, ()) if result.outcome is Outcome.KEPT else ()
                    for name in kept:
                        yield self._entry(one, Kind.SECRET_CHANGED, run=one.run, host=host, secret=name)
                    yield self._entry(one, _kind(result, self.verb), **_values(one.run, result))
                case PolicyApplied(satisfied=who) if who:
                    yield self._entry(one, Kind.APPROVAL, run=one.run, why=who)
                case RunFinished(exit_code=code, error=error) if self._is_begun:
                    why = error.message if error is not None else None
                    yield self._entry(one, Kind.END, run=one.run, exit_code=code, why=why)

    def _entry(self, envelope: Envelope, kind: Kind, **values: Any) -> Entry:
        return Entry(kind=kind, by=envelope.by, origin=self.origin, at=int(envelope.at), values=values)


def _kind(result: HostResult, verb: Verb) -> Kind:
    if result.outcome is Outcome.ROLLED_BACK:
        return Kind.REVERT
    is_committed = result.outcome is Outcome.KEPT and result.boot_default is not False and verb is not Verb.REBOOT
    return Kind.COMMIT if is_committed else Kind.RESULT


def _values(run: RunId, result: HostResult) -> dict[str, Any]:
    failure = result.failure
    return {
        "run": run,
        "host": result.host,
        "outcome": result.outcome.value,
        "new": result.closure,
        "old": result.previous,
        "failure": failure.kind.value if failure is not None else None,
        "why": failure.message if failure is not None else None,
    }

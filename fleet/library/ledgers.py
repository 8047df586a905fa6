"""Read the ledger of this machine, and verify it, by itself and by what hosts and plans have kept of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fleet.errors import ConfigError, FleetError
from fleet.files import read_file
from fleet.ledger import Head
from fleet.ledger.chain import Begun, Chain, against_note, read_chain
from fleet.ledger.witnesses import Verdict, Witness, hear
from fleet.library import entering
from fleet.library.reading import ignore
from fleet.model import RunId
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from fleet.host.history import PastTransaction
    from fleet.ledger import Kind
    from fleet.ledger.chain import Wrong
    from fleet.ledger.entries import Value
    from fleet.ledger.keeper import Kept
    from fleet.library.reading import OnWait
    from fleet.library.tools import Tools
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.state import State

LARGEST = 1 << 28
"""The most bytes of an export that are read: half a million entries."""
Histories = dict["HostName", "tuple[PastTransaction, ...] | FleetError"]
_HEAD_LINE = re.compile(r"^ledger ([0-9a-f]+ [0-9]+ [0-9a-f]+)$", re.MULTILINE)


class History(Protocol):
    """Asks hosts what they remember of their transactions."""

    def __call__(self, *selectors: str, on_wait: OnWait) -> Coroutine[None, None, Histories]: ...


@dataclass(frozen=True, kw_only=True)
class LedgerReport:
    """What was found about a ledger."""

    verdict: Verdict
    begun: tuple[Begun, ...]
    """The runs that have begun and have no end, and that nobody works on."""
    under_way: tuple[Begun, ...]
    """The same, of runs that are under way on this machine."""
    waiting: int
    """How many files of entries could not be entered yet."""
    put_aside: tuple[Path, ...]
    """Such files that cannot be read."""
    not_asked: Mapping[HostName, FleetError]
    """The hosts that could not be asked, and why."""

    @property
    def chain(self) -> Chain:
        """The entries, up to the first wrong one."""
        return self.verdict.chain

    @property
    def wrong(self) -> Wrong | None:
        """The first wrong entry; None if none is known to be."""
        return self.chain.wrong

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong or unfinished, and everybody who was to be asked has answered."""
        return not (self.wrong or self.begun or self.verdict.contradicting or self.put_aside or self.not_asked)


class FleetLedger:
    """The ledger of one fleet on this machine."""

    def __init__(self, tools: Tools, history: History) -> None:
        """Use `FleetReader.ledger` instead. `history` asks hosts what they remember."""
        self._tools = tools
        self._history = history

    async def enter(self, kind: Kind, *, waits: bool = True, **values: Value) -> Head | None:
        """Enter something that somebody has done. See `entering.enter`."""
        return await entering.enter(self._tools, kind, waits=waits, **values)

    async def entries(self) -> Sequence[tuple[int, str]]:
        """Return all entries as lines of JSON, each with the number by which it is kept.

        What waits to be entered is entered before, if that is possible now. Raise `StateError`.
        """
        return (await in_state(_read, self._tools.state)).lines

    async def verify(
        self,
        *hosts: HostName,
        plans: Mapping[str, Plan] | None = None,
        export: Path | None = None,
        on_wait: OnWait = ignore,
    ) -> LedgerReport:
        """Verify this ledger, or one that was exported to a file.

        It is compared with what these hosts remember, and with these plans by their names; this ledger also with the
        plans that this machine keeps. Raise `ConfigError` if the file cannot be read, and `StateError` if the ledger
        cannot.
        """
        histories = await self._history(*hosts, on_wait=on_wait) if hosts else {}
        given = [*_of_hosts(histories), *_of_plans(plans or {})]
        state = self._tools.state
        if export is None:
            verdict, open_ = await in_state(_judge, state, given)
        else:
            chain = read_chain(await asyncio.to_thread(_read_export, export))
            verdict, open_ = hear(chain, given, chain.runs), frozenset()
        begun = verdict.chain.begun.values()
        return LedgerReport(
            verdict=verdict,
            begun=tuple(one for one in begun if one.run not in open_),
            under_way=tuple(one for one in begun if one.run in open_),
            waiting=state.ledger.kept_for_later() if export is None else 0,
            put_aside=tuple(state.ledger.put_aside()) if export is None else (),
            not_asked={name: told for name, told in histories.items() if isinstance(told, FleetError)},
        )


def _read(state: State) -> Kept:
    """Return the ledger, after entering what waits for that."""
    state.catch_up()
    return state.ledger.read()


def _chain(state: State) -> Chain:
    kept = _read(state)
    return against_note(read_chain(kept.lines), kept.noted)


def _judge(state: State, given: Sequence[Witness]) -> tuple[Verdict, frozenset[str]]:
    """Return what witnesses say of this machine's ledger, and which of its runs are under way now."""
    chain = _chain(state)
    left = chain.begun.keys() - state.under_way([RunId(run) for run in chain.begun])
    if left:
        chain = _chain(state)  # one may have ended after the first look at it
    runs = {*chain.runs, *(run.id for run in state.runs())}
    return hear(chain, [*given, *_of_kept_plans(state)], runs), frozenset(chain.begun.keys() - left)


def _read_export(file: Path) -> list[tuple[None, str]]:
    try:
        text = read_file(file, most=LARGEST).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    return [(None, line) for line in text.removesuffix("\n").split("\n")] if text else []


def _of_hosts(histories: Histories) -> Iterator[Witness]:
    """Yield the heads that hosts have kept."""
    for name, told in histories.items():
        for past in told if not isinstance(told, FleetError) else ():
            yield from _witness(name, past.ledger, past.run)


def _of_plans(plans: Mapping[str, Plan]) -> Iterator[Witness]:
    for name, plan in plans.items():
        yield from _witness(name, plan.ledger, "")


def _of_kept_plans(state: State) -> Iterator[Witness]:
    """Yield the heads in the plans that this machine keeps."""
    for record in state.plans():
        with contextlib.suppress(ConfigError):  # it has been tidied away meanwhile
            if (line := _HEAD_LINE.search(state.plan(record.digest))) is not None:
                yield from _witness("a plan that is kept here", line[1], "")


def _witness(who: str, head: str, run: str) -> Iterator[Witness]:
    with contextlib.suppress(ValueError):  # there was no ledger, or it is no head
        yield Witness(who, Head.parse(head), run)

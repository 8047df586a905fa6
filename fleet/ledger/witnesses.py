"""Compare a ledger with the heads that hosts and plans have kept of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.ledger.chain import Chain, How, Wrong

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from fleet.ledger.entries import Head


@dataclass(frozen=True)
class Witness:
    """A head that somebody has kept."""

    who: str
    """The host, or the plan, that has it."""
    head: Head
    run: str = ""
    """The run that it came with; empty if it came with none."""


@dataclass(frozen=True)
class Verdict:
    """What the witnesses say of a ledger."""

    chain: Chain
    """The ledger. If it was right before, the first wrong entry by what they say."""
    agreeing: Counter[str]
    """How many heads of each witness the ledger has."""
    contradicting: Sequence[Witness]
    """Those whose head it does not have, though it is of this ledger. Those that need all of it come last."""
    others: Counter[str]
    """How many heads there are of other ledgers, by their ids."""


def hear(chain: Chain, witnesses: Iterable[Witness], known_runs: Collection[str]) -> Verdict:
    """Compare the ledger with what witnesses have kept.

    `known_runs` are all runs of this machine: a head of another ledger that came with one of them shows that this
    ledger has taken the place of that one.
    """
    agreeing: Counter[str] = Counter()
    others: Counter[str] = Counter()
    against: list[Witness] = []
    agreed = {0}
    for one in witnesses:
        if one.head.ledger != chain.ledger:
            others[one.head.ledger] += 1
            if one.run and one.run in known_runs:
                against.append(one)
        elif one.head.size <= len(chain.hashes) and chain.hashes[one.head.size - 1] == one.head.hash:
            agreeing[one.who] += 1
            agreed.add(one.head.size)
        elif chain.wrong is None or one.head.size < chain.wrong.entry:  # else it only confirms what is wrong already
            against.append(one)
    against.sort(key=lambda one: (one.head.ledger == chain.ledger, one.head.size, one.who))
    if against and (wrong := _first_wrong(chain, against[0], agreed)) is not None:
        chain = dataclasses.replace(chain, wrong=wrong)
    return Verdict(chain, agreeing, against, others)


def _first_wrong(chain: Chain, first: Witness, agreed: Collection[int]) -> Wrong | None:
    """Return the first wrong entry by the witness with the smallest head that the ledger does not have.

    `agreed` has the sizes of the heads that it has. Larger ones clear nobody: they may be of after the rewrite.
    """
    head, who = first.head, first.who
    if head.ledger != chain.ledger:
        message = f"{who} has run {first.run} from ledger {head.ledger}, whose place this one has taken"
        return Wrong(1, How.REWRITTEN, message)
    size = len(chain.hashes)
    if head.size > size:
        message = f"{who} has seen {head.size} entries, and the ledger ends before it"
        return chain.wrong or Wrong(size + 1, How.CUT, message)
    begin = max(size for size in agreed if size < head.size) + 1
    since = f": it, or one of those since entry {begin}, was written anew" if begin < head.size else ""
    return Wrong(begin, How.REWRITTEN, f"{who} has seen another entry {head.size}{since}")

"""Build the JSON documents of `fleet ledger`. docs/json.md describes each; a test compares them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fleet.ledger.chain import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.library.ledgers import LedgerReport

Document = dict[str, Any]


def shown(entries: Sequence[tuple[int, str]], *, most: int) -> Document:
    """Describe the last entries of a ledger, oldest first. One that is not as it was written has its number alone."""
    bodies = [parse(line) or {"entry": number} for number, line in entries]
    last = bodies[-1] if bodies else {}
    return {
        "ledger": bodies[0].get("ledger") if bodies else None,
        "size": len(bodies),
        "head": last.get("hash"),
        "entries": bodies[-most:],
    }


def verified(report: LedgerReport) -> Document:
    """Describe what was found about a ledger."""
    verdict, head = report.verdict, report.chain.head
    against = [
        {"who": one.who, "run": one.run, "ledger": one.head.ledger, "size": one.head.size, "head": one.head.hash}
        for one in verdict.contradicting
    ]
    return {
        "good": report.is_good,
        "ledger": report.chain.ledger or None,
        "size": head.size if head is not None else 0,
        "head": head.hash if head is not None else None,
        "wrong": dataclasses.asdict(report.wrong) if report.wrong is not None else None,
        "unfinished": [dataclasses.asdict(run) for run in report.begun],
        "under_way": [dataclasses.asdict(run) for run in report.under_way],
        "agreeing": dict(verdict.agreeing),
        "contradicting": against,
        "others": dict(verdict.others),
        "waiting": report.waiting,
        "put_aside": [str(file) for file in report.put_aside],
        "errors": {name: dataclasses.asdict(error.failure()) for name, error in report.not_asked.items()},
    }

"""Write the ledger, and what was found about it, as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.ledger.chain import parse
from fleet.ledger.entries import OURS, Kind
from fleet.model import Closure, HostName
from fleet.output.format import change, counted
from fleet.output.table import table
from fleet.text import listed, local_time, plain_text, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleet.ledger.chain import Begun
    from fleet.library.ledgers import LedgerReport

_SHOWN = (*OURS, "run", "host")
"""What has a column of its own, or tells nobody anything."""


def entry_lines(entries: Sequence[tuple[int, str]], *, is_terminal: bool) -> str:
    """Return the entries as a table, newest first."""
    headers = ("entry", "when", "what", "by", "run", "host", "more")
    return table(headers, [_row(number, line) for number, line in reversed(entries)], is_terminal=is_terminal)


def _row(number: int, line: str) -> tuple[str, ...]:
    body = parse(line)
    if body is None:
        return (str(number), "-", "not as it was written", "-", "-", "-", "fleet ledger verify")
    told = {key: plain_text(str(body.get(key, ""))) for key in ("by", "from", "kind", "run", "host")}
    at = body.get("at")
    return (
        str(number),
        local_time(at) if isinstance(at, int) else "?",
        told["kind"].replace("_", " "),
        f"{told['by']}@{told['from']}" if told["from"] else told["by"] or "-",
        told["run"] or "-",
        told["host"] or "-",
        plain_text(_more(body)) or "-",
    )


def _more(body: Mapping[str, Any]) -> str:
    """Return what an entry tells beside what has a column."""
    match body.get("kind"):
        case Kind.PLAN:
            count = counted(whole_number(str(body.get("count"))), "host")
            words = [_short(body.get("plan")), body.get("verb"), count, body.get("intent")]
        case Kind.BEGIN:
            hosts = body.get("hosts")
            words = [listed([str(name) for name in hosts] if isinstance(hosts, list) else []), body.get("intent")]
        case Kind.COMMIT | Kind.REVERT | Kind.RESULT:
            is_other = body.get("kind") == Kind.RESULT
            old, new = (Closure(str(body.get(key, ""))) for key in ("old", "new"))
            system = change(old, new, HostName(str(body.get("host", ""))))
            words = [body.get("outcome") if is_other else system, body.get("why")]
        case Kind.END:
            words = [f"exit code {body.get('exit_code')}", body.get("why")]
        case _:
            words = [f"{key} {value}" for key, value in body.items() if key not in _SHOWN]
    return "; ".join(str(word) for word in words if word)


def _short(digest: object) -> str:
    return str(digest)[:12]


def report_lines(report: LedgerReport) -> Iterator[str]:
    """Yield what was found about the ledger, the worst first."""
    chain, verdict = report.chain, report.verdict
    if (wrong := report.wrong) is not None:
        yield f"entry {wrong.entry} is wrong ({wrong.how.value}): {wrong.message}"
        yield f"  nothing speaks against the {wrong.entry - 1} entries before it"
    for one in verdict.contradicting:
        what = f"ledger {one.head.ledger}, " if one.head.ledger != chain.ledger else ""
        came = f", with run {one.run}" if one.run else ""
        yield f"{one.who}: has another head: {what}{one.head.size} entries, {one.head.hash}{came}"
    for run in report.begun:
        yield f"entry {run.entry}: run {run.run} has begun, and {_missing(run)}: fleet resume {run.run}"
    for file in report.put_aside:
        yield f"{file}: has entries that cannot be read, and that are not in the ledger"
    for run in report.under_way:
        yield f"run {run.run} is under way: {_missing(run)} yet"
    if report.waiting:
        yield f"{report.waiting} files of entries wait, since the ledger cannot be written now"
    if verdict.others:
        yield f"{listed(sorted(verdict.others))}: other ledgers, of other machines, that hosts or plans have heads of"
    if verdict.agreeing:
        yield f"{listed(sorted(verdict.agreeing))}: agree, by {sum(verdict.agreeing.values())} heads"
    if chain.head is not None and report.wrong is None:
        yield f"ledger {chain.ledger}: {chain.head.size} entries, head {chain.head.hash}"
    elif report.wrong is None:
        yield "there is no ledger yet: the first deployment from here opens it"


def _missing(run: Begun) -> str:
    if not run.hosts:
        return "nothing says that it has ended"
    return f"nothing says how it ended on {listed(list(run.hosts))}"

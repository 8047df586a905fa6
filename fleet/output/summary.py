"""Show the results of a run, and a plan, as text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fleet.model import Failure, HostName, HostResult, Outcome
from fleet.output.facts import fetched, outcome_words, pushed
from fleet.output.findings import anonymous, finding_lines
from fleet.output.format import change, counted, failure_lines, human_bytes, human_seconds, one_line
from fleet.output.patch import coloured
from fleet.output.table import table
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.events import FindingReported, HostPlanned, RunFinished


ALWAYS = ("host", "action", "running → wanted", "push", "reboot")
"""Columns of a plan that are shown even if they are empty."""

MANY_ALIKE = 30
"""The most hosts that are well in the same way and are shown one by one. If there are more, only the totals count them,
or one row if there is something to say about them."""


def summary_lines(finished: RunFinished, *, is_terminal: bool = False) -> list[str]:
    """Return what became of each host, why hosts failed, and the totals."""
    lines: list[str] = []
    if rows := _result_rows(finished.hosts):
        headers: tuple[str, ...] = ("host", "outcome", "system", "time", "notes")
        if not any(row[-1] for row in rows):
            headers, rows = headers[:-1], [row[:-1] for row in rows]
        lines += table(headers, rows, is_terminal=is_terminal).splitlines()
    well = {result.host for result in finished.hosts if result.is_good}
    for hosts, failure in grouped_failures(finished.hosts):
        label = "note" if well.issuperset(hosts) else "error"
        lines += ["", *_coloured(failure_lines(hosts, failure, label=label), is_terminal=is_terminal)]
    if finished.error is not None:
        lines += ["", *_coloured(failure_lines((), finished.error), is_terminal=is_terminal)]
    if finished.hosts:
        lines += ["", totals(finished.hosts)]
    return lines[1:] if lines and not lines[0] else lines


def _coloured(lines: list[str], *, is_terminal: bool) -> list[str]:
    """Return the lines of a failure; on a terminal the first of them is coloured."""
    if not is_terminal:
        return lines
    return [coloured(lines[0], "bold red" if lines[0].startswith("error") else "yellow"), *lines[1:]]


def _worth_a_row(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return all rows of a plan, or if unchanged hosts are many, without those about which there is nothing to say."""
    notable = [row for row in rows if row[1] != Outcome.UNCHANGED.value or row[-1] not in ("", "-")]
    return notable if len(rows) - len(notable) > MANY_ALIKE else rows


def _result_rows(results: Sequence[HostResult]) -> list[tuple[str, ...]]:
    """Return a row for each host. Many hosts that are well in the same way share one, or have none without notes."""
    alike: dict[tuple[str, ...], list[HostResult]] = {}
    for result in results:
        alike.setdefault(_likeness(result), []).append(result)
    rows = []
    for result in results:
        group = alike[_likeness(result)]
        if not result.is_good or len(group) <= MANY_ALIKE:
            rows.append(_result_row(result))
        elif result is group[0] and (notes := _notes(result)):
            slowest = max(group, key=lambda one: one.seconds)
            rows.append((listed([one.host for one in group], most=3), *_result_row(slowest)[1:-1], "; ".join(notes)))
    return rows


def _likeness(result: HostResult) -> tuple[str, ...]:
    """Return a key that is the same for hosts that ended in the same way."""
    change = "" if result.outcome is Outcome.UNCHANGED or not _notes(result) else _result_row(result)[2]
    return (result.outcome.value, change, *_notes(result))


def totals(results: Sequence[HostResult]) -> str:
    """Return the number of hosts for each outcome, in the order of `Outcome`: `2 kept, 1 rolled back`."""
    counts = Counter(result.outcome for result in results)
    return ", ".join(f"{counts[outcome]} {outcome_words(outcome)}" for outcome in Outcome if counts[outcome])


def grouped_failures(results: Sequence[HostResult]) -> list[tuple[tuple[HostName, ...], Failure]]:
    """Return each different failure once, as its first host met it, with all hosts that share it."""
    groups: dict[Failure, list[HostResult]] = {}
    for result in results:
        if result.failure is not None:
            groups.setdefault(_anonymous_failure(result.failure, result.host), []).append(result)
    return [
        (tuple(result.host for result in group), group[0].failure)
        for group in groups.values()
        if group[0].failure is not None
    ]


def plan_lines(
    planned: Sequence[HostPlanned],
    waves: Sequence[Sequence[HostName]] = (),
    findings: Sequence[FindingReported] = (),
    *,
    is_terminal: bool = False,
) -> list[str]:
    """Return what a run would do to each host, in which order, and what was found on the way."""
    lines: list[str] = []
    if shown := _worth_a_row(list(map(_plan_row, planned))):
        headers = ("host", "action", "running → wanted", "push", "takes", "from caches", "room on /nix", "reboot")
        columns = zip(headers, *shown, strict=True)
        used = [column for column in columns if column[0] in ALWAYS or any(cell != "-" for cell in column[1:])]
        first, *rows = zip(*used, strict=True)
        lines += table(first, rows, is_terminal=is_terminal).splitlines()
    if len(waves) > 1:
        lines += ["", *(f"wave {number}: {listed(hosts)}" for number, hosts in enumerate(waves, start=1))]
    if findings:
        lines += ["", *map(one_line, finding_lines(findings))]
    if planned:
        lines += [*([""] if lines else []), plan_totals(planned)]
    return lines


def plan_totals(planned: Sequence[HostPlanned]) -> str:
    """Return the totals: `2 switch, 1 unchanged; 34 paths to push, 1.2 GiB; 5 paths from caches, 20.0 MiB`."""
    actions = Counter(host.action for host in planned)
    parts = [", ".join(f"{count} {action}" for action, count in actions.items())]
    fetched_paths = sum(host.substitute_paths for host in planned)
    fetched_bytes = sum(host.substitute_bytes for host in planned)
    paths = sum(host.missing_paths for host in planned) - fetched_paths
    size = sum(host.missing_bytes for host in planned) - fetched_bytes
    if paths:
        parts.append(f"{counted(paths, 'path')} to push, {human_bytes(size)}")
    if fetched_paths:
        parts.append(f"{counted(fetched_paths, 'path')} from caches, {human_bytes(fetched_bytes)}")
    return "; ".join(parts)


def _result_row(result: HostResult) -> tuple[str, ...]:
    return (
        result.host,
        outcome_words(result.outcome),
        change(result.previous, result.closure, result.host),
        human_seconds(result.seconds) if result.seconds else "-",
        "; ".join(_notes(result)),
    )


def _notes(result: HostResult) -> list[str]:
    notes = list(result.notes)
    if result.reboot_pending and not any(note.startswith("reboot pending") for note in notes):
        unproven = result.outcome is Outcome.KEPT and not result.boot_proven
        notes.append("reboot pending: the new kernel is not proven" if unproven else "reboot pending")
    if result.outcome is Outcome.KEPT and result.boot_default is False:
        notes.append("not the boot default")
    return notes


def _plan_row(host: HostPlanned) -> tuple[str, ...]:
    return (
        host.host,
        host.action,
        change(host.running, host.closure, host.host),
        pushed(host) or "-",
        "-" if host.push_seconds is None else f"about {human_seconds(host.push_seconds)}",
        fetched(host) or "-",
        f"{human_bytes(host.room_free)} free, needs {human_bytes(host.room_needed)}" if host.room_needed else "-",
        ", ".join(host.reboot) or "-",
    )


def _anonymous_failure(failure: Failure, host: HostName) -> Failure:
    return Failure(
        kind=failure.kind,
        message=anonymous(failure.message, host),
        said=tuple(anonymous(line, host) for line in failure.said),
        now=anonymous(failure.now, host),
        hint=anonymous(failure.hint, host),
    )

"""Show a past run to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.diff import diff_lines
from fleet.library.describe import told_source
from fleet.output.facts import outcome_words
from fleet.output.format import change, counted, failure_lines, human_seconds
from fleet.output.patch import coloured
from fleet.output.summary import summary_lines
from fleet.text import listed, local_time, plain_text

if TYPE_CHECKING:
    from fleet.diff import SystemDiff
    from fleet.library.past import PastRun
    from fleet.model import HostName


def run_lines(past: PastRun, *, is_terminal: bool = False) -> list[str]:
    """Return what was asked for, by whom and when, what became of each host, and why hosts failed."""
    lines = [*_head(past), "", *summary_lines(past.finished, is_terminal=is_terminal)]
    if unknown := past.without_result:
        remedy = f": fleet resume {past.record.id}" if past.record.is_open and not past.is_under_way else ""
        lines += ["", f"not known how it ended: {listed(unknown)}{remedy}"]
    if gathered := [name for name in past.record.hosts if past.evidence(name)]:
        lines += ["", f"evidence of {listed(gathered)} in {past.folder}/hosts"]
    return lines


def host_lines(past: PastRun, name: HostName, diff: SystemDiff | None, *, is_terminal: bool = False) -> list[str]:
    """Return what happened to one host, step by step, why it failed, and what the run was to change there."""
    host = past.host(name)
    result = host.result
    ended = outcome_words(result.outcome) if result else "not known how it ended"
    system = f", {change(host.previous, host.closure, name)}" if host.closure else ""
    took = f" in {human_seconds(result.seconds)}" if result and result.seconds else ""
    lines = [*_head(past), "", f"{name}: {ended}{took}{system}"]
    for step in past.steps(name):
        at = local_time(step.at, "%H:%M:%S") if step.at else "?"
        text = step.text if step.is_phase else f"  {step.text}"
        lines.append(f"  {at}  {text}{f'  {human_seconds(step.seconds)}' if step.seconds is not None else ''}")
    lines += [f"  note: {note}" for note in (result.notes if result else ())]
    lines = [plain_text(line) for line in lines]
    if result and result.failure:
        first, *rest = failure_lines([name], result.failure)
        lines += ["", coloured(first, "bold red") if is_terminal else first, *rest]
    if files := past.evidence(name):
        lines += ["", f"evidence in {files[0].parent}: {', '.join(file.name for file in files)}"]
    if diff is not None:
        lines += ["", *diff_lines(name, diff, is_terminal=is_terminal)]
    return lines


def _head(past: PastRun) -> list[str]:
    record = past.record
    parts = [f"run {record.id}: {record.verb or 'cannot be read'} {counted(len(record.hosts), 'host')}"]
    parts += [f"by {record.by}"] if record.by else []
    if record.started is not None:
        parts.append(local_time(record.started))
        parts += [human_seconds(record.finished - record.started)] if record.finished is not None else []
    if past.is_under_way:
        parts.append("under way")
    else:
        parts.append("cut short" if record.exit_code is None else f"exit code {record.exit_code}")
    lines = [", ".join(parts)]
    if past.plan is not None:
        lines += [f"intent:  {past.plan.intent}"] if past.plan.intent else []
        sources = [past.plan.source, *(other.source for other in past.plan.other_sources)]
        lines += [f"source:  {told_source(source)}" for source in sources if source.reference]
        lines.append(f"plan:    fleet show {past.plan.digest}")
    return [plain_text(line) for line in lines]

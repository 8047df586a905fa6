"""Show drift to people, and as JSON."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError
from fleet.output.format import counted, human_age, one_line
from fleet.output.patch import coloured
from fleet.text import local_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.drift.finding import DriftFinding, DriftReport
    from fleet.model import HostName


def drift_json(answers: Mapping[HostName, DriftReport | FleetError]) -> dict[str, Any]:
    """Return the document of `fleet drift --json`."""
    return {"hosts": [_host_json(name, answer) for name, answer in answers.items()]}


def _host_json(name: HostName, answer: DriftReport | FleetError) -> dict[str, Any]:
    if isinstance(answer, FleetError):
        return {
            "name": name,
            "findings": [],
            "accepted": [],
            "notes": [],
            **dict.fromkeys(("nixos", "baseline", "verified", "store_paths")),
            "error": dataclasses.asdict(answer.failure()),
        }
    return {
        "name": name,
        "findings": [_finding_json(one) for one in answer.findings],
        "accepted": [_finding_json(one) for one in answer.accepted],
        "notes": list(answer.notes),
        "nixos": answer.is_nixos,
        "baseline": answer.baseline,
        "verified": answer.verified,
        "store_paths": answer.store_paths,
        "error": None,
    }


def _finding_json(finding: DriftFinding) -> dict[str, Any]:
    return {
        "class": finding.drift.value,
        "kind": finding.kind,
        "id": finding.id,
        "message": finding.message,
        "path": finding.path,
        "owner": finding.owner or None,
        "at": finding.at or None,
        "cause": finding.cause,
        "fix": finding.fix,
    }


def drift_lines(answers: Mapping[HostName, DriftReport | FleetError], *, is_terminal: bool = False) -> list[str]:
    """Return lines that show what was found on each host. Hosts without findings are told on a line each."""
    lines = []
    for name, answer in answers.items():
        if isinstance(answer, FleetError):
            continue
        lines += [*_head(name, answer, is_terminal=is_terminal)]
        for finding in answer.findings:
            lines += _finding_lines(finding)
        lines += [f"  note: {one_line(note)}" for note in answer.notes]
    return lines


def _head(name: HostName, report: DriftReport, *, is_terminal: bool) -> list[str]:
    count = counted(len(report.findings), "finding") if report.findings else "no drift"
    since = f"; baseline of {local_time(report.baseline)}" if report.baseline is not None else ""
    checked = f"; {report.verified} of {report.store_paths} store paths compared" if report.store_paths else ""
    title = f"{name}: {count}{since}{checked}"
    if is_terminal and report.findings:
        title = coloured(title, "bold")
    accepted = [f"  accepted  {one_line(one.path)}: {one_line(one.message)}" for one in report.accepted]
    return [title, *accepted]


def _finding_lines(finding: DriftFinding) -> list[str]:
    when = f"{local_time(finding.at)}, {human_age(time.time() - finding.at)} ago" if finding.at else "not known when"
    return [
        f"  {finding.drift.value:<8}  {one_line(finding.path)}: {one_line(finding.message)}",
        f"            by:    {one_line(finding.owner) or 'not known'}, {when}",
        f"            cause: {one_line(finding.cause)}",
        f"            fix:   {one_line(finding.fix)}",
    ]

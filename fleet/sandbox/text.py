"""Show sandboxes to people, and as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError
from fleet.output.format import human_age, one_line
from fleet.output.table import table
from fleet.sandbox.report import Held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.model import HostName
    from fleet.sandbox.report import Sandbox, SandboxReport

BAD = (Held.BROKEN, Held.UNKNOWN)
TELLING = (Held.OPEN, Held.WEAK, Held.UNSEEN)
"""What people should read even where a sandbox holds."""


def list_json(answers: Mapping[HostName, tuple[Sandbox, ...] | FleetError]) -> dict[str, Any]:
    """Return the document of `fleet sandbox list --json`."""
    return {"hosts": [_host_json(name, answer) for name, answer in answers.items()]}


def _host_json(name: HostName, answer: tuple[Sandbox, ...] | FleetError) -> dict[str, Any]:
    if isinstance(answer, FleetError):
        return {"name": name, "sandboxes": [], "error": dataclasses.asdict(answer.failure())}
    return {"name": name, "sandboxes": [dataclasses.asdict(one) for one in answer], "error": None}


def list_lines(answers: Mapping[HostName, tuple[Sandbox, ...] | FleetError], *, is_terminal: bool = False) -> list[str]:
    """Return a table of all sandboxes."""
    rows = [
        (f"{host}/{one.name}", one.backend, one.state, _left(one.left), one.address or "-", one.packages or "-")
        for host, answer in answers.items()
        if not isinstance(answer, FleetError)
        for one in answer
    ]
    if not rows:
        return []
    return [table(("sandbox", "backend", "state", "ends in", "address", "agent"), rows, is_terminal=is_terminal)]


def _left(seconds: int | None) -> str:
    return human_age(seconds) if seconds is not None else "-"


def report_json(answers: Mapping[HostName, SandboxReport | FleetError], sandbox: str) -> dict[str, Any]:
    """Return the document of the other verbs."""
    return {"hosts": [_report_json(name, sandbox, answer) for name, answer in answers.items()]}


def _report_json(name: HostName, sandbox: str, answer: SandboxReport | FleetError) -> dict[str, Any]:
    keys = ("state", "left", "holds", "probes", "said")
    if isinstance(answer, FleetError):
        error = dataclasses.asdict(answer.failure())
        return {"name": name, "sandbox": sandbox, **dict.fromkeys(keys), "probes": [], "said": [], "error": error}
    found = dataclasses.asdict(answer)
    return {"name": name, "sandbox": sandbox, **{key: found[key] for key in keys}, "error": None}


def report_lines(name: str, report: SandboxReport, *, in_full: bool) -> list[str]:
    """Return lines that say how the sandbox `name` is, and which probes found something; or all, `in_full`."""
    held = sum(probe.held is Held.HELD for probe in report.probes)
    proof = ""
    if report.holds is not None:
        proof = f"; {'holds' if report.holds else 'DOES NOT HOLD'}, {held} of {len(report.probes)} probes were refused"
    left = f", ends in {_left(report.left)}" if report.left is not None else ""
    lines = [f"{name}: {'up' if report.is_up else 'down'}{left}{proof}"]
    shown = [probe for probe in report.probes if in_full or probe.held in (*BAD, *TELLING)]
    width = max((len(probe.name) for probe in shown), default=0)
    lines += [f"  {probe.held.value:<7}  {probe.name:<{width}}  {one_line(probe.seen)}" for probe in shown]
    return [*lines, *(f"  said: {one_line(line)}" for line in report.said)]

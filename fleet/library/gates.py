"""Ask hosts how their gates are, and say what would get round them and what does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.errors import GateError
from fleet.host.gate import gate_report
from fleet.host.program import HostProgram, ask
from fleet.inventory.gated import forwarded
from fleet.library.reading import ask_all
from fleet.model import Finding, Severity
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleet.errors import FleetError
    from fleet.host.gate import GateReport
    from fleet.inventory import Host, Inventory
    from fleet.library.reading import OnWait
    from fleet.machine import Connector, Link
    from fleet.model import HostName
    from fleet.policy import Principals

    Reports = Mapping[HostName, GateReport | FleetError]
DEPLOY = "deploy to it: its closure says whom it trusts"


async def gates_of(logins: Connector, hosts: Sequence[Host], *, on_wait: OnWait) -> Reports:
    """Return how the gate of each host is, by its own word, or why it does not say. Other hosts are not asked."""

    async def look(host: Host, link: Link) -> GateReport:
        found = gate_report(await ask(link, host, HostProgram().call("gate")))
        if found is None:
            hint = "services.fleet.gate makes one; without it leave gate = true out of fleet.toml"
            raise GateError(host.name, "what answers this login is no gate", hint=hint)
        return found

    return await ask_all(logins, [host for host in hosts if host.gate], look, on_wait=on_wait)


def described(report: GateReport) -> str:
    """Return how a gate is, in one line."""
    people = "approval by a person" if report.required == 1 else f"approvals by {report.required} people"
    touch = ", each with a touch" if report.touch else ""
    names = listed(list(dict.fromkeys(signer.name for signer in report.signers if signer.approves)))
    return f"gate for {report.user}: {people}{touch}, of {names}"


def findings_on(fleet: Inventory, reports: Reports, principals: Principals | None) -> list[Finding]:
    """Return what is wrong with the gates, and what would get round them."""
    found: list[Finding] = []
    for name, report in reports.items():
        if not isinstance(report, Exception):
            found += _on_gate(fleet, fleet.hosts[name], report, principals)
            continue
        message = f"{name}: its gate cannot be looked at: {report.message}"
        severity = Severity.ERROR if isinstance(report, GateError) else Severity.NOTE
        found.append(Finding(kind="gate", message=message, hint=report.hint, severity=severity))
    return found


def _on_gate(fleet: Inventory, host: Host, report: GateReport, principals: Principals | None) -> Iterator[Finding]:
    def finding(message: str, hint: str, severity: Severity = Severity.ERROR) -> Finding:
        return Finding(kind="gate", message=f"{host.name}: {message}", hint=hint, severity=severity)

    if report.fleet != fleet.id:
        hint = "services.fleet.gate.fleet is [fleet] id of fleet.toml; fleet plan --sign writes one where there is none"
        yield finding(
            f"its gate takes plans of fleet {report.fleet}, and this is {fleet.id or 'one without an id'}", hint
        )
    if report.host != host.name:
        yield finding(f"its gate takes plans for a host called {report.host}", "set services.fleet.gate.host")
    if missing := sorted(forwarded(host.checks) - set(report.permits)):
        yield finding(
            f"its checks ask {listed(missing)}, where its gate does not forward to", "services.fleet.gate.permitOpen"
        )
    commands = {check.name for check in host.checks if check.kind == "command"}
    if unknown := sorted(commands - set(report.checks)):
        yield finding(
            f"its gate has no check called {listed(unknown)}", "services.fleet.gate.checks has their commands"
        )
    if more := sorted(set(report.permits) - forwarded(host.checks)):
        message = f"its gate forwards to {listed(more)}, and no check asks there"
        yield finding(message, "remove it from services.fleet.gate.permitOpen", Severity.NOTE)
    for way in report.ways_round:
        yield finding(f"this gets round its gate: {way}", "docs/signing.md says what to do about each", Severity.NOTE)
    if principals is not None:
        for message in _strangers(report, principals):
            yield finding(message, DEPLOY)
        for message in _unknown(report, principals):
            yield finding(message, DEPLOY, Severity.NOTE)


def _strangers(report: GateReport, principals: Principals) -> Iterator[str]:
    """Yield which keys the gate trusts that principals.toml does not have, or not as it does."""
    ours = {key.fingerprint: (name, approves) for name, key, approves in principals.signers()}
    for signer in report.signers:
        name, approves = ours.get(signer.fingerprint, ("", False))
        said = f"the key {signer.fingerprint} of {signer.name}"
        if not name:
            yield f"its gate still trusts {said}, which principals.toml does not have any more"
        elif name != signer.name:
            yield f"its gate takes {said}, which is {name}'s by principals.toml"
        elif signer.approves and not approves:
            yield f"its gate lets {said} approve, and {name} is no person by principals.toml"


def _unknown(report: GateReport, principals: Principals) -> Iterator[str]:
    theirs = {signer.fingerprint for signer in report.signers}
    missing = sorted({name for name, key, _ in principals.signers() if key.fingerprint not in theirs})
    if missing:
        yield f"its gate does not know a key of {listed(missing)} yet"


def as_json(report: GateReport | FleetError) -> dict[str, Any]:
    """Return the report for a document, or why there is none."""
    if isinstance(report, Exception):
        return {"error": report.message}
    return {
        "user": report.user,
        "required": report.required,
        "touch": report.touch,
        "approvers": sorted({signer.name for signer in report.signers if signer.approves}),
        "authors": sorted({signer.name for signer in report.signers}),
        "checks": list(report.checks),
        "ways_round": list(report.ways_round),
    }

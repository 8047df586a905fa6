"""Find everything that is wrong with a fleet without contacting a host."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.inventory.origins import is_expression
from fleet.output.format import counted
from fleet.source import lock, outputs, tree
from fleet.source.options import require_known
from fleet.steps.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fleet.errors import EvaluationError
    from fleet.events import Event
    from fleet.inventory import Host, Inventory
    from fleet.machine import Machine
    from fleet.model import Finding, HostName
    from fleet.source.outputs import FlakeCheck
    from fleet.source.tree import Tree
    from fleet.steps.evaluate import Evaluated

    OfTree = Callable[[Tree], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found."""

    found: Mapping[HostName, Evaluated]
    failed: Mapping[HostName, EvaluationError]
    """The hosts that do not evaluate."""
    findings: tuple[Finding, ...]
    checks: tuple[FlakeCheck, ...]


class Checker:
    """Checks the hosts of a fleet, one flake after the other."""

    def __init__(
        self, here: Machine, fleet: Inventory, *, build: bool, of_tree: OfTree, wait_for: Callable[[str], None]
    ) -> None:
        """`of_tree` finds what is wrong with the files of a flake; `wait_for` gets the words for what is done."""
        self._here = here
        self._fleet = fleet
        self._build = build
        self._of_tree = of_tree
        self._wait_for = wait_for

    async def check(self, hosts: Sequence[Host]) -> Checked:
        """Check the flakes of these hosts. Raise `ConfigError` if Nix does not know an option of the fleet."""
        await require_known(self._here, self._fleet.path, self._fleet.nix_options)
        groups = self._fleet.by_reference(hosts)
        parts = [await self._flake(flake, group, label=len(groups) > 1) for flake, group in groups.items()]
        there = [name for _, names in parts for name in names]
        is_whole = len(hosts) == len(self._fleet.hosts) and not any(map(is_expression, groups))
        return Checked(
            found={name: found for part, _ in parts for name, found in part.found.items()},
            failed={name: error for part, _ in parts for name, error in part.failed.items()},
            findings=(
                *outputs.unchecked(hosts),
                *(finding for part, _ in parts for finding in part.findings),
                *(outputs.idle(self._fleet.ignore, there) if is_whole else ()),
            ),
            checks=tuple(check for part, _ in parts for check in part.checks),
        )

    async def _flake(self, flake: str, hosts: Sequence[Host], *, label: bool) -> tuple[Checked, tuple[str, ...]]:
        """Check one flake for its hosts. Return what was found, and the names of its configurations.

        With `label` each finding and each check names the flake.
        """
        if is_expression(flake):  # there is no lock file, and all files are read where they are
            return await self._evaluate(flake, hosts), ()
        here = self._here
        self._wait_for(f"read {flake}")
        findings: list[Finding] = []
        described = await outputs.metadata(here, flake)
        if described.status == 0:
            findings += lock.findings(outputs.locks(described), now=time.time())
        elif stale := lock.stale(described.stderr):
            findings.append(stale)
        files = await tree.look(here, flake)
        findings += tree.findings(files) if files else []
        values = [secret.file for host in hosts for secret in host.secrets.values() if secret.file is not None]
        findings += tree.plain_values(files, values) if files else []
        unmatched, names = await self._unmatched(flake, hosts)
        findings += unmatched
        if files is not None:
            findings += tree.without_host(files, {*self._fleet.hosts, *names})
            findings += self._of_tree(files)
        evaluated = await self._evaluate(flake, hosts)
        findings += evaluated.findings
        self._wait_for(f"{'build' if self._build else 'evaluate'} the flake's own checks")
        checks = await outputs.checks(here, flake, build=self._build)
        if label:
            findings = [dataclasses.replace(each, message=f"{flake}: {each.message}") for each in findings]
            checks = [dataclasses.replace(each, output=f"{flake}#{each.output}") for each in checks]
        return dataclasses.replace(evaluated, findings=tuple(findings), checks=tuple(checks)), names

    async def _unmatched(self, flake: str, hosts: Sequence[Host]) -> tuple[list[Finding], tuple[str, ...]]:
        """Find hosts without a configuration, and the reverse. Return the names of all configurations, too."""
        ours = self._fleet.by_reference(self._fleet.hosts.values())[flake]
        findings: list[Finding] = []
        there: list[str] = []
        for output in (outputs.NIXOS, outputs.HIVE):
            if output != outputs.NIXOS and not any(outputs.is_in(host, output) for host in ours):
                continue  # a hive that nobody uses is no matter of this fleet
            names = await outputs.configurations(self._here, flake, output)
            if names is not None:
                findings += outputs.unmatched(hosts, ours, names, self._fleet.ignore, output=output)
                there += names
        return findings, tuple(there)

    async def _evaluate(self, reference: str, hosts: Sequence[Host]) -> Checked:
        from fleet.events import OutputLine

        events: list[Event] = []
        self._wait_for(f"evaluate {counted(len(hosts), 'host')}")
        evaluation = await evaluate(self._here, reference, hosts, emit=events.append)
        warnings = outputs.warnings(event.text for event in events if isinstance(event, OutputLine))
        return Checked(found=evaluation.found, failed=evaluation.failed, findings=tuple(warnings), checks=())

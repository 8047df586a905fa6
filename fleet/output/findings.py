"""Tell what is found while a plan is made: once for all hosts of which the same is to be said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.model import HostName
from fleet.output.format import unprefixed
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.events import FindingReported

MOST = 6
"""The most different notes that are written before the first host begins."""
NAMED = 4
"""The most hosts that are named as those that a note is about."""

Groups = dict[tuple[str, str, str], list["FindingReported"]]


class Findings:
    """Keeps notes until somebody wants to read them, or was shown them otherwise."""

    def __init__(self) -> None:
        self._groups: Groups = {}

    def add(self, finding: FindingReported) -> None:
        """Keep a note, together with the same about other hosts."""
        self._groups.setdefault(_likeness(finding), []).append(finding)

    def forget(self) -> None:
        """Keep nothing any more."""
        self._groups.clear()

    def take(self) -> list[str]:
        """Return a line for each different note, and keep nothing any more."""
        groups = list(self._groups.values())
        self.forget()
        lines = []
        for same in groups[:MOST]:
            hosts, message, hint = _together(same)
            lines.append(f"{listed(hosts, most=NAMED)}: note: {'; '.join(filter(None, (message, hint)))}")
        if (more := len(groups) - MOST) > 0:
            lines.append(f"fleet: {more} more notes; -v shows them")
        return lines


def finding_lines(findings: Sequence[FindingReported]) -> list[str]:
    """Return the lines about all findings of a plan, with their hints."""
    groups: Groups = {}
    for finding in findings:
        groups.setdefault(_likeness(finding), []).append(finding)
    lines = []
    for same in groups.values():
        hosts, message, hint = _together(same)
        about = f"{listed(hosts)}: " if same[0].host else ""
        lines.append(f"{same[0].severity.value}: {about}{message}")
        lines += [f"  hint:  {hint}"] if hint else []
    return lines


def anonymous(text: str, host: HostName) -> str:
    """Return the text with `HOST` for the host's name, so that it is equal on two hosts."""
    return re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", "HOST", text)


def _likeness(finding: FindingReported) -> tuple[str, str, str]:
    host = finding.host or HostName("fleet")
    message = unprefixed(finding.message, finding.host)
    return finding.severity.value, anonymous(message, host), anonymous(finding.hint, host)


def _together(same: Sequence[FindingReported]) -> tuple[list[HostName], str, str]:
    """Return the hosts of which the same is to be said, and that: in the words for one host, or in those for all."""
    hosts = list(dict.fromkeys(finding.host or HostName("fleet") for finding in same))
    if len(hosts) == 1:
        return hosts, unprefixed(same[0].message, same[0].host), same[0].hint
    _, message, hint = _likeness(same[0])
    return hosts, message, hint

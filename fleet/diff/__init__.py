"""Show what differs between two systems. `compare` is pure, `read` asks machines, `text` is for people."""

from __future__ import annotations

from fleet.diff.agents import AgentChange, AgentPackage
from fleet.diff.compare import EtcChange, SystemDiff, compare, needed_texts
from fleet.diff.packages import PackageChange
from fleet.diff.read import read_diff, read_system, read_texts
from fleet.diff.system import SystemFacts
from fleet.diff.text import brief, diff_json, diff_lines, fold
from fleet.diff.units import UnitsDiff

__all__ = [
    "AgentChange",
    "AgentPackage",
    "EtcChange",
    "PackageChange",
    "SystemDiff",
    "SystemFacts",
    "UnitsDiff",
    "brief",
    "compare",
    "diff_json",
    "diff_lines",
    "fold",
    "needed_texts",
    "read_diff",
    "read_system",
    "read_texts",
]

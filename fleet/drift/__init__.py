"""Find what is on a host that nobody declared, and what is not there any more as it was deployed.

`look` asks a host with two scripts, and `observation` reads what they say. `system`, `packages`, `files` and `access`
turn that into items, `judge` tells which of them are drift, and `baseline` remembers those that were there at first.
`read` does all of it for one host, and `text` is for people.
"""

from __future__ import annotations

from fleet.drift.baseline import Baseline, keep_first, remembered
from fleet.drift.finding import Drift, DriftFinding, DriftReport
from fleet.drift.read import accepted, read_drift
from fleet.drift.text import drift_json, drift_lines

__all__ = [
    "Baseline",
    "Drift",
    "DriftFinding",
    "DriftReport",
    "accepted",
    "drift_json",
    "drift_lines",
    "keep_first",
    "read_drift",
    "remembered",
]

"""Remember which generations hosts have, for shells to complete: nothing else depends on it."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.files import cache_folder, read_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fleet.host.answers import Generation
    from fleet.model import HostName

LARGEST = 16 << 20
"""The most bytes of what is remembered."""
MOST = 100
"""Generations of a host that are remembered, the newest."""


def remember_listed(fleet: str, found: Mapping[HostName, Sequence[Generation] | FleetError]) -> None:
    """Remember the generations of the hosts that have listed them, beside those of others. Never raises."""
    known = listed(fleet)
    for name, those in found.items():
        if not isinstance(those, FleetError):
            known[name] = [one.number for one in those[-MOST:]]
    path = _path(fleet)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(known).encode())


def listed(fleet: str) -> dict[str, list[int]]:
    """Return the generations of each host as they were listed last. Never raises."""
    try:
        found = json.loads(read_file(_path(fleet), most=LARGEST))
        return {str(name): [int(number) for number in those] for name, those in found.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _path(fleet: str) -> Path:
    return cache_folder("generations") / f"{fleet}.json"

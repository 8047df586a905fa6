"""Build the JSON documents of `fleet gc`. docs/json.md describes them; a test compares them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError
from fleet.host.garbage import Garbage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.host.garbage import Freed
    from fleet.library.garbage_here import GarbageHere
    from fleet.model import HostName

Document = dict[str, Any]
NO_GARBAGE = Garbage(keep=0)


def garbage(answers: Mapping[HostName, Garbage | FleetError], freed: Mapping[HostName, Freed | FleetError]) -> Document:
    """Describe what each host has that nobody needs, and what of that has gone, where something was to go."""
    return {"hosts": [_garbage(name, answer, freed.get(name)) for name, answer in answers.items()]}


def _garbage(name: HostName, answer: Garbage | FleetError, freed: Freed | FleetError | None) -> Document:
    error = next((dataclasses.asdict(one.failure()) for one in (answer, freed) if isinstance(one, FleetError)), None)
    found = dataclasses.asdict(NO_GARBAGE if isinstance(answer, FleetError) else answer)
    largest = [{"path": path, "bytes": size} for path, size in found["largest"]]
    went = None if freed is None or isinstance(freed, FleetError) else dataclasses.asdict(freed)
    return {"name": name, **found, "largest": largest, "freed": went, "error": error}


def garbage_here(found: GarbageHere, freed: GarbageHere | None) -> Document:
    """Describe what this machine keeps for runs, builds and plans that are over, and what of that has gone."""
    gone = None if freed is None else {**_garbage_here(freed), "note": freed.note}
    return {**_garbage_here(found), "freed": gone}


def _garbage_here(found: GarbageHere) -> Document:
    tidied = found.tidied
    return {
        "runs": list(tidied.runs),
        "builds": list(tidied.builds),
        "plans": list(tidied.plans),
        "deliveries": list(tidied.deliveries),
        "paths": len(found.paths),
        "bytes": found.bytes,
    }

"""Build the JSON documents of `fleet secrets`. docs/json.md describes each; a test compares them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.host.secrets import Compared
    from fleet.library.documents import Document
    from fleet.library.secrets import HostSecretStates
    from fleet.model import HostName


def status(answers: Mapping[HostName, HostSecretStates | FleetError]) -> Document:
    """Describe what each host has of its secrets. No value has a part in it, and no digest of one."""
    return {"hosts": [_status(name, answer) for name, answer in answers.items()]}


def _status(name: HostName, answer: HostSecretStates | FleetError) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "secrets": [], "left": [], "error": dataclasses.asdict(answer.failure())}
    secrets = [{"name": one.place.name, "path": one.place.path, "state": one.state} for one in answer.states]
    return {"name": name, "secrets": secrets, "left": list(answer.left), "error": None}


def push(answers: Mapping[HostName, Compared | FleetError]) -> Document:
    """Describe which secrets were written on each host."""
    return {"hosts": [_push(name, answer) for name, answer in answers.items()]}


def _push(name: HostName, answer: Compared | FleetError) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "changed": [], "unknown_units": [], "error": dataclasses.asdict(answer.failure())}
    return {"name": name, "changed": list(answer.changed), "unknown_units": list(answer.unknown_units), "error": None}

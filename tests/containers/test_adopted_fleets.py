"""Each of the small fleets is adopted and planned: from `fleet init` to a plan for hosts that are there."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from fleet.inventory import load
from tests.contract.fleets import FLEETS, MOST_EDITS, SmallFleet

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab
    from tests.containers.driver import Stage

NIX = {"NIX_CONFIG": "build-users-group =\nsubstituters =\nsandbox = false"}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("adopted")


def reach(stage: Stage, fleet: SmallFleet) -> int:
    """Let each address of the fleet lead to the lab host, by ~/.ssh/config alone. Return the host's port."""
    (known,) = load(stage.lab.folder.inventory).hosts.values()
    ssh, key = stage.home / ".ssh", (stage.lab.folder.path / "keys/id_ed25519").read_text()
    ssh.mkdir()
    (ssh / "id_ed25519").write_text(key)
    (ssh / "id_ed25519").chmod(0o600)
    (ssh / "config").write_text(
        f"Host {' '.join(fleet.hosts.values())}\n"
        f"  HostName 127.0.0.1\n  Port {known.port}\n  IdentityFile {ssh}/id_ed25519\n"
    )
    assert known.port is not None
    return known.port


@pytest.mark.parametrize("fleet", FLEETS, ids=lambda fleet: fleet.name)
def test_a_fleet_is_planned_after_at_most_three_edits(stage: Stage, tmp_path: Path, fleet: SmallFleet) -> None:
    port = reach(stage, fleet)
    in_lab = tuple(dataclasses.replace(edit, becomes=edit.becomes.replace("PORT", str(port))) for edit in fleet.in_lab)
    assert len((*fleet.before, *fleet.after, *in_lab)) <= MOST_EDITS
    folder = fleet.copy_to(tmp_path)
    file = str(folder / "fleet.toml")

    fleet.edit(folder, fleet.before)
    first = stage.fleet("init", "--dir", str(folder), env=NIX)
    assert first.code == 0, first.stderr
    fleet.edit(folder, (*fleet.after, *in_lab))
    checked = stage.fleet("check", "--file", file, env=NIX)
    assert checked.code == 0, checked.stdout + checked.stderr
    trusted = stage.fleet("trust", "--all", "--yes", "--file", file)
    assert trusted.code == 0, trusted.stderr
    planned = stage.fleet("plan", "--json", "--file", file, env=NIX)
    assert planned.code == 0, planned.stdout + planned.stderr
    plan = json.loads(planned.stdout)
    assert {host["host"] for host in plan["hosts"]} == set(fleet.hosts)
    for host in plan["hosts"]:
        assert f"-nixos-system-{host['host'].removesuffix('.lan')}-26.05" in host["closure"]

"""Values that many unit tests need, each with everything said that a test does not care about."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.deploy.request import Request, Run
from fleet.host.answers import HostFacts
from fleet.inventory import Host, parse
from fleet.machine.login import Logins
from fleet.model import Closure, HostName, Outcome, RunId
from fleet.steps.plan import Action, HostPlan
from tests.fakes import Events, FakeMachine

if TYPE_CHECKING:
    from fleet.inventory import Inventory
    from fleet.machine import Machine
    from fleet.model import HostResult

OLD, NEW = Closure(f"/nix/store/{'0' * 32}-nixos-system-old"), Closure(f"/nix/store/{'1' * 32}-nixos-system-new")
RUN = RunId("20261120T042211-3fa9c1")
PARTS = {
    "kernel": "/nix/store/k/bzImage", "initrd": "/nix/store/i/initrd", "kernel-modules": "/nix/store/m",
    "systemd": "/nix/store/s",
}  # fmt: skip
FACTS = HostFacts(
    machine="x86_64", nix="2.18.1", store_writable=True, running=OLD, profile=OLD, generation="7", booted=OLD,
    boot_default=OLD, version="24.05", nix_free=8 << 30, boot_free=None, running_parts=PARTS, booted_parts=PARTS,
)  # fmt: skip


def host(name: str = "web-1", **keys: Any) -> Host:
    return Host.model_validate({"name": name, **keys})


def facts(**changes: Any) -> HostFacts:
    return dataclasses.replace(FACTS, **changes)


def plan(name: str = "web-1", **changes: Any) -> HostPlan:
    usual = HostPlan(host=host(name), facts=FACTS, closure=NEW, action=Action.SWITCH)
    return dataclasses.replace(usual, **changes)


def inventory(*names: str, more: str = "") -> Inventory:
    hosts = "\n".join(f"[hosts.{name}]" for name in names or ("web-1",))
    return parse(Path("/fleet/fleet.toml"), f'[fleet]\nname = "home"\n{more}\n{hosts}\n')


def run(events: Events | None = None, *, here: Machine | None = None, **keys: Any) -> Run:
    usual = {
        "inventory": inventory(), "request": Request(verb="deploy"), "folder": Path("/nowhere"), "logins": Logins({}),
    }  # fmt: skip
    return Run(
        id=RUN, here=here or FakeMachine(), emit=Events() if events is None else events,
        who="ann", origin="desk", **{**usual, **keys},
    )  # fmt: skip


def outcomes(results: dict[HostName, HostResult]) -> dict[str, Outcome]:
    return {name: one.outcome for name, one in results.items()}

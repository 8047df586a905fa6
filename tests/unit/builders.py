"""Values that many unit tests need, each with everything said that a test does not care about."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.deploy.request import Request, Run
from fleet.host.answers import HostFacts
from fleet.host.program import Order
from fleet.inventory import Host, parse
from fleet.machine.login import Logins
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure, Goal, HostName, Outcome, RunId
from fleet.steps.plan import Action, HostPlan
from fleet.store.supply import Supply
from fleet.store.wire import PathInfo
from tests.fakes import Events, FakeMachine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.inventory import Inventory
    from fleet.machine import Machine
    from fleet.model import HostResult

OLD, NEW = Closure(f"/nix/store/{'0' * 32}-nixos-system-old"), Closure(f"/nix/store/{'1' * 32}-nixos-system-new")
RUN = RunId("20261120T042211-3fa9c1")
PARTS = {
    "kernel": "/nix/store/k/bzImage", "initrd": "/nix/store/i/initrd", "kernel-modules": "/nix/store/m",
    "systemd": "/nix/store/s", "kernel-params": "quiet",
}  # fmt: skip
FACTS = HostFacts(
    machine="x86_64", nix="2.18.1", store_writable=True, running=OLD, profile=OLD, generation="7", booted=OLD,
    boot_default=OLD, nix_free=8 << 30, boot_free=None, running_parts=PARTS, booted_parts=PARTS,
    has_zstd=True,
)  # fmt: skip


def host(name: str = "web-1", **keys: Any) -> Host:
    return Host.model_validate({"name": name, **keys})


def facts(**changes: Any) -> HostFacts:
    return dataclasses.replace(FACTS, **changes)


def plan(name: str = "web-1", **changes: Any) -> HostPlan:
    usual = HostPlan(host=host(name), facts=FACTS, closure=NEW, action=Action.SWITCH)
    return dataclasses.replace(usual, **changes)


def order(**changes: Any) -> Order:
    usual = Order(run=RUN, closure=NEW, expected=OLD, goal=Goal.SWITCH, who="ann", origin="desk", host=host())
    return dataclasses.replace(usual, **changes)


def inventory(*names: str, more: str = "") -> Inventory:
    hosts = "\n".join(f"[hosts.{name}]" for name in names or ("web-1",))
    return parse(Path("/fleet/fleet.toml"), f'[fleet]\nname = "home"\n{more}\n{hosts}\n')


def run(events: Events | None = None, *, here: Machine | None = None, **keys: Any) -> Run:
    usual = {
        "inventory": inventory(), "request": Request(verb="deploy"), "folder": Path("/nowhere"), "logins": Logins({}),
        "supply": FakeSupply(),
    }  # fmt: skip
    return Run(
        id=RUN, here=here or FakeMachine(), emit=Events() if events is None else events,
        who="ann", origin="desk", **{**usual, **keys},
    )  # fmt: skip


class FakeSupply(Supply):
    """A local store that has whatever it is asked for, 100 bytes each."""

    def __init__(self) -> None:
        super().__init__(LocalStreams())

    async def known(self, paths: Iterable[str]) -> list[PathInfo]:
        return await self.infos(paths)

    async def infos(self, paths: Iterable[str]) -> list[PathInfo]:
        return [PathInfo(path=path, nar_hash="0" * 64, nar_size=100) for path in paths]


def outcomes(results: dict[HostName, HostResult]) -> dict[str, Outcome]:
    return {name: one.outcome for name, one in results.items()}

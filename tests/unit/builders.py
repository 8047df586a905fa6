"""Values that many unit tests need, each with everything said that a test does not care about."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.deploy.context import Context
from fleet.deploy.journal import Journal
from fleet.deploy.stop import Stop
from fleet.host.facts import HostFacts
from fleet.host.program import Order
from fleet.inventory import Host, parse
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure, HostName, Outcome, RunId
from fleet.plans import Part, Plan
from fleet.state import HostRecord, Hosts, RunRecord
from fleet.steps.job import Job
from fleet.steps.load import Load
from fleet.steps.secret_values import SecretReader
from fleet.steps.slow_link import SlowLinks
from fleet.store.supply import Supply
from fleet.store.wire import PathInfo
from tests.fakes import Events, FakeMachine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.inventory import Inventory
    from fleet.machine import Link, Machine
    from fleet.model import HostResult

OLD, NEW = Closure(f"/nix/store/{'0' * 32}-nixos-system-old"), Closure(f"/nix/store/{'1' * 32}-nixos-system-new")
RUN = RunId("20261120T042211-3fa9c1d2")
PARTS = {
    "kernel": "/nix/store/k/bzImage", "initrd": "/nix/store/i/initrd", "kernel-modules": "/nix/store/m",
    "systemd": "/nix/store/s", "kernel-params": "quiet",
}  # fmt: skip
FACTS = HostFacts(
    machine="x86_64", nix="/bin/nix-store", store_writable=True, running=OLD, profile=OLD, generation="7", booted=OLD,
    boot_default=OLD, nix_free=8 << 30, boot_free=None, running_parts=PARTS, booted_parts=PARTS,
    has_zstd=True,
)  # fmt: skip


def host(name: str = "web-1", **keys: Any) -> Host:
    return Host.model_validate({"name": name, **keys})


def facts(**changes: Any) -> HostFacts:
    return dataclasses.replace(FACTS, **changes)


def part(name: str = "web-1", **changes: Any) -> Part:
    usual = Part(host=HostName(name), closure=NEW, expected=OLD)
    return dataclasses.replace(usual, **changes)


def job(host: Host | None = None, *, facts: HostFacts = FACTS, load: Load | None = None, **changes: Any) -> Job:
    """A job as a plan that was made just now has it; the changes are of its part."""
    host = host or Host.model_validate({"name": "web-1"})
    limits = {name: round(getattr(host, name)) for name in ("activation_timeout", "confirm_timeout", "boot_timeout")}
    rules = {name: getattr(host, name) for name in ("settle", "checks", "ignore_units", "offline", "substitute")}
    asked = part(host.name, **{**limits, **rules, **changes})
    return Job(part=asked, host=asked.apply_policy(host), facts=facts, load=load or Load(), is_surveyed=True)


def plan(*waves: tuple[str, ...], parts: Iterable[Part] | None = None, **changes: Any) -> Plan:
    names = [HostName(name) for wave in waves for name in wave]
    known = {one.host: one for one in parts} if parts is not None else {name: part(name) for name in names}
    usual = Plan(
        fleet="home", by="ann", made=1_795_946_400, expires=4_000_000_000,
        waves=tuple(tuple(map(HostName, wave)) for wave in waves), parts=known,
    )  # fmt: skip
    return dataclasses.replace(usual, **changes)


def order(**changes: Any) -> Order:
    usual = Order(run=RUN, part=part(), by="ann", origin="desk")
    return dataclasses.replace(usual, **changes)


def toml(*names: str, more: str = "") -> str:
    hosts = "\n".join(f"[hosts.{name}]" for name in names or ("web-1",))
    return f'[fleet]\nname = "home"\n{more}\n{hosts}\n'


def inventory(*names: str, more: str = "") -> Inventory:
    return parse(Path("/fleet/fleet.toml"), toml(*names, more=more))


def journal(events: Events, hosts: Iterable[str] = ()) -> Journal:
    """The journal of a run with these hosts, which nobody records."""
    told = Journal(RunRecord(id=RUN, hosts=Hosts(HostRecord(name=HostName(name)) for name in hosts)), "ann")
    told.listen(lambda envelope: events(envelope.event))
    return told


def context(
    events: Events | None = None, *, here: Machine | None = None, links: Mapping[Any, Link] | None = None, **keys: Any
) -> Context:
    supply = FakeSupply()
    # The folder is one below which nobody can make another, root neither.
    usual: dict[str, Any] = {
        "journal": journal(Events() if events is None else events, links or ()), "stop": Stop(), "supply": supply,
        "slow_links": SlowLinks(supply), "folder": Path("/dev/null"), "home": Path("/etc/home"),
        "secrets": SecretReader(FakeMachine(), folder=Path("/etc/home")),
    }  # fmt: skip
    return Context(run=RUN, here=here or FakeMachine(), links=links or {}, by="ann", origin="desk", **{**usual, **keys})


class FakeSupply(Supply):
    """A local store that has whatever it is asked for, 100 bytes each."""

    def __init__(self) -> None:
        super().__init__(LocalStreams())

    async def known(self, paths: Iterable[str]) -> list[PathInfo]:
        return await self.infos(paths)

    async def infos(self, paths: Iterable[str]) -> list[PathInfo]:
        return [PathInfo(path=path, nar_hash="0" * 64, nar_size=100) for path in paths]


def outcomes(results: Mapping[HostName, HostResult]) -> dict[str, Outcome]:
    return {name: one.outcome for name, one in results.items()}

"""What would have to happen to a host, and what makes it or the closure unfit for that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import UnfitError
from fleet.inventory.drivers import Driver
from fleet.machine import Output
from fleet.model import Closure
from fleet.plans import Action
from fleet.steps.load import Contents, Load
from fleet.steps.survey import Survey, Systems, choose_action, survey
from tests.fakes import FakeMachine, runs, said
from tests.unit.builders import FACTS, NEW, OLD, PARTS, facts, host

if TYPE_CHECKING:
    from fleet.host.facts import HostFacts

SPECIAL = Closure("/nix/store/special")


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({}, Action.SWITCH),
        ({"running": NEW, "profile": NEW, "boot_default": NEW}, Action.UNCHANGED),
        ({"running": NEW, "profile": NEW, "boot_default": None}, Action.UNCHANGED),
        ({"running": NEW, "profile": OLD, "boot_default": OLD}, Action.COMMIT),
        ({"running": NEW, "profile": NEW, "boot_default": OLD}, Action.COMMIT),
        ({"running": SPECIAL, "specialisations": (SPECIAL,), "profile": NEW, "boot_default": OLD}, Action.COMMIT),
        ({"running": SPECIAL, "specialisations": (SPECIAL,), "profile": NEW, "boot_default": NEW}, Action.UNCHANGED),
        ({"running": OLD, "profile": NEW, "boot_default": NEW}, Action.SWITCH),
    ],
)
def test_action_follows_from_what_the_host_stands_on(changes: dict[str, Any], action: Action) -> None:
    assert choose_action(facts(**changes), NEW) is action


@pytest.fixture
def local(tmp_path: Path) -> Closure:
    """A closure in the local store that is fit to be switched to."""
    (tmp_path / "bin").mkdir()
    for file in ("nixos-version", "bin/switch-to-configuration"):
        (tmp_path / file).touch()
    return Closure(str(tmp_path))


def contents_of(closure: Closure) -> Contents:
    return Contents(sizes={"/nix/store/a": 10, "/nix/store/b": 200, closure: 3}, manifest="")


def store(*, missing: str = "") -> FakeMachine:
    """A host whose store lacks these."""
    return FakeMachine((runs("xargs"), Output(status=0, stdout=missing)))


def there(**changes: str) -> FakeMachine:
    """A host that has the closure, which says this of itself."""
    says = {"platform": "x86_64-linux", **{f"part_{part}": path for part, path in PARTS.items()}}
    return FakeMachine((runs("sh", "-c"), said(**{**says, **changes})))


async def surveyed(
    machine: FakeMachine, closure: Closure = NEW, there: HostFacts = FACTS, *, contents: Contents | None, **keys: Any
) -> Survey:
    return await survey(machine, host(), there, closure, contents=contents, systems=Systems(), **keys)


async def test_host_that_lacks_paths_is_to_switch(local: Closure) -> None:
    found = await surveyed(store(missing=f"/nix/store/b\n{local}\n"), local, contents=contents_of(local))
    assert (found.action, found.load.missing, found.load.missing_bytes) == (Action.SWITCH, ("/nix/store/b", local), 203)


FULL = [({"nix_free": 1 << 20}, "fleet gc"), ({"boot_free": 1 << 20}, "old generations")]


@pytest.mark.parametrize(("full", "hint"), FULL)
@pytest.mark.parametrize("is_built_there", [False, True])
async def test_host_without_room_gets_no_new_system(
    local: Closure, full: dict[str, Any], hint: str, *, is_built_there: bool
) -> None:
    contents = None if is_built_there else contents_of(local)
    with pytest.raises(UnfitError, match=r"only 1\.0 MiB free on /") as caught:
        await surveyed(store(), local, facts(**full), contents=contents, is_built_there=is_built_there)
    assert hint in caught.value.hint


@pytest.mark.parametrize(("full", "_hint"), FULL)
async def test_host_without_room_may_go_back_or_stay(local: Closure, full: dict[str, Any], _hint: str) -> None:
    assert (await surveyed(there(), NEW, facts(**full), contents=None)).action is Action.SWITCH
    stays = await surveyed(FakeMachine(), local, facts(**full, running=local), contents=contents_of(local))
    assert stays.action is Action.COMMIT


async def test_host_that_runs_the_closure_is_not_asked(local: Closure) -> None:
    found = await surveyed(FakeMachine(), local, facts(running=local), contents=contents_of(local))
    assert (found.action, found.load) == (Action.COMMIT, Load())


async def test_closure_that_is_built_on_the_host_is_not_looked_at_before() -> None:
    found = await surveyed(FakeMachine(), contents=None, is_built_there=True)
    assert (found.action, found.load, found.reboot) == (Action.SWITCH, Load(), ())


async def test_closure_that_only_the_host_has_is_looked_at_there() -> None:
    found = await surveyed(there(part_kernel="/nix/store/k2"), contents=None)
    assert (found.load, found.reboot) == (Load(), ("kernel",))


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"lacks": "nixos-version"}, "not a NixOS system"), ({"platform": "aarch64-linux"}, "is for aarch64-linux")],
)
async def test_closure_that_only_the_host_has_must_fit_too(changes: dict[str, str], why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        await surveyed(there(**changes), contents=None)


async def test_closure_of_the_local_store_must_fit_too(local: Closure) -> None:
    (Path(local) / "nixos-version").unlink()
    with pytest.raises(UnfitError, match="not a NixOS system"):
        await surveyed(store(), local, contents=contents_of(local))


async def test_what_cannot_be_switched_to_live_is_told_from_what_only_waits_for_a_reboot() -> None:
    machine = there(part_kernel="/nix/store/k2", init_interface="3")
    found = await surveyed(machine, NEW, facts(init_interface="2"), contents=None)
    assert (found.reboot, found.obstacles) == (("kernel", "init interface: 2 -> 3"), ("init interface: 2 -> 3",))


async def test_closure_is_looked_at_once_for_all_hosts(local: Closure) -> None:
    systems = Systems()
    first = await systems.look(local)
    (Path(local) / "nixos-version").unlink()
    assert await systems.look(local) is first


async def test_host_that_is_given_up_does_not_keep_a_closure_from_the_others(local: Closure) -> None:
    systems = Systems()
    looking = asyncio.create_task(systems.look(local))
    await asyncio.sleep(0)
    looking.cancel()
    assert (await systems.look(local)).driver is Driver.NIXOS

"""What a run would do to each host, and what it would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.errors import ConfigError, PushError, UnfitError
from fleet.machine import Output
from fleet.model import Closure, Derivation
from fleet.steps import plan as steps
from fleet.steps.plan import SPARE, Action, Contents, choose_action, plan_host
from fleet.steps.system import System
from tests.fakes import FakeMachine, runs, said
from tests.unit.builders import FACTS, NEW, OLD, PARTS, facts, host, plan

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


@pytest.mark.parametrize(("free", "fits"), [(SPARE + 100, True), (SPARE + 99, False), (0, False)])
def test_what_would_not_fit_is_refused(free: int, fits: bool) -> None:  # noqa: FBT001
    wanted = plan(missing_bytes=100, facts=facts(nix_free=free))
    if fits:
        steps.require_space(wanted)
    else:
        with pytest.raises(UnfitError, match="MiB on /nix"):
            steps.require_space(wanted)


def store(*, missing: str = "", status: int = 0) -> FakeMachine:
    return FakeMachine((runs("xargs"), Output(status=status, stdout=missing, stderr="oops\n")))


CONTENTS = Contents({"/nix/store/a": 10, "/nix/store/b": 200, str(NEW): 3})
SAYS = {"platform": "x86_64-linux", **{f"part_{part}": path for part, path in PARTS.items()}}


def there(**changes: str) -> FakeMachine:
    """A host that has the closure, which says this of itself."""
    return FakeMachine((runs("sh", "-c"), said(**{**SAYS, **changes})))


@pytest.fixture(autouse=True)
def fit_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the local store is fit: `test_system.py` looks at what is not."""
    fit = System(closure=NEW, is_switchable=True)
    monkeypatch.setattr(steps, "look_here", lambda _: fit)


async def test_host_that_lacks_paths_is_planned_with_their_bytes() -> None:
    found = await plan_host(store(missing=f"/nix/store/b\n{NEW}\nnoise\n"), host(), FACTS, NEW, made_of=CONTENTS)
    assert (found.action, found.missing, found.missing_bytes) == (Action.SWITCH, ("/nix/store/b", NEW), 203)


FULL = [({"nix_free": 1 << 20}, "nix-collect-garbage"), ({"boot_free": 1 << 20}, "old generations")]


@pytest.mark.parametrize(("full", "hint"), FULL)
async def test_host_without_room_gets_no_new_system(full: dict[str, Any], hint: str) -> None:
    keys: dict[str, Any]
    for keys in ({"made_of": CONTENTS}, {"made_of": None, "derivation": Derivation("/nix/store/x.drv")}):
        with pytest.raises(UnfitError, match=r"only 1\.0 MiB free on /") as caught:
            await plan_host(store(), host(), facts(**full), NEW, **keys)
        assert hint in caught.value.hint


@pytest.mark.parametrize(("full", "_hint"), FULL)
async def test_host_without_room_may_go_back_or_stay(full: dict[str, Any], _hint: str) -> None:
    assert (await plan_host(there(), host(), facts(**full), NEW, made_of=None)).action is Action.SWITCH
    stays = await plan_host(FakeMachine(), host(), facts(**full, running=NEW), NEW, made_of=CONTENTS)
    assert stays.action is Action.COMMIT


async def test_host_that_runs_the_closure_is_not_asked() -> None:
    found = await plan_host(FakeMachine(), host(), facts(running=NEW), NEW, made_of=CONTENTS)
    assert (found.action, found.missing) == (Action.COMMIT, ())


async def test_closure_that_is_not_here_is_planned_without_its_contents() -> None:
    drv = Derivation("/nix/store/x.drv")
    found = await plan_host(FakeMachine(), host(), FACTS, NEW, made_of=None, derivation=drv)
    assert (found.missing, found.reboot, found.derivation) == ((), (), drv)


async def test_closure_that_only_the_host_has_is_looked_at_there() -> None:
    found = await plan_host(there(part_kernel="/nix/store/k2"), host(), FACTS, NEW, made_of=None)
    assert (found.missing, found.reboot) == ((), ("kernel",))


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"lacks": "nixos-version"}, "not a NixOS system"), ({"platform": "aarch64-linux"}, "is for aarch64-linux")],
)
async def test_closure_that_only_the_host_has_must_fit_too(changes: dict[str, str], why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        await plan_host(there(**changes), host(), FACTS, NEW, made_of=None)


async def test_store_that_does_not_answer_is_told() -> None:
    with pytest.raises(PushError, match="the host's store does not answer") as caught:
        await plan_host(store(status=1), host(), FACTS, NEW, made_of=CONTENTS)
    assert caught.value.said == ("oops",)


def local(listed: Output, sized: Output) -> FakeMachine:
    return FakeMachine((runs("nix-store"), listed), (runs("xargs"), sized))


async def test_contents_are_asked_of_the_local_store() -> None:
    listed = Output(status=0, stdout="/nix/store/a\n/nix/store/b\n")
    here = local(listed, Output(status=0, stdout="1\n20\n"))
    assert (await steps.contents(here, NEW)).sizes == {"/nix/store/a": 1, "/nix/store/b": 20}
    assert here.ran[1].stdin == b"/nix/store/a\n/nix/store/b\n"


async def test_closure_that_the_local_store_lacks_is_told() -> None:
    here = local(Output(status=1, stderr="error: not valid\n"), Output(status=0))
    with pytest.raises(ConfigError, match="not in this machine's store") as caught:
        await steps.contents(here, NEW)
    assert caught.value.said == ("error: not valid",)

"""What a run would do to each host, and what it would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.errors import CommandFailedError, ConfigError, PushError, UnfitError
from fleet.machine import Output
from fleet.model import Closure, Derivation
from fleet.steps import plan as steps
from fleet.steps.caches import ask_caches
from fleet.steps.plan import Action, Contents, choose_action, plan_host
from fleet.steps.system import System
from tests.fakes import Answers, FakeMachine, runs, said
from tests.unit.builders import FACTS, NEW, OLD, PARTS, facts, host

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


def caching(caches: Answers) -> FakeMachine:
    """A host that lacks all of CONTENTS, and whose caches say this."""
    missing = Output(status=0, stdout="".join(f"{path}\n" for path in CONTENTS.sizes))
    return FakeMachine((runs("xargs", "-r", "nix-store", "--realise"), caches), (runs("xargs"), missing))


HAVE_B = "this path will be fetched (0.50 MiB download, 1.00 MiB unpacked):\n  /nix/store/b\n  /nix/store/other\n"


async def test_what_the_hosts_caches_have_is_not_pushed() -> None:
    there = caching(Output(status=0, stderr=HAVE_B))
    found = await plan_host(there, host(), FACTS, NEW, made_of=CONTENTS)
    assert (len(found.missing), found.missing_bytes) == (3, 213)
    assert (found.substitutes, found.download_bytes) == ({"/nix/store/b": 200}, 1 << 19)
    assert (found.pushed, found.push_bytes) == (("/nix/store/a", NEW), 13)
    assert found.caches_trouble == ""


async def test_host_that_must_not_substitute_is_not_asked_for_its_caches() -> None:
    found = await plan_host(caching(ZeroDivisionError()), host(substitute=False), FACTS, NEW, made_of=CONTENTS)
    assert (len(found.pushed), found.substitutes) == (3, {})


@pytest.mark.parametrize(
    ("says", "trouble"),
    [
        (
            Output(status=123, stderr="warning: x\nerror: unable to download 'http://x'\n"),
            "unable to download 'http://x'",
        ),
        (Output(status=123, stderr="oops\n"), "exit status 123"),
        (CommandFailedError(host().name, "xargs did not end within 60 s"), "did not end within 60 s"),
    ],
)
async def test_caches_that_do_not_answer_have_nothing(says: Output | CommandFailedError, trouble: str) -> None:
    found = await plan_host(caching(says), host(), FACTS, NEW, made_of=CONTENTS)
    assert (len(found.pushed), found.substitutes, found.download_bytes) == (3, {}, 0)
    assert trouble in found.caches_trouble


async def test_derivations_are_not_asked_for() -> None:
    there = caching(Output(status=0))
    await ask_caches(there, ["/nix/store/a", "/nix/store/b.drv"])
    assert there.ran[0].stdin == b"/nix/store/a\n"


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

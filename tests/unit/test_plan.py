"""What a run would do to each host, and what it would refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import ConfigError, PushError, QuarantinedError, UnfitError
from fleet.machine import Output
from fleet.model import Closure, Derivation
from fleet.steps import plan as steps
from fleet.steps.plan import SPARE, Action, Contents, choose_action, plan_host, reboot_parts, require_deployable
from tests.fakes import FakeMachine, runs
from tests.unit.builders import FACTS, NEW, OLD, PARTS, facts, host, plan

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = Closure("/nix/store/special")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A closure in the local store, as far as the plan looks at one."""
    tree = tmp_path / "system"
    (tree / "bin").mkdir(parents=True)
    for file, text in {"nixos-version": "24.05", "bin/switch-to-configuration": "", "system": "x86_64-linux\n"}.items():
        (tree / file).write_text(text)
    return tree


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


def test_parts_that_only_a_reboot_makes_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "system"
    tree.mkdir()
    booted = dict.fromkeys(("kernel", "initrd", "kernel-modules", "systemd"), "")
    assert reboot_parts(facts(booted_parts=booted), Closure(str(tree))) == ()
    (tree / "kernel").symlink_to("/nix/store/k2/bzImage")
    (tree / "systemd").mkdir()
    assert reboot_parts(facts(booted_parts=booted), Closure(str(tree))) == ("systemd",)  # the kernel dangles
    assert reboot_parts(facts(booted_parts={"kernel": "/nix/store/k"}), Closure(str(tree))) == ("kernel", "systemd")
    assert reboot_parts(facts(booted_parts={"kernel": "/boot/k"}), Closure(str(tree))) == ("systemd",)


def test_deployable_closure_is_no_trouble(system: Path) -> None:
    require_deployable(host(), FACTS, Closure(str(system)), retry_quarantined=False)


def test_quarantined_closure_is_refused_unless_wanted_anyway(system: Path) -> None:
    closure = Closure(str(system))
    with pytest.raises(QuarantinedError) as caught:
        require_deployable(host(), facts(quarantined=(closure,)), closure, retry_quarantined=False)
    assert "--retry-quarantined" in caught.value.hint
    require_deployable(host(), facts(quarantined=(closure,)), closure, retry_quarantined=True)


@pytest.mark.parametrize("file", ["nixos-version", "bin/switch-to-configuration"])
def test_what_is_no_system_is_refused(system: Path, file: str) -> None:
    (system / file).unlink()
    with pytest.raises(UnfitError, match="not a NixOS system"):
        require_deployable(host(), FACTS, Closure(str(system)), retry_quarantined=False)


def test_closure_for_another_system_is_refused(system: Path) -> None:
    (system / "system").write_text("aarch64-linux")
    with pytest.raises(UnfitError, match="the closure is for aarch64-linux, the host is x86_64-linux"):
        require_deployable(host(), FACTS, Closure(str(system)), retry_quarantined=False)
    (system / "system").unlink()
    require_deployable(host(), FACTS, Closure(str(system)), retry_quarantined=False)


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ({"init": "systemd"}, '{"init": "systemd"}', False),
        ({"init": "systemd"}, '{"init": "other"}', True),
        ({}, '{"init": "other"}', False),
        ({"init": "systemd"}, '{"driver": "1"}', False),
        ({"init": "systemd"}, "nonsense", False),
    ],
)
def test_switch_that_is_inhibited_is_refused_beforehand(
    system: Path,
    old: dict[str, str],
    new: str,
    refused: bool,  # noqa: FBT001
) -> None:
    (system / "switch-inhibitors").write_text(new)

    def ask() -> None:
        require_deployable(host(), facts(inhibitors=old), Closure(str(system)), retry_quarantined=False)

    if refused:
        with pytest.raises(UnfitError, match=r"inhibited \(init: systemd -> other\)"):
            ask()
    else:
        ask()


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
    there = FakeMachine((runs("sh", "-c"), Output(status=0)))
    assert (await plan_host(there, host(), facts(**full), NEW, made_of=None)).action is Action.SWITCH
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
    there = FakeMachine(
        (runs("sh", "-c"), Output(status=0, stdout="\n".join(["/nix/store/k2", *[*PARTS.values()][1:]])))
    )
    found = await plan_host(there, host(), FACTS, NEW, made_of=None)
    assert (found.missing, found.reboot) == ((), ("kernel",))


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

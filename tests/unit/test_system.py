"""What a closure says of itself, here and on the host, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.errors import CommandFailedError, QuarantinedError, UnfitError
from fleet.inventory.drivers import Driver
from fleet.machine import Output
from fleet.machine.local import LocalMachine
from fleet.model import Closure, Goal
from fleet.steps.system import System, look_here, look_there, require_live, require_not_quarantined, require_switchable
from tests.fakes import FakeMachine, runs
from tests.unit.builders import NEW, facts, host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A closure, as far as anybody looks at one before it runs."""
    tree = tmp_path / "system"
    (tree / "bin").mkdir(parents=True)
    for file, text in {"nixos-version": "24.05", "bin/switch-to-configuration": "", "system": "x86_64-linux\n"}.items():
        (tree / file).write_text(text)
    return tree


async def look(tree: Path) -> System:
    """What it says, which is the same wherever it is looked at."""
    closure = Closure(str(tree))
    here, there = look_here(closure), await look_there(LocalMachine(), host(), closure)
    assert here == there
    return here


def system(**changes: object) -> System:
    return System(**{"closure": NEW, "driver": Driver.NIXOS, "platform": "x86_64-linux", **changes})  # type: ignore[arg-type]


async def test_whole_system_is_no_trouble(tree: Path) -> None:
    found = await look(tree)
    assert found == System(
        closure=Closure(str(tree)), driver=Driver.NIXOS, platform="x86_64-linux",
        parts={"kernel": "", "initrd": "", "kernel-modules": "", "kernel-params": "", "systemd": ""},
    )  # fmt: skip
    require_switchable(host(), found)


@pytest.mark.parametrize("file", ["nixos-version", "bin/switch-to-configuration"])
async def test_what_is_no_system_is_refused(tree: Path, file: str) -> None:
    (tree / file).unlink()
    with pytest.raises(UnfitError, match="not a NixOS system"):
        require_switchable(host(), await look(tree))


async def test_closure_that_is_not_on_the_host_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnfitError, match="gone is not on this host"):
        await look_there(LocalMachine(), host(), Closure(str(tmp_path / "gone")))


@pytest.mark.parametrize(
    "answer",
    [
        Output(status=1, stderr="sh: Unmatched '.\n"),
        Output(status=127),
        Output(status=0, stdout="This account = closed\n"),
    ],
)
async def test_failure_to_ask_is_no_absence(answer: Output) -> None:
    machine = FakeMachine((runs("sh"), answer))
    with pytest.raises(CommandFailedError, match=f"did not say what {NEW} is") as caught:
        await look_there(machine, host(), NEW)
    assert "not on this host" not in str(caught.value)


async def test_closure_for_another_system_is_refused(tree: Path) -> None:
    (tree / "system").write_text("aarch64-linux")
    with pytest.raises(UnfitError, match="the closure is for aarch64-linux, the host is x86_64-linux"):
        require_switchable(host(), await look(tree))
    (tree / "system").unlink()
    require_switchable(host(), await look(tree))


async def test_inhibitors_are_read(tree: Path) -> None:
    (tree / "switch-inhibitors").write_text('{\n "init": "other"\n}\n')
    assert (await look(tree)).inhibitors == {"init": "other"}
    (tree / "switch-inhibitors").write_text("nonsense")
    assert (await look(tree)).inhibitors == {}


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ({"init": "systemd"}, {"init": "systemd"}, ""),
        ({"init": "systemd"}, {"init": "other"}, r"inhibited \(inhibitor init: systemd -> other\)"),
        ({}, {"init": "other"}, ""),
        ({"init": "systemd"}, {"driver": "1"}, ""),
    ],
)
def test_switch_that_is_inhibited_is_refused_beforehand(old: dict[str, str], new: dict[str, str], refused: str) -> None:
    obstacles = system(inhibitors=new).obstacles(facts(inhibitors=old))
    if refused:
        with pytest.raises(UnfitError, match=refused):
            require_live(host(), obstacles, Goal.SWITCH)
    else:
        require_live(host(), obstacles, Goal.SWITCH)


@pytest.mark.parametrize(
    ("goal", "hint"), [(Goal.SWITCH, "--reboot if-needed"), (Goal.TEST, "--reboot if-needed, without --goal test")]
)
def test_inhibited_switch_is_refused_with_a_remedy_that_the_command_takes(goal: Goal, hint: str) -> None:
    with pytest.raises(UnfitError) as caught:
        require_live(host(), ("inhibitor init: systemd -> other",), goal)
    assert caught.value.hint == f"these change only with a reboot: {hint}"


def test_quarantined_closure_is_refused_unless_wanted_anyway() -> None:
    bad = facts(quarantined=(NEW,))
    with pytest.raises(QuarantinedError) as caught:
        require_not_quarantined(host(), bad, NEW, retry_quarantined=False)
    assert "--retry-quarantined" in caught.value.hint
    require_not_quarantined(host(), bad, NEW, retry_quarantined=True)


def test_parts_that_only_a_reboot_makes_live() -> None:
    booted = facts(booted_parts={"kernel": "/nix/store/k", "initrd": "/boot/i"})
    parts = {"kernel": "/nix/store/k", "initrd": "", "kernel-modules": "", "systemd": ""}
    assert system(parts=parts).reboot_reasons(booted) == ()  # what the store does not have counts as absent
    assert system(parts={**parts, "kernel": "/nix/store/k2", "systemd": "/nix/store/s"}).reboot_reasons(booted) == (
        "kernel",
        "systemd",
    )
    quiet = facts(booted_parts={**booted.booted_parts, "kernel-params": "quiet"})
    assert system(parts={**parts, "kernel-params": "quiet"}).reboot_reasons(quiet) == ()
    assert system(parts={**parts, "kernel-params": "root=/dev/x"}).reboot_reasons(quiet) == ("kernel-params",)


async def test_the_kernel_command_line_is_a_part_whose_text_counts(tree: Path) -> None:
    (tree / "kernel-params").write_text("quiet root=/dev/x")
    assert (await look(tree)).parts["kernel-params"] == "quiet root=/dev/x"


async def test_part_that_leads_nowhere_or_outside_the_store_is_none(tree: Path) -> None:
    (tree / "kernel").symlink_to("/nix/store/nowhere/bzImage")
    (tree / "systemd").mkdir()
    assert set((await look(tree)).parts.values()) == {""}

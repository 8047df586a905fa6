"""When a host is rebooted, and what is refused or told beforehand."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from fleet import cli
from fleet.deploy.decide import part_of
from fleet.deploy.look import PROVES
from fleet.deploy.options import Options
from fleet.deploy.target import Wanted
from fleet.errors import UnfitError
from fleet.host import answers
from fleet.host.facts import host_facts
from fleet.inventory.drivers import Driver
from fleet.machine.local import LocalMachine
from fleet.model import Closure, HostName, Reboot
from fleet.plans import Action
from fleet.steps.reboot import goes_by_reboot, require_idle, require_safe_reboot
from fleet.steps.survey import Systems, survey
from fleet.steps.system import System, look_here, look_there
from tests.fakes import FakeMachine, asks, said
from tests.unit.builders import FACTS, NEW, facts, host
from tests.unit.world import FACTS as ANSWER
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.unit.conftest import CommandLine

SAFE = facts(boot_default=FACTS.running, boots_once=True)
MODULE = "/nix/store/x-nvidia-x11-570.153.02-6.12.30/lib/modules/6.12.30/misc/nvidia.ko.xz"


@pytest.mark.parametrize(
    ("wanted", "reasons", "goes"),
    [
        (Reboot.NEVER, ("kernel",), False),
        (Reboot.IF_NEEDED, (), False),
        (Reboot.IF_NEEDED, ("kernel",), True),
        (Reboot.ALWAYS, (), True),
    ],
)
def test_a_host_is_rebooted_when_that_is_wanted(wanted: Reboot, reasons: tuple[str, ...], goes: bool) -> None:  # noqa: FBT001 - a case
    assert goes_by_reboot(wanted, reasons) is goes


def test_note_about_a_reboot_says_how_to_prove_it_now() -> None:
    assert PROVES.startswith("--reboot if-needed proves")


def test_a_way_back_is_told_and_without_one_the_host_is_left_out() -> None:
    assert "after a panic the old one boots" in require_safe_reboot(host(), SAFE, accept_boot_risk=False)
    with pytest.raises(UnfitError, match="no way back"):
        require_safe_reboot(host(), dataclasses.replace(SAFE, boot_default=NEW), accept_boot_risk=True)
    unknown = dataclasses.replace(SAFE, boot_default=None, boot_doubt="it boots by Limine")
    with pytest.raises(UnfitError, match=r"the boot default is not known \(it boots by Limine\)"):
        require_safe_reboot(host(), unknown, accept_boot_risk=True)
    grub = dataclasses.replace(SAFE, boots_once=False, boots_not_once="GRUB cannot write there")
    with pytest.raises(UnfitError, match=r"cannot boot an entry once.*: GRUB cannot write there") as caught:
        require_safe_reboot(host(), grub, accept_boot_risk=False)
    assert "--accept-boot-risk" in caught.value.hint
    told = require_safe_reboot(host(), grub, accept_boot_risk=True)
    assert "somebody has to choose the old one" in told
    assert "GRUB cannot write there" in told


async def test_nobody_is_interrupted_unless_that_is_forced() -> None:
    busy = FakeMachine((asks("busy"), said(busy=["ann, who is logged in (tty1)", "a job on the GPU (7)"])))
    with pytest.raises(UnfitError, match=r"interrupt ann, who .*; a job on the GPU \(7\)") as caught:
        await require_idle(busy, host(), force=False)
    assert "--force" in caught.value.hint
    assert await require_idle(busy, host(), force=True) == ("ann, who is logged in (tty1)", "a job on the GPU (7)")
    assert await require_idle(FakeMachine((asks("busy"), said())), host(), force=False) == ()


@pytest.mark.parametrize(
    ("there", "new", "reason"),
    [
        ({"init_interface": "systemd 2"}, {"init_interface": "systemd 3"}, "init interface: systemd 2 -> systemd 3"),
        ({"nvidia": "570.86.15"}, {"nvidia": "570.153.02"}, "NVIDIA driver: 570.86.15 -> 570.153.02"),
        ({"inhibitors": {"dbus": "a"}}, {"inhibitors": {"dbus": "b"}}, "inhibitor dbus: a -> b"),
        ({"nvidia": ""}, {"nvidia": "570.153.02"}, ""),  # no GPU, or its module is not loaded
        ({"init_interface": ""}, {"init_interface": "systemd 3"}, ""),
    ],
)
def test_what_forbids_a_live_switch_is_a_reason_for_a_reboot(
    there: dict[str, Any], new: dict[str, Any], reason: str
) -> None:
    system = System(closure=NEW, driver=Driver.NIXOS, **new)
    assert system.reboot_reasons(facts(booted_parts={}, **there)) == ((reason,) if reason else ())


async def test_the_driver_of_a_closure_is_found_behind_links(tmp_path: Path) -> None:
    modules = tmp_path / MODULE.lstrip("/")
    modules.parent.mkdir(parents=True)
    modules.touch()
    tree = tmp_path / "system"
    (tree / "kernel-modules" / "lib" / "modules" / "6.12.30").mkdir(parents=True)
    (tree / "kernel-modules" / "lib" / "modules" / "6.12.30" / "misc").symlink_to(modules.parent)
    closure = Closure(str(tree))
    assert look_here(closure).nvidia == (await look_there(LocalMachine(), host(), closure)).nvidia == "570.153.02"


async def test_what_cannot_be_switched_to_live_is_planned_by_way_of_a_reboot(tmp_path: Path) -> None:
    tree = tmp_path / "system"
    (tree / "bin").mkdir(parents=True)
    for file, text in {"nixos-version": "1", "bin/switch-to-configuration": "", "init-interface-version": "3"}.items():
        (tree / file).write_text(text)
    there, closure = facts(init_interface="2", booted_parts={}), Closure(str(tree))
    seen = await survey(LocalMachine(), host(), there, closure, contents=None, systems=Systems())
    assert (seen.action, seen.reboot, seen.obstacles) == (Action.SWITCH, ("init interface: 2 -> 3",), seen.reboot)
    by_reboot = {
        wanted: part_of(
            host(), there, Wanted(closure=closure), seen, Options(reboot=wanted), contents=None, expires=1
        ).by_reboot
        for wanted in Reboot
    }
    assert by_reboot == {Reboot.NEVER: False, Reboot.IF_NEEDED: True, Reboot.ALWAYS: True}


def test_facts_say_whether_a_boot_may_count_once() -> None:
    lines = answers.parse(f"boots_once=yes\nnvidia=570.86.15\nrunning_nvidia={MODULE}\ninit_interface=systemd 2\n")
    found = host_facts(lines)
    assert (found.boots_once, found.nvidia, found.init_interface) == (True, "570.86.15", "systemd 2")
    assert found.reboot_pending == ("NVIDIA driver: 570.86.15 -> 570.153.02",)
    assert not host_facts({}).boots_once
    assert host_facts(answers.parse("boots_not_once=it says so\n")).boots_not_once == "it says so"


@pytest.mark.parametrize(
    ("flags", "reasons", "kinds"),
    [
        ([], (), []),
        ([], ("kernel",), ["reboot_pending", "needs_reboot"]),
        (["--reboot", "if-needed"], (), []),
        (["--reboot", "if-needed"], ("kernel",), ["reboot_pending", "reboots", "forced"]),
        (["--reboot", "always"], (), ["reboots", "forced"]),
        (["--goal", "boot"], (), ["reboots", "forced"]),
    ],
)
def test_flags_say_when_a_host_is_rebooted(
    tmp_path: Path, command_line: CommandLine, flags: list[str], reasons: tuple[str, ...], kinds: list[str]
) -> None:
    world = World(tmp_path, "a")
    booted = {f"booted_{part}": "/nix/store/k" for part in reasons}
    world.on("a", (asks("facts"), said(**ANSWER, **booted)), (asks("busy"), said(busy="ann is logged in")))
    told = command_line(world, "plan", "a", *flags, "--force", "--accept-boot-risk", "--no-eval-cache", "--json")
    found = json.loads(told.out)["findings"]
    assert (told.code, [finding["kind"] for finding in found]) == (0, kinds)
    for kind, hint in (("reboots", "accepted with --accept-boot-risk"), ("forced", "asked for with --force")):
        assert [finding["hint"] for finding in found if finding["kind"] == kind] == [hint] * (kind in kinds)


@pytest.mark.parametrize(
    ("flags", "why"),
    [(["--force"], "--accept-boot-risk reboots it all the same"), (["--accept-boot-risk"], "wait, or --force")],
)
def test_what_a_reboot_may_do_has_to_be_allowed(
    tmp_path: Path, command_line: CommandLine, flags: list[str], why: str
) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("busy"), said(busy="ann is logged in")))
    told = command_line(world, "deploy", "a", "--reboot", "always", *flags, "--no-eval-cache", "--copy-with", "nix")
    assert (told.code, why in told.out, world.began()) == (1, True, [])


def test_machine_does_not_reboot_itself_since_nobody_would_prove_it(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.links[HostName("a")].is_here = True
    flags = ("--reboot", "always", "--force", "--accept-boot-risk", "--no-eval-cache", "--copy-with", "nix")
    told = command_line(world, "deploy", "a", *flags)
    assert (told.code, "this machine would reboot, and fleet with it" in told.out, world.began()) == (1, True, [])


def test_a_goal_that_never_reboots_takes_no_reboot(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["deploy", "a", "--goal", "test", "--reboot", "always"]) == 2
    assert "--goal test never reboots" in capsys.readouterr().err

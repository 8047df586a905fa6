"""What is made of what hosts say of their hardware: notes, and who is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import UnfitError
from fleet.events import FindingReported
from fleet.host.answers import parse
from fleet.host.facts import host_facts
from fleet.model import Goal, Outcome
from fleet.steps import hardware, preflight
from tests.fakes import asks, said
from tests.unit.builders import facts, host
from tests.unit.world import FACTS, World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("throttled", "undervoltage", "told"),
    [
        ("0", False, ""),
        ("0x0", False, ""),
        ("", False, ""),
        ("50005", False, "undervoltage, throttling now"),
        ("0x50000", False, "undervoltage, throttling since the boot"),
        ("0xe0008", False, "the soft temperature limit now; a capped clock, throttling since the boot"),
        ("0x2", True, "undervoltage, a capped clock now"),
        ("", True, "undervoltage now"),
        ("rubbish", False, ""),
        ("f" * 400, False, ""),
    ],
)
def test_power_of_a_pi_is_told_in_words(throttled: str, undervoltage: bool, told: str) -> None:  # noqa: FBT001
    assert hardware.power_trouble(facts(throttled=throttled, undervoltage=undervoltage)) == told


def test_what_hosts_say_becomes_facts_without_control_characters() -> None:
    lines = ("throttled=50005", "undervoltage=yes", "read_only=/", "boot_read_only=/boot/a", "boot_read_only=/boot/b")
    found = host_facts(parse("\n".join((*lines, "gpu_job=7, py\x1b[2J", ""))))
    assert (found.throttled, found.undervoltage, found.read_only) == ("50005", True, ("/",))
    assert (found.boot_read_only, found.gpu_jobs) == (("/boot/a", "/boot/b"), ("7, py",))
    assert hardware.notes(host_facts({})) == []


def test_each_of_it_is_a_note_before_anything_is_done() -> None:
    found = preflight.notes(
        facts(throttled="1", gpu_jobs=tuple(f"{n}, x" for n in range(9)), read_only=("/",), boot_read_only=("/boot/f",))
    )
    told = {note.kind: note.message for note in found}
    assert told["power"] == "undervoltage now"
    assert told["read_only"] == "cannot be written: /, /boot/f"
    assert told["gpu_jobs"] == "computes on a GPU: 0, x; 1, x; 2, x; 3, x; 4, x; …"


@pytest.mark.parametrize(
    ("found", "goal", "is_fit"),
    [
        ({"read_only": ("/",)}, Goal.SWITCH, False),
        ({"read_only": ("/nix",)}, Goal.TEST, False),
        ({"read_only": ("/",)}, Goal.PUSH, True),
        ({"read_only": ("/",)}, Goal.DRY_ACTIVATE, True),
        ({"boot_read_only": ("/boot/f",)}, Goal.SWITCH, False),
        ({"boot_read_only": ("/boot/f",)}, Goal.BOOT, False),
        ({"boot_read_only": ("/boot/f",)}, Goal.TEST, True),
        ({}, Goal.SWITCH, True),
    ],
)
def test_who_cannot_write_what_a_switch_writes_is_unfit(found: dict[str, Any], goal: Goal, *, is_fit: bool) -> None:
    if is_fit:
        hardware.require_writable(host(), facts(**found), goal)
        return
    with pytest.raises(UnfitError, match="a switch writes to what is read-only: /"):
        hardware.require_writable(host(), facts(**found), goal)


async def test_host_with_a_read_only_boot_is_left_out_before_anything_is_pushed(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.on("a", (asks("facts"), said(**FACTS, boot_read_only="/boot/loader/loader.conf")))
    await world.execute()
    assert world.outcomes == {"a": Outcome.FAILED, "b": Outcome.KEPT}
    assert world.began() == ["b"]
    notes = [(event.host, event.kind) for event in world.events.of(FindingReported)]
    assert ("a", "read_only") in notes
    assert ("a", "unfit") in notes


async def test_jobs_on_a_gpu_do_not_keep_a_host_from_a_live_switch(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), said(**FACTS, gpu_job="7, python3")))
    await world.execute()
    assert world.outcomes == {"a": Outcome.KEPT}
    assert [event.message for event in world.events.of(FindingReported) if event.kind == "gpu_jobs"] == [
        "computes on a GPU: 7, python3"
    ]

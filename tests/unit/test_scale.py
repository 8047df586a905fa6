"""No part of a run takes more than in proportion to its hosts: twice as many hosts take twice as many steps."""

from __future__ import annotations

import asyncio
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fleet
from tests.fakes import asks, said
from tests.unit.builders import NEW, RUN
from tests.unit.world import FACTS, World

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import FrameType
    from typing import Any

PACKAGE = str(Path(fleet.__file__).parent)
TESTS = str(Path(__file__).parents[1])


def steps(work: Coroutine[Any, Any, int], within: str = PACKAGE) -> int:
    """How many functions are called, and how many lines of files `within` are executed, until the work is done."""
    count = 0

    def on_line(_frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal count
        count += 1
        return on_line

    def on_call(frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal count
        name = frame.f_code.co_filename
        if name.startswith(TESTS):
            return None
        count += 1
        return on_line if name.startswith(within) else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        assert asyncio.run(work) == 0
    finally:
        sys.settrace(before)
    return count


def world(tmp_path: Path, count: int, **options: Any) -> World:
    """So many hosts whose switch ends well at once."""
    folder = tmp_path / str(count)
    folder.mkdir()
    made = World(folder, *(f"h{number}" for number in range(count)), more="[rollout]\nat_once = 64", **options)
    switched = said(begun=RUN, state="switched", running=str(made.closure), status=0)
    for name in made.links:
        made.on(
            name,
            (asks("begin"), switched),
            (asks("word"), said(accepted="yes", state="committed", running=str(made.closure))),
        )
    return made


@pytest.mark.parametrize("is_there", [True, False], ids=["nothing to do", "switch"])
def test_twice_as_many_hosts_take_twice_as_many_steps(tmp_path: Path, *, is_there: bool) -> None:
    counts = []
    for number in (150, 300):
        fleet_of = world(tmp_path, number)
        if is_there:
            fleet_of.wanted = NEW
            there = dict.fromkeys(("running", "profile", "boot_default"), NEW)
            for name in fleet_of.links:
                fleet_of.on(name, (asks("facts"), said(**{**FACTS, **there})))
        counts.append(steps(fleet_of.execute()))
    assert counts[1] < 2.2 * counts[0], counts


def test_steps_of_a_loop_in_a_loop_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "search.py"
    file.write_text(
        "async def work(count):\n    for a in range(count):\n        any(b < a - a for b in range(count))\n"
    )
    work = runpy.run_path(str(file))["work"]
    counts = [steps(ended_well(work(count)), within=str(tmp_path)) for count in (150, 300)]
    assert counts[1] > 3 * counts[0]


async def ended_well(work: Coroutine[Any, Any, object]) -> int:
    await work
    return 0

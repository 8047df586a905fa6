"""Plays one cell of another driver than NixOS's on one host, and holds it to its row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.lab import faults
from tests.containers.driver import BUSY, GATE, PATIENCE, wait_until
from tests.containers.grounds import Ground, clear
from tests.faults.of_drivers import HOLD, PLACE, SCRIPT, Play, strike_nothing, switch_by_hand
from tests.faults.people import HOLDER, READY
from tests.faults.play import told_of
from tests.faults.scene import LIMITS

if TYPE_CHECKING:
    from tests.containers.driver import Run, Stage
    from tests.faults.of_drivers import DriverCell
    from tests.faults.table import Row


def play_driver(cell: DriverCell, stage: Stage, *, name: str) -> None:
    """The fault has struck, and everything that its row says is so."""
    ground = Ground(stage, cell.driver, name)
    clear(ground.host)
    ground.toml()
    ground.host.exec("sh", "-c", f"rm -rf {PLACE} && mkdir -m 0777 {PLACE}")
    try:
        play = prepared(cell, ground)
        struck(cell, play)
        play.run.process.wait(300)
        judged = cell.fault.then(play) if cell.fault.then else play.run
        holds(play, judged, cell.row)
    finally:
        faults.restore(ground.host)


def prepared(cell: DriverCell, ground: Ground) -> Play:
    """The old system runs, where there is one."""
    fault = cell.fault
    is_bad = fault.bad or cell.phase == "reverting"
    new = ground.closure(
        "bad" if is_bad else "new",
        status=503 if is_bad else 200,
        script="false" if fault.broken else SCRIPT,
        oneway="yes" * fault.one_way,
    )
    play = Play(ground, ground.closure("old", script=SCRIPT), new)
    if not fault.first:
        done = ground.deploy(play.old)
        assert done.outcomes == {ground.name: "kept"}, done
    if fault.strike is switch_by_hand:
        play.other = ground.bring(ground.closure("other", script=SCRIPT))
    return play


def struck(cell: DriverCell, play: Play) -> None:
    """The run, after the fault has struck."""
    host, fault, ground = play.host, cell.fault, play.ground
    strikes = fault.strike is not strike_nothing
    gated = strikes and cell.phase in ("switched", "committing")
    host.exec("rm", "-f", f"{PLACE}/began")
    ground.toml(*((GATE,) if gated else ()), **LIMITS)
    if gated:
        host.exec("touch", BUSY)
    elif strikes and cell.phase == "switching":
        host.exec("touch", HOLD)
    play.started = ground.stage.start("deploy", ground.name, "--json", "--yes", "--closure", play.new)
    for path in fault.before:
        play.activates()
        play.at("switched")
        host.exec("touch", path)
    if not strikes:
        return
    if cell.phase == "switching":
        play.activates()
    else:
        play.at("switched")
    if cell.phase == "committing":  # a generation of the profile waits for the garbage collector
        host.exec(*HOLDER, "flock", "/nix/var/nix/gc.lock", "/bin/sh", "-c", f"{READY}; exec /usr/bin/sleep 60")
        host.exec("rm", BUSY)
        play.at("committing")
    elif cell.phase == "reverting":
        host.exec("sh", "-c", f"rm -f {PLACE}/began; : >{HOLD}")
        play.at("reverting")
        play.activates()
    fault.strike(play)
    play.goes_on()


def holds(play: Play, run: Run, row: Row) -> None:
    """The row is so: what was told, what the host stands on, and what is left on it."""
    ground = play.ground
    if row.outcome:
        run.end()
        if row.or_else is not None and run.outcomes == {ground.name: row.or_else.outcome}:
            row = row.or_else
        assert run.outcomes == {ground.name: row.outcome}, run
    assert run.code == row.code, run
    if row.kind:
        assert run.failure(ground.name)["kind"] == row.kind, run
    if row.says:
        told = told_of(run, ground.name, play.said)
        assert re.search(row.says, told), f"{row.says!r} is not in {told}"
    wait_until(lambda: not ground.state(), f"{ground.name} is settled with nobody's help", PATIENCE)
    ground.toml(**LIMITS)
    assert play.stands_on() == row.on, run
    names = {"old": "old", "new": "new", "other": "other", "nothing": ""}
    if row.on[0] == row.on[1]:
        wait_until(
            lambda: ground.says() == names[row.on[0]], lambda: f"{ground.name} has {row.on[0]}: {run!r}", PATIENCE
        )
    if row.blamed is not None:
        assert (play.new in ground.status()["quarantined"]) == row.blamed, run
    assert ground.left() == ""

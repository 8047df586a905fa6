"""Plays one cell of the fault table on one host, and holds it to its row."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from fleet.lab import faults
from tests.faults.scene import LIMITS, Scene, reset, standing
from tests.faults.table import strike_nothing

if TYPE_CHECKING:
    from tests.containers.driver import Run, Stage
    from tests.faults.table import Cell, Row

HOLD = """\
systemd-run -q --unit=intruder -p Type=exec --setenv=PATH=/usr/bin:/bin \
    flock "$1.lock" sleep 60
"""


def play(cell: Cell, stage: Stage, name: str, base: str) -> None:
    """The fault has struck, and everything that its row says is so."""
    scene = Scene(stage, name, base, checks=[dict(check) for check in cell.fault.checks])
    reset(scene.host, base)
    scene.new = cell.closure(scene)
    defaults = dict(cell.fault.defaults)
    if cell.phase == "switched":
        defaults.setdefault("settle", "3s")
    scene.prepare(**defaults)
    if cell.phase == "reverting":
        scene.host.exec("touch", "/run/lab-slow")
    fault = cell.fault
    fault.prepare(scene)
    try:
        run = _struck(cell, scene)
        run.process.wait(300)
        judged = fault.then(scene) if fault.then else run
    finally:
        faults.restore(scene.host)
        fault.undo(scene)
    holds(scene, judged, cell.row)
    if fault.also:
        fault.also(scene, judged)


def _struck(cell: Cell, scene: Scene) -> Run:
    """The run, after the fault has struck."""
    fault = cell.fault
    before = cell.phase == "preflight" and not fault.of_run
    holding = cell.phase == "push" and fault.strike is not strike_nothing
    if holding:  # the push waits for the path's lock until it is let go
        scene.host.exec("sh", "-c", HOLD, "sh", scene.new)
    if before:
        fault.strike(scene)
    run = scene.deploy(*fault.arguments, env=fault.environment)
    if not before:
        cell.reach(scene)
        fault.strike(scene)
    if holding and scene.host.is_on:
        scene.host.exec("systemctl", "stop", "intruder", check=False)
    return run


def holds(scene: Scene, run: Run, row: Row) -> None:
    """The row is so: what was told, what the host stands on, what is left on it, and what `fleet status` says."""
    if row.outcome:
        run.end()
        if row.or_else is not None and run.outcomes == {scene.name: row.or_else.outcome}:
            row = row.or_else
        assert run.outcomes == {scene.name: row.outcome}, run
    assert run.code == row.code, run
    scene.reach, scene.limits = {}, dict(LIMITS)
    told = told_of(run, scene.name, scene.said)
    if row.kind:
        assert run.failure(scene.name)["kind"] == row.kind, run
    if row.says:
        assert re.search(row.says, told), f"{row.says!r} is not in {told}"
    # Whoever asks next is told the truth, and settles what is left to settle.
    scene.prepare()
    scene.stage.document("status", code=None)
    scene.is_settled()
    status = scene.stage.document("status", code=None)["hosts"][0]
    assert scene.stands_on() == row.on, run
    assert (status["running"], status["profile"], status["boot_default"]) == standing(scene.host)
    assert status["transaction"] is None
    if row.blamed is not None:
        assert (scene.new in status["quarantined"]) == row.blamed, run
    left = [what for what in scene.left_behind() if not row.leaves or not re.fullmatch(row.leaves, what)]
    assert left == []


def told_of(run: Run, name: str, said: list[str]) -> str:
    """Everything that people were told of how it ended, as text; `said` is what they were told besides."""
    if not run.events or run.events[-1]["event"] != "run_finished":
        return "\n".join([*said, run.stderr])
    host = run.hosts.get(name) or {}
    return "\n".join([json.dumps([run.events[-1]["error"], host.get("error"), host.get("notes")]), *said])

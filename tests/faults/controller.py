"""Faults of the operator's machine, and of the keeper."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.containers.driver import BUSY, GATE, WEB, wait_until
from tests.faults.scene import HOLD, read
from tests.faults.table import GONE_BACK, KEPT, NEW, OLD, Fault, Row

if TYPE_CHECKING:
    from tests.faults.scene import Scene

KILLED = Row(outcome="", code=-signal.SIGKILL, on=OLD)
ROOTS_OF_THE_DEAD = r".*T.*-(new|program|unsynced)"
"""A run that died before it began leaves its two roots and its mark for some days: its push may be taken up again."""


def kill_controller(scene: Scene) -> None:
    scene.process.kill()
    scene.process.wait()
    scene.is_settled()  # with nobody there


def kill_keeper_again_and_again(scene: Scene) -> None:
    script = """\
        for n in 1 2 3 4 5 6 7 8 9; do
            systemctl kill -s KILL 'fleet-keep-*' 2>/dev/null; sleep 0.15
        done"""
    scene.host.exec("sh", "-c", script)


def interrupt_once(scene: Scene) -> None:
    assert scene.run is not None
    scene.run.interrupt()


def interrupt_twice(scene: Scene) -> None:
    assert scene.run is not None
    scene.run.interrupt()
    scene.run.wait_for("run_interrupted")
    scene.run.interrupt()


def sleep_past_the_deadline(scene: Scene) -> None:
    scene.process.send_signal(signal.SIGSTOP)
    try:
        scene.is_settled()
    finally:
        scene.process.send_signal(signal.SIGCONT)


def second_controller(scene: Scene) -> None:
    """It is told who is at work, and touches nothing. The phase lasts until then, however long it takes to start."""
    scene.host.exec("touch", BUSY, HOLD)
    try:
        other = scene.stage.deploy(scene.name, "--closure", scene.old)
    finally:
        scene.host.exec("rm", BUSY, HOLD)
    assert other.code == 5, other
    assert other.failure(scene.name)["kind"] == "locked"
    scene.said.append(other.failure(scene.name)["message"])


def take_up(scene: Scene) -> None:
    """The machine that runs fleet sleeps, and wakes up when somebody else has taken up the run."""
    assert scene.run is not None
    scene.process.send_signal(signal.SIGSTOP)
    try:
        other = scene.stage.twin().start("resume", scene.run.told("run_started")[0]["run"], "--json")
        wait_until(lambda: read(scene.host, "cat /run/fleet/open/prover") == ["2"], "it is taken up")
    finally:
        scene.process.send_signal(signal.SIGCONT)
        scene.host.exec("rm", BUSY)
    assert other.end().outcomes == {scene.name: "kept"}, other


def be_busy(scene: Scene) -> None:
    """What keeps the proof from its end."""
    scene.host.exec("touch", BUSY)


def leave_ticket(scene: Scene) -> None:
    """Somebody waits, and dies there."""
    seconds = "$(($(cut -d . -f 1 /proc/uptime) + 30))"  # so that it lives for a minute
    ticket = f"printf '1 0 99999999 %s\\nbob\\ttrain\\tupdate\\n' \"{seconds}\""
    scene.host.exec("sh", "-c", f"mkdir -p /run/fleet/queue && {ticket} >/run/fleet/queue/dead")


IN_DOUBT = Row(outcome="needs_human", code=4, on=OLD, kind="in_doubt", says="by itself within")
INTERRUPTED = Row(outcome="skipped", code=130, on=OLD)

FAULTS = (
    Fault(
        name="controller killed",
        shown_by="test_deploy_interrupted.py::test_controller_killed_while_proving_the_host_goes_back_by_itself",
        strike=kill_controller,
        of_run=True,
        rows={
            "switched": KILLED,
            "preflight": KILLED,
            "push": Row(outcome="", code=-signal.SIGKILL, on=OLD, leaves=ROOTS_OF_THE_DEAD),
            "begin": Row(outcome="", code=-signal.SIGKILL, on=OLD, leaves=ROOTS_OF_THE_DEAD),
            "switching": KILLED,
            "committing": Row(outcome="", code=-signal.SIGKILL, on=NEW),
            "reverting": KILLED,
        },
    ),
    Fault(
        name="keeper killed again and again",
        strike=kill_keeper_again_and_again,
        rows={"reverting": GONE_BACK, "switching": KEPT, "switched": KEPT, "committing": KEPT},
    ),
    Fault(
        name="Ctrl-C once",
        shown_by="test_deploy_interrupted.py::test_interrupted_once_the_host_is_proven_and_the_others_are_skipped",
        strike=interrupt_once,
        of_run=True,
        rows={
            "switched": Row(outcome="kept", code=130, on=NEW),
            "preflight": INTERRUPTED,
            "push": INTERRUPTED,
            "switching": Row(outcome="kept", code=130, on=NEW),
            "committing": Row(outcome="kept", code=130, on=NEW),
            "reverting": Row(outcome="rolled_back", code=130, on=OLD),
        },
    ),
    Fault(
        name="Ctrl-C twice",
        slow=True,
        strike=interrupt_twice,
        of_run=True,
        rows={"switched": IN_DOUBT, "switching": IN_DOUBT, "reverting": IN_DOUBT},
    ),
    Fault(
        name="controller asleep past the deadline",
        slow=True,
        strike=sleep_past_the_deadline,
        of_run=True,
        rows={
            "switched": Row(outcome="rolled_back", code=1, on=OLD, kind="silent", says="nobody confirmed within 6 s"),
            "switching": Row(outcome="rolled_back", code=1, on=OLD, kind="silent"),
            "reverting": GONE_BACK,
            "committing": KEPT,
        },
    ),
    Fault(
        name="controller asleep and its run taken up",
        prepare=be_busy,
        strike=take_up,
        defaults={"confirm_timeout": "40s"},
        checks=(WEB, GATE),
        of_run=True,
        rows={"switched": KEPT, "switching": KEPT},
    ),
    Fault(
        name="others wait for their turn",
        prepare=leave_ticket,
        rows={
            "begin": Row(
                outcome="failed",
                code=5,
                on=OLD,
                kind="locked",
                says="run dead of bob from train .*update",
                blamed=False,
            )
        },
    ),
    Fault(
        name="a dead one waits before us",
        slow=True,
        prepare=leave_ticket,
        arguments=("--wait", "2m"),
        rows={"begin": KEPT},
    ),
    Fault(
        name="two controllers",
        shown_by="test_deploy_interrupted.py::test_two_controllers_at_once_one_keeps_and_the_other_finds_it_locked",
        strike=second_controller,
        checks=(WEB, GATE),
        of_run=True,
        rows={
            "switched": Row(outcome="kept", code=0, on=NEW, says="a transaction is open: run .* switched"),
            "reverting": Row(outcome="rolled_back", code=1, on=OLD, says="a transaction is open: run .* reverting"),
        },
    ),
)

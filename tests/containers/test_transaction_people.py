"""People who repair a host while a transaction is open: whatever they do, and when, their system stays."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.containers.hostprogram import NEW, OLD, OPEN, Subject
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

GATE = "/run/repair-may-go-on"
HELD = "/run/repair-has-the-lock"
REPAIR = (
    OLD.replace('"old"', '"repair"')
    + f"""
switchScript = "touch {HELD}; while ! test -e {GATE}; do sleep 0.05; done";
"""
)
"""A third system whose switch holds the lock, and has changed nothing yet, until it may go on."""


@pytest.fixture
def repair(subject: Subject) -> Iterator[str]:
    """The closure of the repair."""
    subject.sh(f"rm -f {GATE} {HELD}")
    yield subject.closure(REPAIR)
    subject.sh(f"touch {GATE}; systemctl stop repair.service 2>/dev/null; systemctl reset-failed; rm -f {GATE} {HELD}")


def repairing(subject: Subject, closure: str) -> None:
    """Somebody's own switch has the lock and is at work."""
    subject.sh(f"systemd-run -q --collect --unit=repair -p Type=exec {closure}/bin/switch-to-configuration test")
    # To try the lock would keep it from a switch that asks for it once.
    until(lambda: subject.succeeds(f"test -e {HELD}"), what="the repair holds the lock")


@pytest.mark.parametrize("word", ["confirm", "abandon found the check failed"])
def test_repair_that_is_under_way_when_the_word_comes_stays(subject: Subject, repair: str, word: str) -> None:
    run = subject.switched(subject.closure(NEW))
    repairing(subject, repair)
    assert subject.word(run, word).accepted
    subject.sh(f"touch {GATE}")
    subject.follow(run, "superseded")
    assert subject.running == repair
    assert subject.profile == subject.old
    assert subject.boots == subject.old


def test_way_back_from_a_commit_that_failed_waits_for_whoever_repairs(subject: Subject, repair: str) -> None:
    new = subject.closure(NEW + "bootLoaderScript = ''/usr/bin/sleep 600'';")
    run = subject.switched(new)
    assert subject.word(run, "confirm").accepted
    until(lambda: subject.profile == new, what="the commit has begun")
    subject.sh(f"systemctl stop fleet-keep-{run}; printf 'reverting\n' >{OPEN}/state")  # as if it died right after
    repairing(subject, repair)
    subject.call("facts")  # starts it again
    until(lambda: subject.succeeds(f"pgrep -P {subject.keeper(run)} -x sleep"), what="the way back waits")
    subject.sh(f"touch {GATE}")
    subject.follow(run, "superseded")
    assert (subject.running, subject.profile) == (repair, new)


def test_order_that_was_cut_short_opens_nothing(subject: Subject) -> None:
    order = subject.order(subject.closure(NEW))
    assert subject.tell(order.removesuffix("end\n"))["refused"] == ["usage"]
    assert not subject.succeeds(f"test -e {OPEN}")


def test_order_that_never_ends_keeps_nobody_waiting(subject: Subject) -> None:
    """As when the connection is lost in the middle of it, and sshd does not know yet."""
    stalled = threading.Thread(
        target=subject.host.exec, args=("sh", "-c", f"sleep 20 | {subject.asks} begin"), kwargs={"check": False}
    )
    stalled.start()
    until(lambda: subject.succeeds("pgrep -f 'fleet-host [0-9] begin'"), what="the stalled order waits")
    run = subject.switched(subject.closure(NEW))
    assert subject.word(run, "abandon silent done").accepted
    subject.follow(run, "reverted")
    subject.sh("pkill -f 'fleet-host [0-9] begin'; pkill sleep", check=False)
    stalled.join()

"""The keeper may die at any moment, and PID 1 may be busy: the end is the same."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.containers.hostprogram import HOLD_LOCK, NEW, OPEN, RECORD, Subject
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = NEW + 'activationScript = "/usr/bin/sleep 1";'
STUBBORN = 'services.slow = { exec = "${busybox} sleep inf"; service.ExecStop = "/usr/bin/sleep 1"; };'


@contextmanager
def meanwhile(subject: Subject, command: str, *, times: int = 1000) -> Iterator[None]:
    """The command is run again and again."""
    done = threading.Event()

    def loop() -> None:
        for _ in range(times):
            if done.wait(0.3):
                break
            subject.sh(command, check=False)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("shell", ["/bin/sh", pytest.param("/bin/bash --posix", marks=pytest.mark.long)])
@pytest.mark.parametrize("word", ["confirm", "abandon"])
def test_keeper_that_is_killed_again_and_again_comes_to_the_same_end(subject: Subject, shell: str, word: str) -> None:
    subject.use(shell)
    new = subject.closure(SLOW + STUBBORN)
    run = subject.begin(new)
    kill = f"kill -9 $(systemctl show -P MainPID fleet-keep-{run})"
    with meanwhile(subject, kill):
        subject.follow(run, "switched")
    with meanwhile(subject, kill, times=9):
        if word == "confirm":
            subject.confirm(run)
        else:
            subject.abandon(run)
    assert subject.stands_on == ((new if word == "confirm" else subject.old),) * 3
    switches = subject.sh(f"journalctl -o cat _SYSTEMD_UNIT=fleet-switch-{run}.service | grep -c '^activating the'")
    assert switches == "1"


def test_keeper_that_is_stopped_by_hand_is_started_by_the_next_contact(subject: Subject) -> None:
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"systemctl stop fleet-keep-{run}")
    assert not subject.is_active(f"fleet-keep-{run}")
    subject.call("facts")
    assert subject.is_active(f"fleet-keep-{run}")
    subject.abandon(run)


def test_keeper_that_is_stopped_by_hand_after_its_deadline_reverts_at_the_next_contact(subject: Subject) -> None:
    run = subject.switched(subject.closure(NEW), confirm=2)
    subject.sh(f"systemctl stop fleet-keep-{run}")
    until(
        lambda: float(subject.sh("cut -d' ' -f1 /proc/uptime")) > int(subject.read("deadline")) + 1, what="the deadline"
    )
    assert subject.read("state") == "switched"
    subject.follow(run, "reverted")


def test_keeper_that_does_not_act_is_replaced_at_a_contact_after_the_deadline(subject: Subject) -> None:
    """It lives, so systemd sees nothing wrong. The next one gets time of its own: contacts may be many."""
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"kill -STOP {subject.keeper(run)}")
    subject.sh(f"echo $(($(cut -d. -f1 /proc/uptime) - 16)) >{OPEN}/.late && mv {OPEN}/.late {OPEN}/deadline")
    late = int(subject.read("deadline"))
    view = subject.follow(run, "reverted")
    assert (view.reason, subject.running) == ("nobody confirmed within 30 s", subject.old)
    assert int(subject.sh("cat /run/fleet/last/deadline")) >= late + 16


def test_keeper_that_still_waits_for_a_lock_is_not_replaced_and_does_not_start_late(subject: Subject) -> None:
    subject.sh(HOLD_LOCK)
    run = subject.begin(subject.closure(NEW))
    keeper = subject.keeper(run)
    subject.sh(f"echo 0 >{OPEN}/.late && mv {OPEN}/.late {OPEN}/deadline")
    subject.call("facts")
    assert subject.keeper(run) == keeper
    subject.sh("systemctl stop holder")
    view = subject.follow(run, "reverted")
    assert (view.reason, subject.succeeds("test -e /run/fleet/last/started")) == ("did not start in time", False)


def test_keeper_of_a_guarded_switch_that_asks_its_checks_is_not_replaced(subject: Subject) -> None:
    """It does that when its deadline has passed, for as long as they take."""
    run = subject.switched(subject.closure(NEW))
    keeper = subject.keeper(run)
    subject.sh(f"kill -STOP {keeper}; cd {OPEN} && touch guarded && echo 0 >.late && mv .late deadline")
    subject.call("facts")
    assert subject.keeper(run) == keeper
    subject.sh(f"rm {OPEN}/guarded")
    subject.follow(run, "reverted")


def test_keeper_that_finds_the_switch_ended_does_not_start_it_again(subject: Subject) -> None:
    """The one before died in the moment between start and note."""
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"systemctl stop fleet-keep-{run}; cd {OPEN} && rm launched && echo switching >state")
    subject.follow(run, "switched")
    switches = subject.sh(f"journalctl -o cat _SYSTEMD_UNIT=fleet-switch-{run}.service | grep -c '^activating the'")
    assert (switches, subject.read("launched")) == ("1", "")
    subject.abandon(run)


@pytest.mark.parametrize(
    "deadline",
    [
        "rm deadline",
        *(pytest.param(line, marks=pytest.mark.long) for line in ("echo >deadline", "echo soon >deadline")),
    ],
)
def test_deadline_that_cannot_be_read_has_passed(subject: Subject, deadline: str) -> None:
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"cd {OPEN} && {deadline}")
    subject.follow(run, "reverted")
    assert subject.running == subject.old


@pytest.mark.parametrize(
    "state",
    ["echo confused >state", *(pytest.param(line, marks=pytest.mark.long) for line in ("rm state", "echo >state"))],
)
def test_state_that_nobody_knows_leads_back(subject: Subject, state: str) -> None:
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"systemctl stop fleet-keep-{run}; cd {OPEN} && {state}")
    subject.call("facts")  # starts it again
    until(lambda: subject.show(run).state == "reverted", what="the way back")
    view = subject.show(run)
    assert (view.blame, subject.stands_on) == ("silent", (subject.old,) * 3)


@pytest.mark.parametrize(
    ("state", "remove"),
    [("switching", "rm -rf"), ("switched", "rm -rf"), pytest.param("switched", "mv -t /run", marks=pytest.mark.long)],
)
def test_transaction_that_somebody_removed_leads_back_with_no_contact(
    subject: Subject, state: str, remove: str
) -> None:
    """The record on disk tells what had been begun, and that no reboot came in between."""
    slow = 'activationScript = "systemctl stop steady; /usr/bin/sleep 600";'
    run = subject.begin(subject.closure(NEW + (slow if state == "switching" else "")), confirm=600)
    until(lambda: subject.read("state") == state and not (state == "switching" and subject.is_active("steady")))
    subject.sh(f"{remove} {OPEN}")
    until(lambda: subject.sh(f"cat {RECORD}/last/run", check=False) == run, within=60, what="the way back")
    view = subject.show(run)
    assert (view.state, view.blame, view.rebooted) == ("reverted", "silent", False)
    assert (subject.stands_on, subject.body()) == ((subject.old,) * 3, "old")
    assert subject.is_active("steady")
    subject.sh("rm -rf /run/open")


def test_commit_whose_transaction_somebody_removed_is_finished_with_no_contact(subject: Subject) -> None:
    go = "/run/commit-may-go-on"
    new = subject.closure(NEW + f"beforeBootLoader = ''until [ -e {go} ]; do sleep 0.05; done'';")
    run = subject.switched(new)
    assert subject.word(run, "confirm").accepted
    until(lambda: subject.profile == new, what="the commit has begun")
    subject.sh(f"rm -rf {OPEN}; touch {go}")
    until(lambda: subject.sh(f"cat {RECORD}/last/run", check=False) == run, within=60, what="the end")
    subject.sh(f"rm {go}")
    assert (subject.show(run).state, subject.stands_on) == ("committed", (new,) * 3)


@pytest.mark.parametrize("verb", ["keep", "activate"])
def test_keeper_and_switch_of_a_run_that_is_not_open_do_nothing(subject: Subject, verb: str) -> None:
    run = subject.switched(subject.closure(NEW))
    done = subject.host.exec(subject.program, verb, "20200101T000000-another", check=False)
    assert (done.status, done.stdout, done.stderr, subject.read("state")) == (0, "", "", "switched")
    subject.abandon(run)


def test_transaction_that_ends_while_somebody_looks_is_no_error(subject: Subject) -> None:
    """For a moment the looker sees a transaction, and then not whose it is."""
    subject.sh(f"mkdir -p {OPEN}")
    try:
        assert "running" in subject.call("facts")
    finally:
        subject.sh(f"rmdir {OPEN}")


@pytest.mark.parametrize(
    ("again", "word"),
    [
        ("daemon-reload", "confirm"),
        ("daemon-reexec", "abandon"),
        pytest.param("daemon-reload", "abandon", marks=pytest.mark.long),
        pytest.param("daemon-reexec", "confirm", marks=pytest.mark.long),
    ],
)
def test_systemd_that_reloads_all_the_while_changes_nothing(subject: Subject, again: str, word: str) -> None:
    new = subject.closure(NEW)
    run = subject.switched(new, confirm=30)  # switch-to-configuration itself does not survive a daemon-reexec
    with meanwhile(subject, f"systemctl {again}"):
        assert subject.look(run).bad == ()
        if word == "confirm":
            subject.confirm(run)
        else:
            subject.abandon(run)
    assert subject.running == (new if word == "confirm" else subject.old)


@pytest.mark.parametrize("target", ["emergency", pytest.param("rescue", marks=pytest.mark.long)])
def test_emergency_does_not_stop_the_way_back(subject: Subject, target: str) -> None:
    run = subject.switched(subject.closure(NEW), confirm=3)
    subject.sh(f"systemctl --no-block isolate {target}.target", check=False)
    until(lambda: not subject.succeeds(f"test -e {OPEN}"), what="the way back, with no contact that could help")
    view = subject.follow(run, "reverted")
    assert (view.blame, subject.running, subject.body()) == ("silent", subject.old, "old")
    subject.sh("systemctl start multi-user.target")

"""What becomes of a switch, by how it ends; and who may say what while it is unproven."""

from __future__ import annotations

import subprocess

import pytest

from tests.containers.files import put
from tests.containers.hostprogram import HOLD_LOCK, LOCK, NEW, OLD, Subject, run_id
from tests.waiting import until

HANGING = NEW + 'activationScript = "/usr/bin/sleep 600";'
FAILING = NEW + 'services.bad.exec = "${busybox} false";'

TALK = r"""#!/usr/bin/perl
while (1) {
    if (chdir "/run/fleet/open") {
        for (1 .. 1000) {
            open my $file, ">", ".word.$_" or last;
            unlink ".word.$_";
        }
        open my $file, ">", "/run/talked";
    } else { select undef, undef, undef, 0.01 }
}
"""
"""Puts words that are there for a moment into the transaction, without end."""
FAILS_ONCE = r"""#!/bin/sh
case "$*" in *.{}) mkdir /run/replaced 2>/dev/null && exit 1 ;; esac
exec /usr/bin/cp "$@"
"""


@pytest.mark.parametrize(
    ("config", "status"), [(NEW, 0), (FAILING, 4), (NEW + "switchExit = 4;", 4)], ids=["0", "4", "4 alone"]
)
def test_switch_that_ends_well_waits_for_the_proof(subject: Subject, config: str, status: int) -> None:
    run = subject.begin(subject.closure(config))
    assert subject.follow(run, "switched").status == status
    subject.abandon(run)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        *((1, True), (2, True), (101, True), (11, False), (100, False), (137, False)),
        *(pytest.param(*row, marks=pytest.mark.long) for row in ((3, True), (143, False))),
    ],
)
def test_switch_that_ends_badly_is_reverted(subject: Subject, status: int, found: bool) -> None:  # noqa: FBT001
    bad = subject.closure(NEW + f"switchExit = {status};")
    run = subject.begin(bad)
    view = subject.follow(run, "reverted")
    assert (view.status, view.blame, subject.quarantined(bad)) == (status, "found" if found else "silent", found)
    assert str(status) in view.reason
    assert subject.stands_on == (subject.old,) * 3
    assert subject.body() == "old"


@pytest.mark.parametrize(
    "config",
    [
        NEW + 'activationScript = "exit 3";',
        NEW + 'initInterfaceVersion = "systemd 3";',
        NEW + 'preSwitchChecks.never = "exit 1";',
    ],
    ids=["activation fails", "init interface differs", "check refuses"],
)
def test_switch_that_really_fails_is_reverted(subject: Subject, config: str) -> None:
    run = subject.begin(subject.closure(config))
    subject.follow(run, "reverted")
    assert (subject.stands_on, subject.body()) == ((subject.old,) * 3, "old")


@pytest.mark.parametrize("keeper", ["lives", "is stopped"])
def test_switch_that_is_killed_is_reverted_and_not_held_against_the_closure(subject: Subject, keeper: str) -> None:
    hanging = subject.closure(HANGING)
    run = subject.begin(hanging)
    until(lambda: subject.read("launched"), what="the switch unit")
    if keeper == "is stopped":
        subject.sh(f"systemctl stop fleet-keep-{run}")
    subject.sh(f"systemctl kill -s KILL fleet-switch-{run}")
    until(lambda: not subject.is_active(f"fleet-switch-{run}"), what="it is gone")
    view = subject.follow(run, "reverted")
    assert (view.blame, view.reason) == ("silent", "activation was killed")
    assert not subject.quarantined(hanging)


def test_switch_that_a_check_of_the_host_refuses_is_not_held_against_the_closure(subject: Subject) -> None:
    """It would refuse the old system as well, and may not refuse this one an hour later."""
    subject.sh("touch /run/backup-runs")
    refused = subject.closure(NEW + 'preSwitchChecks.backup = "! test -e /run/backup-runs";')
    view = subject.follow(subject.begin(refused), "reverted")
    subject.sh("rm /run/backup-runs")
    assert (view.blame, view.reason) == ("silent", "a pre-switch check refuses: backup (exit status 1)")
    assert not subject.quarantined(refused)


def test_switch_that_hangs_is_killed_at_its_deadline_and_reverted(subject: Subject) -> None:
    config = NEW + 'activationScript = "trap : TERM; while :; do /usr/bin/sleep 1; done";'
    hanging = subject.closure(config)
    run = subject.begin(hanging, activation=2)
    view = subject.follow(run, "reverted")
    assert view.reason == "activation did not end within 2 s"
    assert subject.quarantined(hanging)
    assert not subject.succeeds("pgrep -f '[a]ctivation-script'")
    assert subject.body() == "old"


def test_output_of_the_switch_goes_to_the_journal_and_to_whoever_watches(subject: Subject) -> None:
    run = subject.switched(subject.closure(NEW + 'activationScript = "echo so=it goes; echo two >&2";'))
    told = subject.call("watch", run, "switching", "")
    assert "so=it goes" in told["line"]
    assert "two" in told["line"]
    again = subject.call("watch", run, "switching", told["cursor"][-1])
    assert "line" not in again
    subject.abandon(run)


def test_switch_outlives_who_asked_for_it(subject: Subject) -> None:
    """The connection dies, and with it the process that begins."""
    new = subject.closure(NEW)
    order = subject.order(new)
    argv = ["docker", "exec", "-i", subject.host.container.name, "sh", "-c", f"{subject.asks} begin; sleep 600"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin
        assert client.stdout
        client.stdin.write(order.encode())
        client.stdin.close()
        run = client.stdout.readline().decode().strip().removeprefix("begun=")
        client.kill()
    subject.sh("pkill -KILL -f '[s]leep 600'", check=False)
    subject.follow(run, "switched")
    subject.abandon(run)


def test_lock_that_another_switch_holds_for_a_while_is_waited_for(subject: Subject) -> None:
    new = subject.closure(NEW)
    subject.sh(f"mkdir -p /run/nixos; {HOLD_LOCK}")
    run = subject.begin(new)
    assert subject.call("facts")["lock_holder"][-1].endswith(" flock")
    assert not subject.succeeds("test -e /run/fleet/open/started")
    subject.sh("systemctl stop holder")
    subject.follow(run, "switched")
    subject.abandon(run)


def test_abandoned_while_it_waits_for_the_lock_it_never_starts(subject: Subject) -> None:
    subject.sh(f"mkdir -p /run/nixos; {HOLD_LOCK}")
    run = subject.begin(subject.closure(NEW))
    assert subject.word(run, "abandon silent bye").accepted
    subject.sh("systemctl stop holder")
    assert subject.follow(run, "reverted").reason == "bye"
    assert not subject.succeeds("test -e /run/fleet/last/started")


def test_words_that_come_while_it_is_put_on_record_keep_nobody_from_it(subject: Subject) -> None:
    """A word is a file that is written under another name first: that one is gone before it could be copied."""
    put(subject.host, "/root/talk", TALK, mode="755")
    subject.sh("systemd-run -q --unit=talker /root/talk")
    run = subject.begin(subject.closure(NEW))
    assert subject.follow(run, "switched").status == 0
    view = subject.abandon(run, "silent bye")
    subject.sh("systemctl stop talker; rm /run/talked")
    assert view.reason == "bye"
    assert subject.sh("cat /nix/var/fleet/last/run") == run


@pytest.mark.parametrize("copy", ["open", "last"])
def test_word_that_replaces_a_file_while_it_is_copied_keeps_nobody_from_it(subject: Subject, copy: str) -> None:
    """GNU cp looks at a file, opens it, and fails if it is another one by then: "skipping file, as it was replaced"."""
    put(subject.host, "/usr/local/bin/cp", FAILS_ONCE.format(copy), mode="755")
    try:
        run = subject.begin(subject.closure(NEW))
        assert subject.follow(run, "switched").status == 0
        view = subject.abandon(run, "silent bye")
    finally:
        subject.sh("rm /usr/local/bin/cp; rmdir /run/replaced")
    assert view.reason == "bye"
    assert subject.sh("cat /nix/var/fleet/last/run") == run


def test_lock_of_another_file_is_not_taken_for_it(subject: Subject) -> None:
    subject.sh(f"mkdir -p /run/nixos; touch {LOCK}; systemd-run -q --unit=holder flock /run/holder /usr/bin/sleep inf")
    until(lambda: not subject.succeeds("flock -n /run/holder true"), what="a held lock")
    assert subject.call("facts")["lock_holder"] == [""]
    subject.sh("systemctl stop holder; rm /run/holder")


# --- switched: words and the deadline ---


def test_nobody_confirms_and_the_host_goes_back(subject: Subject) -> None:
    new = subject.closure(NEW)
    run = subject.begin(new, confirm=1)
    view = subject.follow(run, "reverted")
    assert (view.blame, view.reason) == ("silent", "nobody confirmed within 1 s")
    assert not subject.quarantined(new)
    assert subject.stands_on == (subject.old,) * 3


def test_looking_renews_the_deadline(subject: Subject) -> None:
    run = subject.switched(subject.closure(NEW), confirm=5)
    first = int(subject.read("deadline"))
    until(lambda: subject.look(run).is_open and int(subject.read("deadline")) >= first + 6, what="6 s")
    subject.abandon(run)


@pytest.mark.parametrize(("why", "found"), [("found check web: 503", True), ("silent Ctrl-C", False)])
def test_only_what_was_found_bad_is_quarantined(subject: Subject, why: str, found: bool) -> None:  # noqa: FBT001
    new = subject.closure(NEW)
    view = subject.abandon(subject.switched(new), why)
    assert f"{view.blame} {view.reason}" == why
    assert subject.quarantined(new) == found


def test_abandoned_while_switching_is_reverted(subject: Subject) -> None:
    run = subject.begin(subject.closure(HANGING))
    until(lambda: subject.read("launched"), what="the switch unit")
    assert not subject.word(run, "confirm").accepted
    deadline = subject.read("deadline")
    subject.look(run)  # only what is to be looked at gets more time by it
    assert subject.read("deadline") == deadline
    subject.abandon(run)


@pytest.mark.parametrize("word", ["confirm", "abandon found x", "confirmed", "abandon", "", "switched:confirm"])
def test_word_of_another_run_and_words_that_are_none_are_refused(subject: Subject, word: str) -> None:
    run = subject.switched(subject.closure(NEW))
    assert not subject.word(run_id(), word).accepted
    if word not in ("confirm", "abandon found x"):
        assert not subject.word(run, word).accepted
    assert subject.read("word") == ""
    subject.abandon(run)


def test_word_that_comes_late_is_refused_and_does_nothing(subject: Subject) -> None:
    new = subject.closure(
        NEW + 'services.slow = { exec = "${busybox} sleep inf"; service.ExecStop = "/usr/bin/sleep 2"; };'
    )
    run = subject.switched(new)
    assert subject.word(run, "abandon silent bye").accepted
    until(lambda: subject.read("state") == "reverting", what="reverting")
    for word in ("confirm", "abandon found it: switch"):
        assert not subject.word(run, word).accepted
    subject.follow(run, "reverted")
    assert not subject.word(run, "confirm").accepted
    assert subject.stands_on == (subject.old,) * 3


# --- goals and special closures ---


def test_goal_test_leaves_profile_and_boot_default_alone(subject: Subject) -> None:
    new, before = subject.closure(NEW), subject.generations
    subject.confirm(subject.switched(new, goal="test"), end="tested")
    assert (subject.stands_on, subject.generations) == ((new, subject.old, subject.old), before)


def test_closure_that_runs_already_is_committed(subject: Subject) -> None:
    new = subject.closure(NEW)
    subject.confirm(subject.switched(new, goal="test"), end="tested")
    subject.confirm(subject.switched(new))
    assert subject.stands_on == (new,) * 3
    assert subject.sh("readlink /nix/var/nix/gcroots/fleet/previous") == subject.old


def test_closure_that_runs_already_and_is_abandoned_stays(subject: Subject) -> None:
    subject.abandon(subject.switched(subject.closure(OLD)))
    assert subject.stands_on == (subject.old,) * 3

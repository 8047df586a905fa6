"""Going back: the old system runs again and is proven to, or a person is told that it is not."""

from __future__ import annotations

import pytest

from tests.containers.hostprogram import HOLD_LOCK, LOCK, NEW, OLD, OPEN, PROFILE, RECORD, Subject
from tests.waiting import until

EXTRA = 'services.extra.exec = "${busybox} sleep inf"; units."tick.timer" = '
EXTRA += '{ text = "[Timer]\\nUnit=extra.service\\nOnActiveSec=1h\\n"; wantedBy = [ "timers.target" ]; };'
TIMER = 'units."%s.timer" = { text = "[Timer]\\nOnActiveSec=1h\\n"; wantedBy = [ "timers.target" ]; };'
SOCKET = 'units."%s.socket" = { text = "[Socket]\\nListenStream=127.0.0.1:%d\\nAccept=yes\\n"; '
SOCKET += 'wantedBy = [ "sockets.target" ]; };'
UNITS = ("web", "steady", "loose", "extra", "tick.timer")


def old_that(subject: Subject, more: str) -> str:
    """The host runs this variant of OLD."""
    odd = subject.closure(OLD.replace('version = "old"', 'version = "odd"') + more)
    subject.confirm(subject.switched(odd, goal="test"), end="tested")
    return odd


@pytest.mark.parametrize("shell", ["/bin/sh", pytest.param("/bin/bash --posix", marks=pytest.mark.long)])
@pytest.mark.parametrize("own", [True, False], ids=["by its own means", "by hand"])
def test_what_only_new_had_is_gone_and_what_ran_runs(subject: Subject, shell: str, own: bool) -> None:  # noqa: FBT001
    subject.use(shell)
    script = 'activationScript = "echo >>/run/activated";' + ("" if own else 'switchScript = "test ! -e /run/refuse";')
    odd = old_that(subject, script + 'services.loose = { exec = "${busybox} sleep inf"; wantedBy = [ ]; };')
    subject.sh("systemctl start loose")  # no target would start it again
    run = subject.switched(subject.closure(NEW + EXTRA))
    assert subject.is_active("extra")
    subject.sh("systemctl stop steady" if own else "systemctl stop steady; touch /run/refuse")
    subject.abandon(run)
    assert subject.sh("wc -l </run/activated; rm -f /run/refuse /run/activated") == "2"
    assert (subject.running, subject.body()) == (odd, "old")
    assert [subject.is_active(unit) for unit in UNITS] == [True, True, True, False, False]
    assert not subject.succeeds("test -e /etc/systemd/system/extra.service")


def test_old_that_hangs_while_switching_back_is_put_back_by_hand(subject: Subject) -> None:
    odd = old_that(subject, 'switchScript = "test ! -e /run/hang || /usr/bin/sleep 600";')
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"touch /run/hang; echo 3 >{OPEN}/.limit && mv {OPEN}/.limit {OPEN}/activation")
    subject.abandon(run)
    subject.sh("rm /run/hang")
    assert (subject.running, subject.body()) == (odd, "old")


def test_old_that_cannot_be_proven_is_stuck(subject: Subject) -> None:
    """What ran before does not any more, and nothing has failed."""
    old_that(subject, 'services.moody = { exec = "${busybox} sleep inf"; unit.ConditionPathExists = "!/run/moody"; };')
    run = subject.switched(subject.closure(NEW))
    subject.sh("touch /run/moody")
    view = subject.abandon(run, end="stuck")
    subject.sh("rm /run/moody")
    assert view.reason == "operator said so"


def test_old_that_has_a_unit_newly_failing_is_put_back_by_hand(subject: Subject) -> None:
    """Also a unit that had done its work before, and so was not active. Here only the second activation helps it."""
    moody = 'services.moody = { exec = "${busybox} test ! -e /run/moody"; service.Type = "oneshot"; };'
    script = "echo >>/run/activated; systemctl reset-failed moody || :"
    odd = old_that(subject, moody + f'activationScript = "{script}";')
    run = subject.switched(subject.closure(NEW))
    subject.sh("touch /run/moody; rm /run/activated")
    subject.abandon(run)
    assert subject.sh("wc -l </run/activated; rm /run/moody /run/activated") == "2"
    assert subject.running == odd


def test_what_comes_and_goes_is_neither_started_nor_counted_on_the_way_back(subject: Subject) -> None:
    """With a timer or a connection, and what is to be ignored, and what is of no system."""
    restart = ("Restart=always", "RestartSec=1h")
    fails = "\\n".join(("[Service]", "ExecStart=/usr/bin/false", *restart, ""))
    works = "[Service]\\nExecStart=/usr/bin/sleep inf\\n"
    extra = "".join(f'units."{unit}.service".text = "{fails}";' for unit in ("job", "ignored", "talk@"))
    extra += "".join(f'units."{unit}.service".text = "{works}";' for unit in ("backup", "call@"))
    extra += TIMER % "job" + TIMER % "backup" + SOCKET % ("talk", 7070) + SOCKET % ("call", 7071)
    odd = old_that(subject, extra)
    subject.sh("systemctl start backup call@1")
    run = subject.switched(subject.closure(NEW + extra), ignore=("ignored.service",))
    subject.sh("systemctl stop backup call@1; systemctl start job ignored talk@1", check=False)
    subject.sh(f"systemd-run -q --unit=stray -p {' -p '.join(restart)} /usr/bin/false")
    units = "job.service ignored.service talk@1.service stray.service"
    waiting = f"systemctl show -P SubState {units} | grep -cx auto-restart"
    until(lambda: subject.sh(waiting, check=False) == "4", what="all four wait for a restart")
    subject.abandon(run)
    subject.sh(f"systemctl stop {units}")
    assert subject.running == odd
    assert [subject.is_active(unit) for unit in ("backup", "call@1")] == [False, False]


def test_lock_that_somebody_holds_for_a_while_is_waited_for(subject: Subject) -> None:
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"systemd-run -q --unit=holder flock {LOCK} /usr/bin/sleep 2")
    until(lambda: not subject.succeeds(f"flock -n {LOCK} true"), what="a held lock")
    subject.abandon(run)
    assert (subject.running, subject.body()) == (subject.old, "old")
    assert "Could not acquire lock" not in subject.sh(f"journalctl -o cat -u fleet-keep-{run}")


def third(subject: Subject) -> str:
    return subject.closure(NEW.replace('"new"', '"third"'))


def test_host_that_somebody_moved_to_a_third_system_is_left_alone(subject: Subject) -> None:
    run, repaired = subject.switched(subject.closure(NEW)), third(subject)
    subject.sh(f"{repaired}/bin/switch-to-configuration test")
    subject.abandon(run, end="superseded")
    assert (subject.running, subject.body()) == (repaired, "third")


def test_boot_default_that_somebody_switches_to_without_a_reboot_stays(subject: Subject) -> None:
    """After a reboot the host would go back from there to what ran."""
    old_that(subject, "")
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"{subject.old}/bin/switch-to-configuration test")
    subject.abandon(run, end="superseded")
    assert subject.running == subject.old


def test_host_on_trial_that_somebody_moved_to_a_third_system_is_not_rebooted(subject: Subject) -> None:
    """Going back from a boot on trial is a reboot."""
    new, repaired = subject.closure(NEW), third(subject)
    run = subject.switched(new)
    booted = subject.sh("readlink /run/booted-system")
    subject.sh(f"touch {OPEN}/armed; ln -sfn {new} /run/booted-system; {repaired}/activate {repaired}")
    subject.abandon(run, end="superseded")
    subject.sh(f"ln -sfn {booted} /run/booted-system")
    assert subject.running == repaired


def test_host_whose_profile_somebody_set_is_left_alone(subject: Subject) -> None:
    new = subject.closure(NEW)
    run, repaired = subject.switched(new), third(subject)
    subject.sh(f"nix-env -p {PROFILE} --set {repaired}")
    subject.abandon(run, end="superseded")
    assert (subject.running, subject.profile) == (new, repaired)


@pytest.mark.parametrize("how", ["system", "profile"])
def test_commit_of_a_host_that_somebody_repaired_does_nothing(subject: Subject, how: str) -> None:
    run, repaired = subject.switched(subject.closure(NEW)), third(subject)
    act = (
        f"nix-env -p {PROFILE} --set {repaired}" if how == "profile" else f"{repaired}/bin/switch-to-configuration test"
    )
    subject.sh(act)
    before = subject.stands_on
    subject.confirm(run, end="superseded")
    assert subject.stands_on == before


def test_switch_of_a_host_that_somebody_moves_meanwhile_is_ended_and_left_alone(subject: Subject) -> None:
    """Nothing of ours goes on, also where our switch still ran."""
    run = subject.begin(subject.closure(NEW + 'activationScript = "/usr/bin/sleep 600";'))
    until(lambda: subject.is_active(f"fleet-switch-{run}"), what="the switch unit")
    subject.sh(f"nix-env -p {PROFILE} --set {third(subject)}")
    subject.abandon(run, end="superseded")
    assert not subject.is_active(f"fleet-switch-{run}")


@pytest.mark.parametrize("which", ["a third system", "the same that we were to bring"])
def test_switch_does_not_start_once_somebody_else_has_switched(subject: Subject, which: str) -> None:
    subject.sh(f"mkdir -p /run/nixos; {HOLD_LOCK}")
    new = subject.closure(NEW)
    run = subject.begin(new)
    theirs = third(subject) if which == "a third system" else new
    subject.sh(f"ln -sfn {theirs} /run/current-system; systemctl stop holder")
    subject.follow(run, "superseded")
    assert subject.running == theirs


def test_system_that_was_not_the_default_runs_again_after_a_power_cut(subject: Subject) -> None:
    """The host boots its default then, which is neither of the two."""
    odd = old_that(subject, "")
    run = subject.switched(subject.closure(NEW))
    subject.host.power_off()
    subject.host.power_on()
    assert subject.running == subject.old
    view = subject.follow(run, "reverted")
    assert (view.rebooted, view.reason) == (True, "the host rebooted during the switch")
    assert subject.stands_on == (odd, subject.old, subject.old)


def test_what_somebody_else_made_the_default_before_the_switch_started_stays_after_a_power_cut(
    subject: Subject,
) -> None:
    subject.sh(f"mkdir -p /run/nixos; {HOLD_LOCK}")
    new = subject.closure(NEW)
    run = subject.begin(new)
    until(lambda: subject.succeeds(f"test -e {RECORD}/open"), what="the record")
    subject.sh(f"systemctl stop fleet-keep-{run} holder; nix-env -p {PROFILE} --set {new}")
    subject.sh(f"{new}/bin/switch-to-configuration boot")
    subject.host.power_off()
    subject.host.power_on()
    subject.follow(run, "superseded")
    assert subject.stands_on == (new,) * 3


def test_way_back_leaves_alone_what_somebody_else_put_there_before_the_switch_started(subject: Subject) -> None:
    """They have brought the very system that we were to bring, and told us to stop."""
    subject.sh(f"mkdir -p /run/nixos; {HOLD_LOCK}")
    new = subject.closure(NEW)
    run = subject.begin(new)
    assert subject.word(run, "abandon silent somebody else did it").accepted
    subject.sh(f"ln -sfn {new} /run/current-system; nix-env -p {PROFILE} --set {new}; systemctl stop holder")
    subject.follow(run, "superseded")
    assert (subject.running, subject.profile) == (new, new)

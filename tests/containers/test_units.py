"""Which unit's trouble is the new system's fault. The rule has one implementation, in the host program."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.containers.files import put
from tests.containers.hostprogram import NEW, OLD, Subject
from tests.waiting import until

if TYPE_CHECKING:
    from fleet.host.answers import View

FALSE = 'exec = "${busybox} false";'
ONCE = 'exec = "/usr/bin/test -e /run/good"; service.Type = "oneshot";'
TIMED = (
    'services.job = { exec = "%s"; service.Type = "oneshot"; wantedBy = [ ]; };'
    'units."job.timer" = { text = "[Timer]\\nOnActiveSec=1h\\n"; wantedBy = [ "timers.target" ]; };'
)
SOCKET = (
    'units."talk.socket" = { text = "[Socket]\\nListenStream=127.0.0.1:7070\\nAccept=%s\\n"; '
    'wantedBy = [ "sockets.target" ]; };'
    'units."talk@.service".text = "[Service]\\nExecStart=${busybox} false\\n";'
)


def verdict(subject: Subject, config: str, *trouble: str, **order: object) -> View:
    """What the host says of its units after the switch and these commands; then it is back at OLD."""
    run = subject.switched(subject.closure(config), **order)
    for command in trouble:
        subject.sh(command, check=False)
    view = subject.look(run)
    subject.abandon(run)
    return view


def test_unit_that_failed_is_bad(subject: Subject) -> None:
    view = verdict(subject, NEW + f"services.ill = {{ {FALSE} }};")
    assert view.bad == ("ill.service has failed",)


def test_unit_that_fails_later_is_bad(subject: Subject) -> None:
    run = subject.switched(subject.closure(NEW + "services.ill.exec = \"${busybox} sh -c 'sleep 1; false'\";"))
    until(lambda: subject.look(run).bad == ("ill.service has failed",), within=5, what="a failed unit")
    subject.abandon(run)


def test_unit_with_a_dash_in_its_path_is_named_as_it_is(subject: Subject) -> None:
    view = verdict(subject, NEW + 'services."a\\\\x2db" = { ' + FALSE + " };")
    assert view.bad == ("a\\x2db.service has failed",)


def test_unit_that_failed_before_is_listed_and_not_counted(subject: Subject) -> None:
    ill = f"services.ill = {{ {FALSE} }};"
    subject.confirm(subject.switched(subject.closure(OLD + ill), goal="test"), end="tested")
    run = subject.switched(subject.closure(NEW + ill))
    said = subject.call("look", run)
    assert (said.get("bad"), said["failing_before"]) == (None, ["ill.service"])
    subject.abandon(run)


def test_unit_that_waits_for_its_restart_is_unsettled(subject: Subject) -> None:
    service = f'services.ill = {{ {FALSE} service = {{ Restart = "always"; RestartSec = "1h"; }}; }};'
    view = verdict(subject, NEW + service)
    assert (view.bad, view.unsettled) == ((), ("ill.service is waiting to be restarted",))


def test_crash_loop_that_samples_as_active_is_bad(subject: Subject) -> None:
    loop = 'exec = "${busybox} sleep 0.4"; service = { Restart = "always"; RestartSec = 0; };'
    started = time.monotonic()
    run = subject.switched(subject.closure(NEW + f"services.loop = {{ {loop} }};"))
    words = "loop.service was restarted "
    until(lambda: "".join(subject.look(run).bad).startswith(words), within=8, what="a crash loop")
    print(f"crash loop found {time.monotonic() - started:.1f} s after begin")
    subject.abandon(run)


def test_restarts_before_the_end_of_activation_are_not_counted(subject: Subject) -> None:
    service = "services.ill = { exec = \"${busybox} sh -c 'test -e /run/good || exit 1; exec sleep inf'\"; "
    service += 'service = { Restart = "always"; RestartSec = "100ms"; }; unit.StartLimitIntervalSec = 0; };'
    slow = 'services.slow = { service.Type = "oneshot"; '
    slow += "exec = \"${busybox} sh -c 'sleep 1; touch /run/good; sleep 1'\"; };"
    view = verdict(subject, NEW + service + slow)
    subject.sh("rm /run/good")
    assert (view.status, view.bad, view.unsettled) == (0, (), ())


@pytest.mark.parametrize("now", ["test -e /run/never", "test -e /run/ever"])
def test_timer_driven_unit_counts_only_if_its_definition_changed(subject: Subject, now: str) -> None:
    before = OLD + TIMED % "/usr/bin/test -e /run/never"
    subject.confirm(subject.switched(subject.closure(before), goal="test"), end="tested")
    view = verdict(subject, NEW + TIMED % f"/usr/bin/{now}", "systemctl start job")
    assert view.bad == (() if "never" in now else ("job.service has failed",))


def test_instance_of_a_changed_timer_driven_template_counts(subject: Subject) -> None:
    template = 'units."job@.service".text = "[Service]\\nType=oneshot\\nExecStart=%s\\n";'
    timer = 'units."job@a.timer" = { text = "[Timer]\\nOnActiveSec=1h\\n"; wantedBy = [ "timers.target" ]; };'
    before = OLD + timer + template % "/usr/bin/true"
    subject.confirm(subject.switched(subject.closure(before), goal="test"), end="tested")
    view = verdict(subject, NEW + timer + template % "/usr/bin/false", "systemctl start job@a")
    assert view.bad == ("job@a.service has failed",)


@pytest.mark.parametrize("accept", ["yes", "no"])
def test_instance_of_a_connection_is_not_counted(subject: Subject, accept: str) -> None:
    new = NEW + SOCKET % accept
    if accept == "no":
        new += 'units."talk.service".text = "[Service]\\nExecStart=/usr/bin/sleep inf\\n";'
    view = verdict(subject, new, "systemctl start talk@1")
    assert view.bad == (() if accept == "yes" else ("talk@1.service has failed",))


def test_transient_unit_and_unit_of_no_closure_are_not_counted(subject: Subject) -> None:
    stray = (
        "printf '[Service]\\nExecStart=/usr/bin/false\\n' >/run/systemd/system/stray.service; systemctl daemon-reload"
    )
    view = verdict(
        subject,
        NEW,
        "systemd-run --unit=gone-wrong /usr/bin/false",
        f"mkdir -p /run/systemd/system; {stray}; systemctl start stray",
    )
    subject.sh("rm /run/systemd/system/stray.service; systemctl reset-failed; systemctl daemon-reload")
    assert view.bad == ()


@pytest.mark.parametrize(("pattern", "counts"), [("backup-*", False), ("backup", True), ("*@home.service", False)])
def test_ignored_units_are_not_counted(subject: Subject, pattern: str, counts: bool) -> None:  # noqa: FBT001
    unit = "backup-x@home"
    config = NEW + 'units."backup-x@.service".text = "[Service]\\nExecStart=/usr/bin/false\\n";'
    view = verdict(subject, config, f"systemctl start {unit}", ignore=(pattern,))
    assert view.bad == ((f"{unit}.service has failed",) if counts else ())


@pytest.mark.parametrize("pattern", [r"mnt-my\x2ddisk.service", r"mnt-my\x2d*"])
def test_escapes_in_ignored_units_are_part_of_the_name(subject: Subject, pattern: str) -> None:
    unit = r"mnt-my\x2ddisk.service"
    config = NEW + r"""units."mnt-my\\x2ddisk.service".text = "[Service]\nExecStart=/usr/bin/false\n";"""
    assert verdict(subject, config, f"systemctl start '{unit}'", ignore=(pattern,)).bad == ()


def test_unit_that_is_not_counted_does_not_hide_that_activation_failed(subject: Subject) -> None:
    bad = subject.closure(NEW + f'services.ill = {{ {FALSE} }}; activationScript = "exit 3";')
    view = subject.follow(subject.begin(bad, ignore=("ill.service",)), "reverted")
    assert (view.reason, subject.quarantined(bad)) == ("activation failed with exit status 2", True)
    assert subject.stands_on == (subject.old,) * 3


def test_verdict_takes_little_time(subject: Subject) -> None:
    many = "".join(f'services.s{n}.exec = "{"${busybox}"} sleep inf";' for n in range(100))
    run = subject.switched(subject.closure(NEW + many))
    seconds = float(
        subject.sh(f"s=$(date +%s%N); {subject.asks} look {run} >/dev/null; e=$(date +%s%N); echo $((e-s))")
    )
    print(f"judged in {seconds / 1e9:.3f} s")
    assert seconds / 1e9 < 1.5
    subject.abandon(run)


GENERATOR = """#!/bin/sh
printf '[Service]\\nExecStart=/bin/false\\n' >$1/generated.service
"""
"""As cryptsetup and quadlet have one."""


def test_unit_that_a_generator_has_made_of_the_new_system_is_bad_when_it_fails(subject: Subject) -> None:
    put(subject.host, "/etc/systemd/system-generators/lab", GENERATOR, mode="755")
    try:
        view = verdict(subject, NEW, "systemctl daemon-reload; systemctl start generated")
    finally:
        subject.sh("rm -r /etc/systemd/system-generators; systemctl reset-failed; systemctl daemon-reload")
    assert view.bad == ("generated.service has failed",)


BY_PATH = """
units."job.path" = { text = "[Path]\\nPathExists=/run/now\\n"; wantedBy = [ "multi-user.target" ]; };
services.job.exec = "/bin/sh -c 'PATH=/usr/bin; cd /run; rm now; echo >>ran; while test -e busy; do sleep 0.1; done'";
services.job.wantedBy = [ ];
"""


def test_job_of_a_path_that_has_ended_is_not_started_again_on_the_way_back(subject: Subject) -> None:
    subject.confirm(subject.switched(subject.closure(OLD + BY_PATH)))
    subject.sh("rm -f /run/ran; touch /run/busy /run/now")
    until(lambda: subject.is_active("job"), what="the job runs")
    run = subject.switched(subject.closure(NEW + BY_PATH))
    subject.sh("rm /run/busy")
    until(lambda: not subject.is_active("job"), what="the job has ended")
    subject.abandon(run)
    assert subject.sh("wc -l </run/ran; systemctl is-failed job", check=False).split() == ["1", "inactive"]

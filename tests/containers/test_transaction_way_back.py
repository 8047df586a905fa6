"""The way back is proven as strictly as the way forward, and the closure is blamed for its own deeds alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.containers.hostprogram import NEW, OLD, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = pytest.mark.long
"""Each waits until the host has given up to mend itself."""
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
KEYS = "/root/.ssh/authorized_keys"
MEND = f"""\
umount /etc 2>/dev/null; rm -f /etc/nologin /etc/ssh/sshd_config.d/shut.conf
[ ! -e /root/.ssh/x ] || mv /root/.ssh/x {KEYS}
[ ! -e /root/host-key ] || mv /root/host-key /etc/ssh/ssh_host_ed25519_key
chmod 700 /root/.ssh; mount -o remount,rw /boot 2>/dev/null; lab-disk restore /boot
systemctl start ssh web steady; :
"""


@pytest.fixture
def mended(subject: Subject) -> Iterator[Subject]:
    """A host on which everything is put right afterwards that `subject` does not know of."""
    yield subject
    subject.sh(MEND)


def failing(script: str) -> str:
    """A system whose activation does this, and fails."""
    return NEW + f"activationScript = ''{script}; exit 1'';"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (f"mv {KEYS} /root/.ssh/x", f"a key is gone from {KEYS}"),
        pytest.param("mount -t tmpfs x /etc", "what is mounted at /etc is not what was there at begin", marks=LONG),
        pytest.param("touch /etc/nologin", "/etc/nologin keeps people from logging in", marks=LONG),
        pytest.param(
            "chmod 777 /root/.ssh",
            "/root/.ssh is gone, or others can write there, so that sshd does not trust it",
            marks=LONG,
        ),
        ("echo DenyUsers root >/etc/ssh/sshd_config.d/shut.conf", "sshd's configuration is not as at begin: denyusers"),
        pytest.param(
            f'mv {HOST_KEY} /root/host-key; ssh-keygen -qt ed25519 -N "" -f {HOST_KEY}',
            f"{HOST_KEY} is not the host key that it was",
            marks=LONG,
        ),
    ],
    ids=["keys", "mount", "nologin", "modes", "sshd", "host key"],
)
def test_old_system_that_lets_nobody_in_is_stuck_and_says_why(mended: Subject, script: str, told: str) -> None:
    new = mended.closure(failing(f"export PATH=/usr/sbin:/usr/bin:/bin; {script}"))
    view = mended.follow(mended.begin(new), "stuck", within=90)
    assert (view.unproven, mended.quarantined(new)) == (told, False)


def test_sshd_that_new_has_stopped_listens_again(subject: Subject) -> None:
    subject.follow(subject.begin(subject.closure(failing("/usr/bin/systemctl stop ssh.service"))), "reverted")
    assert subject.is_active("ssh.service")


def test_key_that_somebody_adds_meanwhile_is_in_nobody_s_way(mended: Subject) -> None:
    run = mended.switched(mended.closure(NEW))
    mended.sh(f"cp -a {KEYS} /root/.ssh/x; echo ssh-ed25519 AAAAnew >>{KEYS}")
    mended.abandon(run)


# --- units that cannot start any more ---

ONCE = 'services.once = { exec = "/usr/bin/test ! -e /run/spent"; '
ONCE += 'service = { Type = "oneshot"; RemainAfterExit = true; ExecStartPost = "/usr/bin/true%s"; }; };'


@pytest.mark.parametrize(("ignore", "end"), [(("once.service",), "reverted"), pytest.param((), "stuck", marks=LONG)])
def test_unit_that_can_start_in_neither_system_is_ignored_or_named(
    subject: Subject, ignore: tuple[str, ...], end: str
) -> None:
    odd = subject.closure(OLD.replace('version = "old"', 'version = "odd"') + ONCE % "")
    subject.confirm(subject.switched(odd, goal="test"), end="tested")
    subject.sh("touch /run/spent")
    run = subject.switched(subject.closure(NEW + ONCE % " 2"), ignore=ignore)
    view = subject.abandon(run, end=end)
    subject.sh("rm /run/spent")
    assert subject.running == odd
    if end == "stuck":
        assert view.unproven == "once.service was active at begin, and is failed"


# --- who is to blame ---


def test_read_only_boot_is_not_the_fault_of_the_closure(mended: Subject) -> None:
    mended.sh("lab-disk give /boot 16")
    new = mended.closure(NEW)
    run = mended.switched(new)
    mended.sh("mount -o remount,ro /boot")
    view = mended.confirm(run, end="reverted")
    assert (view.blame, mended.quarantined(new)) == ("silent", False)
    assert view.reason == "commit: boot loader failed: /boot is read-only"


def test_activation_that_fails_in_the_old_system_too_is_not_blamed(subject: Subject) -> None:
    odd = subject.closure(
        OLD.replace('version = "old"', 'version = "odd"') + 'activationScript = "test ! -e /run/lxc";'
    )
    subject.confirm(subject.switched(odd, goal="test"), end="tested")
    subject.sh("touch /run/lxc")
    new = subject.closure(NEW + 'activationScript = "test ! -e /run/lxc # too";')
    view = subject.follow(subject.begin(new), "reverted")
    subject.sh("rm /run/lxc")
    assert (view.blame, subject.quarantined(new), subject.running) == ("silent", False, odd)
    assert view.reason == "activation failed with exit status 2: the old system's activation fails too"


def test_activation_script_that_may_fail_is_no_obstacle_and_is_noted(subject: Subject) -> None:
    new = subject.closure(NEW + 'activationScript = "exit 3";')
    view = subject.confirm(subject.switched(new, snippet=("specialfs", "lab")))
    assert (view.status, subject.stands_on) == (2, (new, new, new))
    assert view.notes == ("activation script 'lab' failed, which ignore_snippets allows",)
    bad = subject.closure(OLD + 'activationScript = "exit 3";')
    view = subject.follow(subject.begin(bad, snippet=("specialfs",)), "reverted")
    assert (view.reason, subject.running) == (
        "activation failed with exit status 2: the old system's activation fails too", new,
    )  # fmt: skip


def test_activation_that_fails_in_the_new_system_alone_is_blamed(subject: Subject) -> None:
    new = subject.closure(NEW + 'activationScript = "exit 1 # alone";')
    view = subject.follow(subject.begin(new), "reverted")
    assert (view.blame, view.reason, subject.quarantined(new)) == (
        "found",
        "activation failed with exit status 2",
        True,
    )


def test_activation_that_waits_for_a_job_names_it(subject: Subject) -> None:
    slow = 'services.slow = { exec = "/usr/bin/sleep 600"; service = { Type = "oneshot"; TimeoutStartSec = "1h"; }; };'
    new = subject.closure(NEW + slow)
    view = subject.follow(subject.begin(new, activation=5), "reverted", within=60)
    assert view.reason == "activation did not end within 5 s: it waits for slow.service"
    assert (view.blame, subject.quarantined(new)) == ("found", True)


def test_blame_is_taken_back_when_the_old_system_fails_the_check_too(subject: Subject) -> None:
    new = subject.closure(NEW)
    run = subject.switched(new)
    subject.abandon(run, "found check upstream: refused")
    assert subject.quarantined(new)
    assert "acquitted" in subject.call("acquit", run)
    assert (subject.quarantined(new), subject.show(run).blame) == (False, "silent")
    assert "acquitted" not in subject.call("acquit", run)


# --- notes on what is kept ---

WORKER = 'services.worker = { exec = "${busybox} sleep 10000%d"; };'


def test_service_that_something_starts_in_the_middle_of_the_switch_is_noted(subject: Subject) -> None:
    subject.confirm(subject.switched(subject.closure(OLD + WORKER % 1), goal="test"), end="tested")
    new = subject.closure(NEW + WORKER % 2 + 'activationScript = "/usr/bin/systemctl start worker.service";')
    view = subject.confirm(subject.switched(new, goal="test"), end="tested")
    told = "worker.service was changed, and still runs as before: systemctl restart worker.service there, or reboot"
    assert view.notes == (told,)
    assert subject.sh("pgrep -fc 'sleep 10000[1]'") == "1"


def test_services_that_are_started_anew_are_not(subject: Subject) -> None:
    subject.confirm(subject.switched(subject.closure(OLD + WORKER % 3), goal="test"), end="tested")
    view = subject.confirm(subject.switched(subject.closure(NEW + WORKER % 4), goal="test"), end="tested")
    assert view.notes == ()


RELOADED = 'services.worker = { exec = "${busybox} sleep inf"; unit.X-ReloadIfChanged = true; '
RELOADED += 'service = { ExecReload = "/usr/bin/test -e /run/%s"; }; };'


def test_reload_that_fails_is_noted(subject: Subject) -> None:
    subject.confirm(subject.switched(subject.closure(OLD + RELOADED % "a"), goal="test"), end="tested")
    view = subject.confirm(subject.switched(subject.closure(NEW + RELOADED % "b"), goal="test"), end="tested")
    assert view.status == 4
    assert view.notes == ("exit status 4 of switch-to-configuration: Failed to reload worker.service",)

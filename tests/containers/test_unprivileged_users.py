"""Unprivileged users of a host: they can neither read nor lock what is ours, and what they say is not believed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from fleet.model import RunId
from fleet.scripts import script
from fleet.steps import evidence
from tests.containers.files import put
from tests.containers.hostprogram import LOCK, NEW, RECORD, ROOTS, Subject
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "operator"
FOLDERS = f"/run/fleet {RECORD} {ROOTS}"
OPEN_TO_OTHERS = f"find {FOLDERS} ! -type l -perm /077"

NOTIFIES = ("systemd-run", "-q", "--setenv=PATH=/usr/bin:/bin", "-p", "Type=notify", "-p", "NotifyAccess=all")
READY = "/usr/bin/systemd-notify --ready"
HOLDS = {
    "a program": f"exec flock $0 sh -c '{READY}; exec sleep inf'",
    "a program that was left it": f"exec 9<$0; flock 9; {READY}; exec sleep inf",
    "a program that is set-uid": f"exec 9<$0; flock 9; {READY}; sleep inf | su -c true",
    "a program that shares it": f"exec flock -s $0 sh -c '{READY}; exec sleep inf'",
}
"""Ways to hold a lock so that the kernel names another process, or none, or one that looks like root's."""


@pytest.fixture
def squat(subject: Subject) -> Iterator[None]:
    yield
    subject.sh("systemctl stop 'squat*'; systemctl reset-failed 'squat*'", check=False)


def as_user(subject: Subject, command: str) -> bool:
    return subject.host.exec("runuser", "-u", USER, "--", "sh", "-c", command, check=False).status == 0


def hold(subject: Subject, path: str, how: str = "a program", *, unit: str = "squat") -> None:
    """The user holds the lock on this file until the unit is stopped."""
    done = subject.host.exec(
        *NOTIFIES, f"--unit={unit}", f"--uid={USER}", "/bin/sh", "-c", HOLDS[how], path, check=False
    )
    assert done.status == 0, subject.sh(
        f"systemctl status {unit}; journalctl -n 9 -u {unit}; ls -la {path}", check=False
    )
    assert not subject.succeeds(f"flock -n {path} true")


# --- reading ---


def test_nothing_of_ours_is_open_to_others(subject: Subject) -> None:
    new = subject.closure(NEW)
    run = subject.switched(new)
    assert subject.sh(OPEN_TO_OTHERS) == ""
    subject.confirm(run)
    subject.abandon(subject.switched(subject.old), "found bad")
    assert subject.sh(OPEN_TO_OTHERS) == ""
    for command in ("cd /run/fleet", f"cat {RECORD}/history", f"ls {ROOTS}", "flock -n /run/fleet/.opening true"):
        assert subject.succeeds(command)
        assert not as_user(subject, command)


def test_what_an_older_program_has_left_open_is_closed_at_the_next_contact(subject: Subject, squat: None) -> None:
    """Somebody has opened its locks before, and keeps them: nobody waits for that."""
    new = subject.closure(NEW)
    subject.use("/bin/sh", format=1)
    subject.confirm(subject.switched(new))
    subject.sh(f"mkdir -p {RECORD}/unsynced; : >{RECORD}/unsynced/r; : >/run/fleet/.verify")
    assert subject.sh(OPEN_TO_OTHERS)
    for number, lock in enumerate(("/run/fleet/.alone", "/run/fleet/.verify", f"{RECORD}/unsynced/r")):
        hold(subject, lock, unit=f"squat{number}")
    subject.use("/bin/sh")
    subject.call("facts")
    assert subject.sh(OPEN_TO_OTHERS) == ""
    assert subject.call("verify") == {}
    subject.confirm(subject.switched(subject.old))
    assert subject.running == subject.old


def test_mark_that_a_user_holds_keeps_no_push_waiting_for_ever(subject: Subject, squat: None) -> None:
    mark = f"{RECORD}/unsynced/r"
    subject.sh(f"mkdir -p -m 755 {RECORD}/unsynced; chmod 755 {RECORD}; : >{mark}; chmod 644 {mark}")
    hold(subject, mark)
    text = script("fleet.host", "leave-mark").replace("-w 600", "-w 1")
    done = subject.host.exec("timeout", "60", "sh", "-c", text, "r", "true", check=False)
    assert (done.status, done.stderr) == (74, f"error: cannot write or lock {mark}\n")


def test_what_others_write_for_us_is_open_to_all(subject: Subject) -> None:
    """A switch, its boot loader and the way back make files for everybody."""
    said = "/run/umask-of-the-switch"
    subject.sh(f"rm -f {said}")
    says = f"umask >>{said}"
    bad = subject.closure(NEW + f'activationScript = "{says}"; bootLoaderScript = "{says}; exit 1";')
    subject.confirm(subject.switched(bad), end="reverted")
    assert subject.sh(f"cat {said}").split() == ["0022", "0022"]
    mark = "sh -c umask"
    done = subject.host.exec("sh", "-c", script("fleet.host", "leave-mark"), "r", *mark.split())
    subject.sh(f"rm {RECORD}/unsynced/r")
    assert done.stdout == "0022\n"


# --- the lock of switch-to-configuration ---


@pytest.mark.parametrize("how", HOLDS)
def test_lock_that_a_user_holds_keeps_nobody_from_switching(subject: Subject, squat: None, how: str) -> None:
    subject.sh(f"mkdir -p /run/nixos; rm -f {LOCK}; (umask 022; : >{LOCK})")
    hold(subject, LOCK, how)
    assert subject.call("facts")["lock_holder"] == [""]
    new = subject.closure(NEW)
    run = subject.switched(new)
    assert not as_user(subject, f"flock -n {LOCK} true")
    subject.confirm(run)
    assert subject.stands_on == (new, new, new)


def test_lock_that_a_user_takes_in_the_middle_keeps_nobody_from_committing(subject: Subject, squat: None) -> None:
    """As after a boot on trial: NixOS makes the lock anew, for everybody to open."""
    new = subject.closure(NEW)
    run = subject.switched(new)
    subject.sh(f"rm {LOCK}; (umask 022; : >{LOCK})")
    hold(subject, LOCK)
    subject.confirm(run)
    assert subject.stands_on == (new, new, new)


def test_lock_that_root_holds_is_told_on_one_line(subject: Subject, squat: None) -> None:
    """Whatever the process is called that has it, also one that has not taken it itself."""
    odd = "/opt/a\nrefused=full"
    subject.sh(f"mkdir -p /run/nixos; touch {LOCK}; cp /bin/sleep '{odd}'")
    holds = f"exec 9<$0; flock 9; {READY}; exec '{odd}' inf"
    subject.host.exec(*NOTIFIES, "--unit=squat", "/bin/sh", "-c", holds, LOCK)
    until(lambda: subject.call("facts")["lock_holder"][-1].endswith("=full"), what="the odd name")
    lines = subject.call("facts")
    subject.sh(f"rm '{odd}'")
    assert "refused" not in lines
    (holder,) = lines["lock_holder"]
    assert holder.split(" ", 1)[1] == "a refused=full"


# --- what users say ---


def test_journal_is_believed_only_where_systemd_has_written_it(subject: Subject) -> None:
    since = int(subject.sh("date +%s"))
    entry = r"MESSAGE=forged\nPRIORITY=3\nUNIT=web.service\nSYSLOG_IDENTIFIER=systemd\n"
    assert as_user(subject, f"printf '{entry}' | logger --journald")
    subject.sh("systemctl kill -s KILL web; systemctl restart web; journalctl --sync")
    asked = evidence.journal(["web.service"], RunId("r"), since=since)
    found = evidence.read(subject.sh(shlex.join(asked.argv)))
    assert any("status=9/KILL" in text for _, text in found)
    assert "forged" in subject.sh(f"journalctl -q -o cat --since=@{since} UNIT=web.service")
    assert not [text for _, text in found if "forged" in text]


def test_process_of_a_user_that_is_at_work_for_ever_is_not_waited_for(subject: Subject, squat: None) -> None:
    """Anybody sees in `ps` which processes fleet looks for, and may look like one."""
    token = "FLEET_TEST=r"
    put(subject.host, "/opt/busy", "#!/bin/sh\nwhile :; do :; done\n", mode="755")
    for unit, flags in (("squat0", [f"--uid={USER}"]), ("squat1", [])):
        command = "/opt/busy" if flags else "sleep inf"
        subject.sh(f"systemd-run -q --unit={unit} --setenv={token} {' '.join(flags)} {command}")
    done = subject.host.exec("timeout", "20", "sh", "-c", script("fleet.steps", "end-idle"), "sh", token, check=False)
    assert done.status == 0
    assert (subject.is_active("squat0"), subject.is_active("squat1")) == (True, False)

"""The host's proof of the way back, and who is to blame. PID 1 answers as it is told, and no time passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.host_functions import SHELLS, call, put

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE = """\
old=$PWD/OLD new=$PWD/NEW run=r1
echo 1000 >clock
clock() { now=$(cat clock); }
sleep() { [ "$1" != 0.1 ] || set -- 1; clock; echo $((now + $1)) >clock; }
with_timeout() { shift; "$@"; }
running_system() { echo "$old"; }
failing_units() { trouble=$(cat failing_now); }
ways_in() { cat ways_now; }
is_timer_driven() { false; }
PATH=$PWD:$PATH
# PID 1: what each unit is, in a file by its name. While there is a turn left it is silent, and people wait for 25 s.
systemctl() {
    turns=$(get turns)
    if [ "${turns:-0}" -gt 0 ]; then echo $((turns - 1)) >turns; sleep 25; return 1; fi
    verb=$1
    shift
    [ "$1" != -- ] || shift
    case $verb in
        is-active) for each; do get "unit-$each"; done ;;
        start) for each; do echo "$each" >>started; [ ! -e "after-$each" ] || cp "after-$each" "unit-$each"; done ;;
        list-jobs) get jobs ;;
    esac
}
"""


def host(folder: Path, **files: str) -> None:
    """OLD runs with web and sshd, as at begin; the files say what is otherwise."""
    for system in ("OLD", "NEW"):
        (folder / system / "etc/systemd/system").mkdir(parents=True)
        for unit in ("web.service", "ssh.service"):
            (folder / system / "etc/systemd/system" / unit).write_text("[Service]\n")
    usual = {"active": "web.service\nssh.service", "unit-web.service": "active", "unit-ssh.service": "active"}
    usual |= {"failing": "", "failing_now": "", "ways": "listens 22", "ways_now": "listens 22"}
    put(folder, **{**usual, **files})
    escape = folder / "systemd-escape"
    escape.write_text('#!/bin/sh\necho "${3#/}.mount"\n')
    escape.chmod(0o755)


def proven(folder: Path, patience: int = 5, shell: str = "sh") -> tuple[str, int]:
    """What is wrong with OLD in the end, and how many seconds it took to know."""
    script = f"{AT_ONCE}old_is_proven {patience} active; cat unproven 2>/dev/null; cat clock"
    *wrong, clock = call(folder, script, shell=shell).splitlines()
    return "".join(wrong), int(clock) - 1000


@pytest.mark.parametrize("shell", SHELLS)
def test_old_that_is_as_at_begin_is_proven_at_once(tmp_path: Path, shell: str) -> None:
    host(tmp_path)
    assert proven(tmp_path, shell=shell) == ("", 0)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("turns", [1, 2, 7, 30])
def test_silence_of_pid_1_says_nothing_of_units(tmp_path: Path, turns: int, shell: str) -> None:
    """It is longer than any unit gets."""
    host(tmp_path, turns=str(turns))
    assert proven(tmp_path, shell=shell)[0] == ""


def test_unit_that_comes_up_after_a_silence_has_all_its_time(tmp_path: Path) -> None:
    host(tmp_path, turns="7", **{"unit-web.service": "inactive", "after-web.service": "active"})
    assert proven(tmp_path)[0] == ""


def test_silence_has_an_end(tmp_path: Path) -> None:
    host(tmp_path, turns="99999")
    wrong, seconds = proven(tmp_path)
    assert wrong == "PID 1 does not answer"
    assert 880 <= seconds <= 960


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_unit_that_cannot_start_any_more_is_named(tmp_path: Path, state: str) -> None:
    host(tmp_path, **{"unit-web.service": state})
    wrong, seconds = proven(tmp_path)
    assert wrong == f"web.service was active at begin, and is {state}"
    assert 4 <= seconds <= 10
    assert (tmp_path / "started").read_text().count("web.service") in (2, 3)
    assert "ssh" not in (tmp_path / "started").read_text()


def test_unit_that_is_down_is_started(tmp_path: Path) -> None:
    host(tmp_path, **{"unit-web.service": "failed", "after-web.service": "active"})
    assert proven(tmp_path) == ("", 0)


def test_unit_that_is_starting_gets_two_minutes(tmp_path: Path) -> None:
    host(tmp_path, **{"unit-web.service": "activating"})
    wrong, seconds = proven(tmp_path)
    assert wrong == "web.service is still starting"
    assert 110 <= seconds <= 125


@pytest.mark.parametrize(
    ("failing", "wrong"), [("ssh.service failed", "ssh.service has failed"), ("x.service failed", "")]
)
def test_unit_of_old_that_fails_newly_is_named(tmp_path: Path, failing: str, wrong: str) -> None:
    host(tmp_path, failing_now=failing)
    assert proven(tmp_path)[0] == wrong


def test_unit_that_failed_before_is_not_counted(tmp_path: Path) -> None:
    host(tmp_path, failing="ssh.service", failing_now="ssh.service failed")
    assert proven(tmp_path)[0] == ""


def test_other_system_that_runs_is_named(tmp_path: Path) -> None:
    host(tmp_path)
    script = f"{AT_ONCE}running_system() {{ echo /nix/store/x; }}; old_is_proven 5 active; cat unproven"
    assert call(tmp_path, script) == "/nix/store/x runs\n"


def test_units_that_are_ignored_are_not_asked_back(tmp_path: Path) -> None:
    host(tmp_path, ignore="web*")
    listing = "list_units() { found=$(printf '%s\\n' 'web.service loaded active' 'ssh.service loaded active'); }\n"
    assert call(tmp_path, f"{AT_ONCE}{listing}service_properties() {{ properties=; }}; active_units") == "ssh.service\n"


# --- the ways in ---

BEGIN = """\
at / ext4
at /etc overlay
device / /dev/sda1 /
device /etc overlay /
hostkey 00ff /etc/ssh/ssh_host_ed25519_key
key /root/.ssh/authorized_keys:ssh-ed25519 AAAA ann
key /root/.ssh/authorized_keys:ssh-ed25519 BBBB bob
listens 22
open /etc/nologin
sshd permitrootlogin prohibit-password
trusted /root/.ssh
user root:0:/root:/bin/sh"""


def lost(folder: Path, changed: str, *, shell: str = "sh", begin: str = BEGIN, **files: str) -> str:
    """What people are told when logins need this now. OLD has the unit home.mount."""
    host(folder, ways=begin, ways_now="\n".join(sorted(changed.splitlines())), **files)
    (folder / "OLD/etc/systemd/system/home.mount").write_text("[Mount]\n")
    return proven(folder, shell=shell)[0]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("user root:0:/root:/bin/sh", "the account root is not as at begin"),
        ("hostkey 00ff /etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key is not the host key that it was"),
        ("key /root/.ssh/authorized_keys:ssh-ed25519 BBBB bob", "a key is gone from /root/.ssh/authorized_keys"),
        ("listens 22", "nothing listens on sshd's port 22"),
        ("at /etc overlay", "what is mounted at /etc is not what was there at begin"),
        ("open /etc/nologin", "/etc/nologin keeps people from logging in"),
        ("sshd permitrootlogin prohibit-password", "sshd's configuration is not as at begin: permitrootlogin"),
        ("trusted /root/.ssh", "/root/.ssh is gone, or others can write there, so that sshd does not trust it"),
    ],
)
def test_way_in_that_is_gone_is_named(tmp_path: Path, gone: str, told: str, shell: str) -> None:
    assert (
        lost(tmp_path, BEGIN.replace(f"{gone}\n" if gone in BEGIN.splitlines()[:-1] else gone, ""), shell=shell) == told
    )


@pytest.mark.parametrize(
    "more",
    [
        "key /root/.ssh/authorized_keys:ssh-ed25519 CCCC eve",
        "hostkey 11ff /etc/ssh/ssh_host_rsa_key",
        "at /home ext4\ndevice /home /dev/sdb1 /",
        "listens 2222",
    ],
)
def test_what_came_in_addition_is_in_nobody_s_way(tmp_path: Path, more: str) -> None:
    """Old's own mount too, which may have been missing at begin."""
    assert lost(tmp_path, f"{BEGIN}\n{more}") == ""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("at /etc tmpfs\ndevice /etc x /", "what is mounted at /etc is not what was there at begin"),
        ("device /etc /dev/sdc1 /", "what is mounted at /etc is not what was there at begin"),
        ("at /var tmpfs", "what is mounted at /var is not what was there at begin"),
        ("sshd denyusers root", "sshd's configuration is not as at begin: denyusers"),
    ],
)
def test_what_came_in_addition_and_is_in_the_way_is_named(tmp_path: Path, more: str, told: str) -> None:
    assert lost(tmp_path, f"{BEGIN}\n{more}") == told


def test_mount_that_hides_the_rest_is_what_is_told(tmp_path: Path) -> None:
    told = lost(tmp_path, "at / ext4\nat /etc overlay\nat /etc tmpfs\ndevice / /dev/sda1 /")
    assert told == "what is mounted at /etc is not what was there at begin"


def test_mount_on_top_of_one_of_old_s_own_is_named(tmp_path: Path) -> None:
    begin = "at /home ext4\ndevice /home /dev/sdb1 /"
    told = lost(tmp_path, f"{begin}\nat /home tmpfs\ndevice /home x /", begin=begin)
    assert told == "what is mounted at /home is not what was there at begin"


def test_devices_have_other_names_after_a_reboot_and_types_have_not(tmp_path: Path) -> None:
    renamed = BEGIN.replace("/dev/sda1", "/dev/sdb1")
    assert lost(tmp_path / "a", renamed, rebooted="yes") == ""
    assert "mounted at /" in lost(tmp_path / "b", renamed)
    assert "mounted at /" in lost(tmp_path / "c", renamed.replace("at / ext4", "at / tmpfs"), rebooted="yes")


@pytest.mark.parametrize(
    ("begin", "later"),
    [
        ("listens 22\nunread", "listens 22\nsshd denyusers root"),
        ("listens 22", "listens 22\nsshd denyusers root"),
        ("listens 22\nsshd denyusers root", "listens 22\nunread"),
    ],
)
def test_sshd_that_does_not_tell_its_configuration_proves_nothing(tmp_path: Path, begin: str, later: str) -> None:
    assert lost(tmp_path, later, begin=begin) == ""


def test_record_of_an_older_program_has_no_ways_in(tmp_path: Path) -> None:
    host(tmp_path)
    (tmp_path / "ways").unlink()
    assert proven(tmp_path)[0] == ""


# --- who is to blame ---


def weighed(folder: Path, *, reason: str, options: str = "rw", words: str = "", **files: str) -> tuple[str, str]:
    """The blame and the reason in the end. The boot loader's disk has these options, and units have said this."""
    put(folder, blame="found", reason=reason, status="2", **files)
    script = f"{AT_ONCE}findmnt() {{ case $* in */boot) echo {options} ;; *) echo rw ;; esac; }}\n"
    script += 'find_boot_folders() { folders=/boot; }\nsaid_by() { get "said-$1"; }\n'
    put(
        folder,
        **{
            f"said-{unit}": text
            for unit, text in zip(("fleet-switch-r1", "fleet-keep-r1"), words.split("|"), strict=False)
        },
    )
    blame, told = call(folder, f"{script}weigh_blame; cat blame reason").splitlines()
    return blame, told


@pytest.mark.parametrize(
    ("allowed", "said", "may"),
    [
        ("specialfs", ("specialfs",), True),
        ("other\nspecialfs", ("specialfs",), True),
        ("specialfs", ("specialfs", "mine"), False),
        ("specialfs", ("specialfs2",), False),
        ("specialfs.", ("specialfs2",), False),
        ("specialfs", (), False),  # nothing says which one failed
        (None, ("specialfs",), False),
    ],
)
def test_only_snippets_that_may_fail_are_allowed_to(
    tmp_path: Path, allowed: str | None, said: tuple[str, ...], *, may: bool
) -> None:
    put(tmp_path, words=snippet(*said), **({} if allowed is None else {"snippet": allowed}))
    script = f"{AT_ONCE}run=r1; said_by() {{ get words; }}; if may_fail; then echo yes; else echo no; fi"
    assert call(tmp_path, script) == ("yes\n" if may else "no\n")


BOOT = "commit: boot loader failed"
ACTIVATION = "activation failed with exit status 2"


def snippet(*names: str) -> str:
    return "\n".join(f"Activation script snippet '{name}' failed (1)" for name in names)


@pytest.mark.parametrize(
    ("reason", "facts", "blame", "why"),
    [
        (BOOT, {}, "found", ""),
        (BOOT, {"old_boot_status": "0"}, "found", ""),
        (BOOT, {"old_boot_status": "11"}, "found", ""),
        (BOOT, {"old_boot_status": "1"}, "silent", "the old system's boot loader fails too"),
        (BOOT, {"options": "ro,relatime"}, "silent", "/boot is read-only"),
        (BOOT, {"options": "rw,errors=remount-ro"}, "found", ""),
        ("boot loader failed with exit status 1", {"options": "nosuid,ro"}, "silent", "/boot is read-only"),
        (ACTIVATION, {}, "found", ""),
        (ACTIVATION, {"old_status": "0"}, "found", ""),
        (ACTIVATION, {"old_status": "4"}, "found", ""),
        (ACTIVATION, {"old_status": "2"}, "silent", "the old system's activation fails too"),
        (ACTIVATION, {"old_status": "2", "options": "ro"}, "silent", "the old system's activation fails too"),
        (ACTIVATION, {"options": "ro"}, "found", ""),
        (
            ACTIVATION,
            {"old_status": "2", "words": f"{snippet('specialfs')}|{snippet('specialfs')}"},
            "silent",
            "the old system's activation fails too",
        ),
        (
            ACTIVATION,
            {"old_status": "2", "words": f"{snippet('specialfs', 'mine')}|{snippet('specialfs')}"},
            "found",
            "",
        ),
        ("web.service has failed", {"old_status": "2", "old_boot_status": "1", "options": "ro"}, "found", ""),
        ("check web: 503", {"old_status": "2"}, "found", ""),
    ],
)
def test_closure_is_blamed_for_what_old_does_not_do_too(
    tmp_path: Path, reason: str, facts: dict[str, str], blame: str, why: str
) -> None:
    assert weighed(tmp_path, reason=reason, **facts) == (blame, f"{reason}: {why}" if why else reason)


@pytest.mark.parametrize(
    ("jobs", "blame", "told"),
    [
        ("", "found", ""),
        (" 7 web.service start running\n", "found", ": it waits for web.service"),
        ("7 web.service start waiting\n 8 ssh.service start running\n", "silent", ": it waits for ssh.service"),
        ("7 fleet-switch-r1.service start running\n", "found", ""),
        ("7 disk.mount start running\n", "silent", ": it waits for disk.mount"),
    ],
)
def test_activation_that_takes_too_long_says_what_it_waits_for(
    tmp_path: Path, jobs: str, blame: str, told: str
) -> None:
    """web.service is another in NEW; ssh.service is not, and disk.mount is of neither."""
    host(tmp_path, jobs=jobs, activation="9")
    (tmp_path / "NEW/etc/systemd/system/web.service").write_text("[Service]\nType=oneshot\n")
    told = f"activation did not end within 9 s{told}"
    assert call(tmp_path, f"{AT_ONCE}blame_overrun; cat blame reason").splitlines() == [blame, told]


@pytest.mark.parametrize(
    ("asked", "blame", "whose", "stays"),
    [
        ("r1", "found", "r1", False),
        ("r2", "found", "r1", True),
        ("r1", "silent", "r1", True),
        ("r1", "found", "r0", True),
    ],
)
def test_blame_is_taken_back_from_the_last_run_alone(
    tmp_path: Path,
    asked: str,
    blame: str,
    whose: str,
    stays: bool,  # noqa: FBT001
) -> None:
    put(tmp_path / "run/last", run="r1", blame=blame, new="/nix/store/x-new")
    put(tmp_path / "record/last", run="r1", blame=blame, new="/nix/store/x-new")
    put(tmp_path / "record/quarantine", **{"x-new": f"check web: 503 (run {whose})"})
    said = call(tmp_path, f"lock_opening() {{ :; }}; acquit {asked} web")
    assert (tmp_path / "record/quarantine/x-new").exists() == stays
    if (asked, blame) == ("r1", "found"):
        assert said == "acquitted=yes\n"
        assert (tmp_path / "record/last/blame").read_text() == (tmp_path / "run/last/blame").read_text() == "silent\n"
    else:
        assert said == ""


def test_blame_is_taken_back_from_a_run_that_is_just_being_written_down(tmp_path: Path) -> None:
    """Its disk is slow: when it is asked, what it ended with is not on record yet."""
    put(tmp_path / "run/open", run="r1", state="reverted", blame="found", new="/nix/store/x-new")
    put(tmp_path / "record/quarantine", **{"x-new": "check web: 503 (run r1)"})
    asked = "lock_opening() { :; }; (sleep 0.5; mv $open $closed) & acquit r1 web; wait"
    assert call(tmp_path, asked) == "acquitted=yes\n"
    assert not (tmp_path / "record/quarantine/x-new").exists()

"""Committing: the profile and the boot default name NEW, by content, or everything is as it was before."""

from __future__ import annotations

import pytest

from fleet.host import answers
from tests.containers.hostprogram import HOLD_LOCK, NEW, OPEN, PROFILE, RECORD, ROOTS, Subject
from tests.containers.nixos_switch import PROGRAM
from tests.waiting import until

LOADER = "/boot/loader/loader.conf"


def test_commit_sets_profile_entry_and_default_and_makes_one_generation(subject: Subject) -> None:
    new = subject.closure(NEW)
    view = subject.confirm(subject.switched(new))
    assert view.boot_entry == new
    assert subject.stands_on == (new,) * 3
    assert subject.sh(f"readlink {PROFILE}") == "system-3-link"


def test_answers_to_an_order_and_to_a_word_show_what_came_of_them(subject: Subject) -> None:
    """Each round trip less counts where a host is far away."""
    new = subject.closure(NEW)
    order = subject.order(new)
    ask = ("sh", "-c", 'printf %s "$1" | $2 begin watch', "sh", order, subject.asks)
    begun = subject.host.exec(*ask)
    lines = answers.parse(begun.stdout)
    run, view = answers.one(lines, "begun"), answers.view(lines)
    if view.state == "switching":  # it took longer than a second
        subject.follow(run, "switched")
    else:
        assert (view.state, view.running, view.status) == ("switched", new, 0)
        assert view.cursor
    ended = answers.view(subject.call("word", run, "confirm", "wait"))
    assert (ended.accepted, ended.state, ended.boot_entry) == (True, "committed", new)
    late = answers.view(subject.call("word", run, "confirm", "wait"))
    assert (late.accepted, late.state) == (False, "committed")
    again = answers.parse(subject.host.exec(*ask).stdout)  # as where the first answer was lost
    assert (answers.one(again, "begun"), answers.view(again).state) == (run, "committed")


def test_answer_to_a_word_waits_no_longer_than_some_seconds(subject: Subject) -> None:
    slow = subject.closure(NEW + 'beforeBootLoader = "sleep 8";')
    run = subject.switched(slow)
    assert subject.sh(f"timeout 7 {subject.asks} word {run} confirm wait | grep ^state=") == "state=committing"
    subject.follow(run, "committed")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "commit: boot loader failed"),
        ("exit 0", "commit: the boot default is"),
        pytest.param("rm -f /boot/loader/entries/*; exit 0", "commit: the boot default is", marks=pytest.mark.long),
        ("sed -i 's/^default .*/default nothing.conf/' /boot/loader/loader.conf", "commit: the boot default is"),
    ],
    ids=["fails", "writes nothing", "removes every entry", "writes a default that is not there"],
)
def test_boot_loader_that_fails_or_lies_takes_everything_back(subject: Subject, script: str, reason: str) -> None:
    before = subject.generations
    bad = subject.closure(NEW + f'bootLoaderScript = "{script}";')
    run = subject.switched(bad)
    view = subject.confirm(run, end="reverted")
    assert view.reason.startswith(reason)
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)
    assert subject.body() == "old"
    assert subject.quarantined(bad)


@pytest.mark.skipif(bool(PROGRAM), reason="NixOS's program says only that the boot loader failed: exit status 1")
def test_boot_loader_that_is_killed_says_nothing_of_the_system(subject: Subject) -> None:
    new = subject.closure(NEW + "bootLoaderScript = ''kill -9 $PPID'';")
    view = subject.confirm(subject.switched(new), end="reverted")
    assert (view.blame, view.reason) == ("silent", "commit: boot loader was killed (exit status 137)")
    assert (subject.stands_on, subject.quarantined(new)) == ((subject.old,) * 3, False)


def test_pre_switch_check_that_has_passed_is_not_asked_again_by_the_commit(subject: Subject) -> None:
    """Programs of NixOS ask them for `boot` too, and one of them may not be certain."""
    new = subject.closure(NEW + 'preSwitchChecks.flaky = "test $2 != boot";')
    subject.confirm(subject.switched(new))
    assert subject.stands_on == (new,) * 3


@pytest.mark.skipif(bool(PROGRAM), reason="NixOS's program says only that the boot loader failed: exit status 1")
def test_what_a_killed_boot_loader_builder_has_left_stops_no_way_back_and_no_later_commit(subject: Subject) -> None:
    """systemd-boot's builder makes loader.tmp anew, and fails where there is one."""
    killed = subject.closure(NEW + "beforeBootLoader = '': >/boot/loader/loader.tmp; kill -9 $PPID'';")
    view = subject.confirm(subject.switched(killed), end="reverted")
    assert (view.blame, subject.stands_on) == ("silent", (subject.old,) * 3)
    subject.sh(": >/boot/loader/loader.tmp")
    new = subject.closure(NEW)
    subject.confirm(subject.switched(new))
    assert subject.stands_on == (new,) * 3


def test_boot_loader_that_was_left_is_not_asked(subject: Subject) -> None:
    """What is older than the files that the commit has written was written by nobody who counts."""
    left = f"DEFAULT x\\nLABEL x\\n APPEND init={subject.old}/init\\n"
    subject.sh(f"mkdir -p /boot/extlinux; printf '{left}' >/boot/extlinux/extlinux.conf")
    subject.sh(f"mkdir -p /boot/firmware; printf 'init={subject.old}/init\n' >/boot/firmware/cmdline.txt")
    subject.sh("touch -d yesterday /boot/extlinux/extlinux.conf /boot/firmware/cmdline.txt")
    new = subject.closure(NEW)
    try:
        assert subject.confirm(subject.switched(new)).boot_entry == new
    finally:
        subject.sh("rm -r /boot/extlinux /boot/firmware")


UNREADABLE = (
    "rm /boot/loader/entries/*; mkdir -p /boot/EFI/Linux; echo MZ >/boot/EFI/Linux/nixos-2.efi;"
    " echo 'default nixos-*' >/boot/loader/loader.conf"
)


def test_boot_default_that_cannot_be_read_is_told_and_is_no_reason_to_go_back(subject: Subject) -> None:
    new = subject.closure(NEW + f'bootLoaderScript = "{UNREADABLE}";')
    view = subject.confirm(subject.switched(new))
    subject.sh("rm -r /boot/EFI/Linux")
    assert (view.blame, view.boot_entry) == ("", "unverified")
    assert view.boot_doubt == "/boot/EFI/Linux/nixos-2.efi names no system on a command line"
    assert (subject.running, subject.profile) == (new, new)


def test_boot_that_cannot_be_written_takes_everything_back(subject: Subject) -> None:
    before = subject.generations
    run = subject.switched(subject.closure(NEW))
    subject.sh("mount --bind /boot /boot && mount -o remount,ro,bind /boot")
    try:
        subject.confirm(run, end="reverted")
    finally:
        subject.sh("umount -l /boot")
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)
    assert subject.body() == "old"


def test_commit_without_room_on_the_boot_partition_does_not_try(subject: Subject) -> None:
    new = subject.closure(NEW + 'kernel = "6.13";')
    run = subject.switched(new)
    subject.sh("cp -a /boot /run/boot && mount -t tmpfs -o size=900k none /boot && cp -a /run/boot/. /boot/")
    try:
        view = subject.confirm(run, end="reverted")
    finally:
        subject.sh("umount -l /boot; rm -r /run/boot")
    assert view.blame == "silent"
    assert view.reason.startswith("commit: /boot has 0 MiB free, the new system needs")
    assert subject.stands_on == (subject.old,) * 3


def test_boot_default_that_cannot_be_put_back_is_stuck(subject: Subject) -> None:
    ruin = f"sed -i 's/^default .*/default nixos-generation-1.conf/' {LOADER}; mount -o remount,ro,bind /boot; exit 1"
    subject.sh("mount --bind /boot /boot")
    try:
        run = subject.switched(subject.closure(NEW + f'bootLoaderScript = "{ruin}";'))
        subject.confirm(run, end="stuck")
    finally:
        subject.sh("umount -l /boot")
    assert (subject.running, subject.profile) == (subject.old, subject.old)


def test_what_boots_next_is_kept_where_it_cannot_be_put_back(subject: Subject) -> None:
    """Its generation too: if that went, the next garbage collection would take what the boot loader names."""
    subject.confirm(subject.switched(subject.closure(NEW)))
    subject.confirm(subject.switched(subject.old))
    previous = subject.sh(f"readlink {ROOTS}/previous")
    entry, default = "/boot/loader/entries/nixos-generation-5.conf", "default nixos-generation-5.conf"
    ruin = (
        f"printf 'linux /none\\\\ninitrd /none\\\\noptions init=%s/init\\\\n' $1 >{entry};"
        f" sed -i 's/^default .*/{default}/' {LOADER}; mount -o remount,ro,bind /boot; exit 1"
    )
    bad = subject.closure(NEW.replace('"new"', '"other"') + f'bootLoaderScript = "{ruin}";')
    subject.sh("mount --bind /boot /boot")
    try:
        subject.confirm(subject.switched(bad), end="stuck")
        assert (subject.running, subject.profile, subject.boots) == (subject.old, subject.old, bad)
        assert subject.sh(f"readlink {PROFILE}-5-link") == bad
        assert subject.sh(f"readlink {ROOTS}/boots {ROOTS}/previous").splitlines() == [bad, previous]
    finally:
        subject.sh("umount -l /boot")
    new = subject.closure(NEW)
    subject.confirm(subject.switched(new))
    assert not subject.succeeds(f"ls {ROOTS}/boots")


def test_record_that_cannot_be_written_stops_the_commit_before_it_acts(subject: Subject) -> None:
    new, before = subject.closure(NEW), subject.generations
    run = subject.switched(new)
    subject.sh("mount --bind /nix/var/fleet /nix/var/fleet && mount -o remount,ro,bind /nix/var/fleet")
    try:
        subject.confirm(run, end="reverted")
    finally:
        subject.sh("umount -l /nix/var/fleet")
    subject.call("facts")  # the next contact tidies up
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)
    assert not subject.quarantined(new)


def test_end_that_could_not_be_written_is_not_taken_for_a_reboot(subject: Subject) -> None:
    new = subject.closure(NEW)
    run = subject.switched(new, goal="test")
    subject.sh("mount --bind /nix/var/fleet /nix/var/fleet && mount -o remount,ro,bind /nix/var/fleet")
    try:
        subject.confirm(run, end="tested")
        assert subject.call("facts").get("open_run") is None
        assert subject.tell(subject.order(subject.old))["refused"] == ["full"]
    finally:
        subject.sh("umount -l /nix/var/fleet")
    assert (subject.show(run).state, subject.running) == ("tested", new)
    assert subject.leftovers() == ""
    assert subject.sh(f"cat {RECORD}/last/run") == run


def test_lock_that_another_switch_holds_during_the_commit_is_waited_for(subject: Subject) -> None:
    new = subject.closure(NEW)
    run = subject.switched(new)
    subject.sh(HOLD_LOCK)
    assert subject.word(run, "confirm").accepted
    until(lambda: subject.show(run).state == "committing", what="the commit")
    assert subject.profile == subject.old  # whoever holds the lock may be repairing the host
    subject.sh("systemctl stop holder")
    subject.follow(run, "committed")
    assert subject.stands_on == (new,) * 3


def test_commit_that_lost_power_when_the_new_system_was_the_default_is_finished(subject: Subject) -> None:
    script = (
        "printf 'title new\noptions init=%s/init\n' $(readlink -f /nix/var/nix/profiles/system)"
        " >/boot/loader/entries/late.conf; printf 'default late.conf\n' >/boot/loader/.new;"
        " mv /boot/loader/.new /boot/loader/loader.conf; sync; test ! -e /run/hold || /usr/bin/sleep 600"
    )
    new = subject.closure(NEW + f"bootLoaderScript = ''{script}'';")
    run = subject.switched(new)
    subject.sh("touch /run/hold")
    assert subject.word(run, "confirm").accepted
    until(lambda: subject.boots == new, what="the boot default")
    subject.host.power_off()
    subject.host.power_on()
    assert subject.follow(run, "committed").rebooted
    assert subject.stands_on == (new,) * 3


def test_keeper_that_dies_between_profile_and_boot_entry_still_takes_its_generation_back(subject: Subject) -> None:
    """What the first keeper did is known to the second."""
    before = subject.generations
    run = subject.switched(subject.closure(NEW + 'bootLoaderScript = "/usr/bin/sleep 2; exit 1";'))
    assert subject.word(run, "confirm").accepted
    until(lambda: "system-3-link" in subject.generations, what="the profile")
    subject.sh(f"kill -9 $(systemctl show -P MainPID fleet-keep-{run})")
    subject.follow(run, "reverted")
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)


def test_new_system_that_does_not_run_any_more_is_not_committed(subject: Subject) -> None:
    """Somebody went back by hand between the proof and the word."""
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"{subject.old}/bin/switch-to-configuration test")
    subject.confirm(run, end="reverted")
    assert subject.stands_on == (subject.old,) * 3


def test_running_system_that_is_not_the_profile_is_what_a_revert_goes_back_to(subject: Subject) -> None:
    other = subject.closure(NEW.replace("new", "other"))
    subject.confirm(subject.switched(other, goal="test"), end="tested")
    before = subject.generations
    bad = subject.closure(NEW + 'bootLoaderScript = "exit 1";')
    subject.confirm(subject.switched(bad), end="reverted")
    assert subject.stands_on == (other, subject.old, subject.old)
    assert subject.generations == before
    assert subject.body() == "other"


def test_first_of_four_generations_is_what_a_revert_goes_back_to(subject: Subject) -> None:
    """`nix-env --rollback` would have taken the third."""
    for number in ("3", "4", "5"):
        subject.sh(f"nix-env -p {PROFILE} --set {subject.closure(NEW.replace('new', number))}")
    subject.sh(f"nix-env -p {PROFILE} --switch-generation 2")
    before = subject.generations
    bad = subject.closure(NEW + 'bootLoaderScript = "exit 1";')
    subject.confirm(subject.switched(bad), end="reverted")
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)
    bad = subject.closure(NEW)
    subject.abandon(subject.switched(bad))
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)


def test_generation_that_the_new_system_had_before_stays_when_its_commit_fails(subject: Subject) -> None:
    bad = subject.closure(NEW + 'bootLoaderScript = "exit 1";')
    subject.sh(f"nix-env -p {PROFILE} --set {bad}; nix-env -p {PROFILE} --switch-generation 2")
    before = subject.generations
    subject.confirm(subject.switched(bad), end="reverted")
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)


def test_generation_of_the_old_system_that_somebody_deletes_meanwhile_is_made_again(subject: Subject) -> None:
    new = subject.closure(NEW + f'bootLoaderScript = "nix-env -p {PROFILE} --delete-generations 2; exit 1";')
    subject.confirm(subject.switched(new), end="reverted")
    assert subject.stands_on == (subject.old,) * 3
    subject.sh(f"ln -s {subject.old} {PROFILE}-2-link")


def test_end_can_be_told_also_when_run_is_full(subject: Subject) -> None:
    subject.sh("mkdir -p /run/fleet && mount -t tmpfs -o size=400k none /run/fleet")
    try:
        run = subject.switched(subject.closure(NEW))
        subject.sh(f"cat /dev/zero >/run/fleet/filler; echo 0 >{OPEN}/deadline", check=False)
        subject.follow(run, "reverted")
        assert subject.running == subject.old
    finally:
        subject.sh("umount -l /run/fleet")

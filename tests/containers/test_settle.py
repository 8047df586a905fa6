"""A power cut at any moment: the next contact settles what was open, and nothing of it is left."""

from __future__ import annotations

import pytest

from tests.containers.hostprogram import NEW, RECORD, ROOTS, Subject
from tests.waiting import until

SLOW = NEW + 'activationScript = "/usr/bin/sleep 30";'
STUBBORN = NEW + 'services.slow = { exec = "${busybox} sleep inf"; service.ExecStop = "/usr/bin/sleep 5"; };'
PAUSE = "touch /run/pausing; while test ! -e /run/go; do /usr/bin/sleep 0.05; done; "
INSTALL = (
    "d=$(ls -d /nix/var/nix/profiles/system-3-link) && c=$(readlink -f $d) && "
    "printf 'title x\\\\noptions init=%s/init\\\\n' $c >/boot/loader/entries/nixos-generation-3.conf && "
    "echo default nixos-generation-3.conf >/boot/loader/loader.conf; "
)


def cut_power(subject: Subject) -> None:
    subject.host.power_off()
    subject.host.power_on()


def settled(subject: Subject, run: str, state: str) -> None:
    """One contact is enough, and a second one changes nothing."""
    subject.call("facts")
    view = subject.follow(run, state)
    assert view.rebooted
    assert subject.leftovers() == ""
    assert subject.show(run).state == state


def went_back(subject: Subject, run: str, before: str) -> None:
    settled(subject, run, "reverted")
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)
    assert subject.sh(f"readlink {ROOTS}/live") == subject.old
    assert subject.call("facts").get("quarantined") is None
    assert subject.show(run).reason == "the host rebooted during the switch"


def test_power_cut_while_switching(subject: Subject) -> None:
    before, run = subject.generations, subject.begin(subject.closure(SLOW))
    until(lambda: subject.is_active(f"fleet-switch-{run}"), what="the switch unit")
    cut_power(subject)
    went_back(subject, run, before)


def test_power_cut_while_switched(subject: Subject) -> None:
    before, run = subject.generations, subject.switched(subject.closure(NEW))
    cut_power(subject)
    went_back(subject, run, before)
    assert subject.body() == "old"


def test_power_cut_while_reverting(subject: Subject) -> None:
    before, run = subject.generations, subject.switched(subject.closure(STUBBORN))
    assert subject.word(run, "abandon found x").accepted
    until(lambda: subject.read("state") == "reverting", what="reverting")
    cut_power(subject)
    went_back(subject, run, before)


def test_power_cut_while_reverting_a_commit(subject: Subject) -> None:
    """Profile and boot default are put back before anything slow happens."""
    before = subject.generations
    run = subject.switched(subject.closure(STUBBORN + f'bootLoaderScript = "{INSTALL}exit 1";'))
    assert subject.word(run, "confirm").accepted
    until(lambda: subject.sh("systemctl is-active slow", check=False) == "deactivating", what="a slow way back")
    cut_power(subject)
    assert subject.running == subject.old
    went_back(subject, run, before)


def paused(subject: Subject, script: str) -> tuple[str, str]:
    """A run whose boot loader script has come to PAUSE, and its closure."""
    new = subject.closure(NEW + f'bootLoaderScript = "{script}";')
    run = subject.switched(new)
    assert subject.word(run, "confirm").accepted
    until(lambda: subject.succeeds("test -e /run/pausing"), what="the boot loader script")
    assert subject.profile == new
    return run, new


def test_power_cut_between_profile_and_boot_entry(subject: Subject) -> None:
    """The boot loader still names OLD, and so does everything else after the next contact."""
    before = subject.generations
    run, new = paused(subject, PAUSE)
    cut_power(subject)
    assert (subject.running, subject.profile) == (subject.old, new)
    went_back(subject, run, before)


def test_power_cut_after_the_boot_entry_finishes_the_commit(subject: Subject) -> None:
    run, new = paused(subject, INSTALL + PAUSE)
    cut_power(subject)
    assert subject.running == new
    subject.sh("touch /run/go")
    settled(subject, run, "committed")
    assert subject.stands_on == (new,) * 3
    assert subject.sh(f"readlink {ROOTS}/live {ROOTS}/previous").split() == [new, subject.old]


def test_power_cut_between_record_and_profile(subject: Subject) -> None:
    """As between any two writes: only the record says that the commit had begun."""
    before, run = subject.generations, subject.switched(subject.closure(NEW))
    subject.sh(f"touch {RECORD}/open/commit")
    cut_power(subject)
    went_back(subject, run, before)


@pytest.mark.parametrize(("word", "end"), [("confirm", "committed"), ("abandon silent x", "reverted")])
def test_power_cut_after_the_end_changes_nothing(subject: Subject, word: str, end: str) -> None:
    new = subject.closure(NEW)
    run = subject.switched(new)
    subject.word(run, word)
    subject.follow(run, end)
    cut_power(subject)
    assert subject.stands_on == ((new if end == "committed" else subject.old),) * 3
    assert subject.call("facts")["last_state"] == [end]
    assert subject.show(run).state == end
    assert not subject.show(run).rebooted


def test_host_that_boots_what_was_neither_is_left_alone(subject: Subject) -> None:
    third = subject.closure(NEW.replace('"new"', '"third"'))
    run = subject.switched(subject.closure(NEW))
    subject.sh(f"nix-env -p /nix/var/nix/profiles/system --set {third}; {third}/bin/switch-to-configuration boot")
    cut_power(subject)
    settled(subject, run, "superseded")
    assert subject.running == third


def test_old_that_was_not_the_boot_default_runs_again(subject: Subject) -> None:
    """What ran before is what a host goes back to, whatever it boots."""
    other = subject.closure(NEW.replace('"new"', '"other"'))
    subject.confirm(subject.switched(other, goal="test"), end="tested")
    run = subject.switched(subject.old)
    cut_power(subject)
    assert subject.running == subject.old
    settled(subject, run, "reverted")
    assert subject.stands_on == (other, subject.old, subject.old)
    assert subject.body() == "other"


def test_run_that_comes_first_after_a_power_cut_finds_the_open_one_settled(subject: Subject) -> None:
    new = subject.closure(NEW)
    first = subject.switched(new)
    cut_power(subject)
    order = subject.order(new)
    until(lambda: "begun" in subject.tell(order), what="begun")
    second = order.partition("\nrun ")[2].split()[0]
    assert subject.show(first).state in ("reverted", "unknown")
    subject.follow(second, "switched")
    subject.abandon(second)


def test_record_that_is_half_removed_is_never_seen(subject: Subject) -> None:
    """It is renamed before it is removed."""
    subject.abandon(subject.switched(subject.closure(NEW)))
    assert subject.leftovers() == ""  # it is closed, also where that takes a while
    subject.sh(f"mkdir {RECORD}/.open && touch {RECORD}/.open/run")
    cut_power(subject)
    assert subject.call("facts").get("open_run") is None
    subject.abandon(subject.switched(subject.closure(NEW)))

"""What happens in the very moment between two steps of the keeper, or of a contact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fleet.host import answers
from tests.containers.files import put
from tests.containers.hostprogram import HOLD_LOCK, NEW, OPEN, PROFILE, ROOTS, Subject, run_id
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.machine import Output

HOOKS = "/usr/local/bin"
"""Before /usr/bin in the keeper's PATH, and in nobody else's."""
HOOK = """\
#!/bin/sh
case " $* " in *" {arguments} "*) {script} ;; esac
exec /usr/bin/{command} "$@"
"""
PLACE = "/run/moments"
"""What tests put in front of the PATH of a contact, and the gate of a keeper that waits."""
GO = f"{PLACE}/go"
THIRD = NEW.replace('"new"', '"third"')


@pytest.fixture(autouse=True)
def moments(subject: Subject) -> Iterator[None]:
    subject.sh(f"rm -rf {PLACE} && mkdir {PLACE}")
    yield
    subject.sh(f"touch {GO}; systemctl stop holder 2>/dev/null; rm -f {HOOKS}/*", check=False)


def before(subject: Subject, command: str, arguments: str, script: str, *, once: bool = True) -> None:
    """When the keeper calls the command with these among its arguments, the next time or always, this runs first."""
    script = 'rm "$0"; ' * once + script
    text = HOOK.format(command=command, arguments=arguments, script=script)
    put(subject.host, f"{HOOKS}/{command}", text, mode="755")


def instead(subject: Subject, command: str, script: str) -> str:
    """What to put in front of a contact's call, so that this script runs instead of the command."""
    put(subject.host, f"{PLACE}/{command}", f"#!/bin/sh\n{script}\n", mode="755")
    return f"PATH={PLACE}:$PATH"


# --- forward ---


def test_switch_that_ends_when_the_keeper_looks_was_not_killed(subject: Subject) -> None:
    """It has no status yet when that is looked for, and does not run any more when that is."""
    run = run_id()
    ends = 'while /usr/bin/systemctl -q is-active "$2"; do /usr/bin/sleep 0.02; done'
    before(subject, "systemctl", f"is-active fleet-switch-{run}", ends, once=False)
    subject.abandon(subject.switched(subject.closure(NEW), run=run))


@pytest.mark.parametrize(
    ("command", "argument"), [("nix-env", "--set"), ("sync", "/boot")], ids=["before the boot entry", "after it"]
)
def test_system_that_somebody_brings_between_two_steps_of_a_commit_stays(
    subject: Subject, command: str, argument: str
) -> None:
    new, theirs = subject.closure(NEW), subject.closure(THIRD)
    before(subject, command, argument, f"{theirs}/activate {theirs}")
    subject.confirm(subject.switched(new), end="superseded")
    assert subject.stands_on == (theirs, new, new if command == "sync" else subject.old)


def test_commit_goes_back_when_somebody_has_set_the_profile_back(subject: Subject) -> None:
    """The generation that they have made stays."""
    new, theirs = subject.closure(NEW), subject.closure(THIRD)
    before(subject, "sync", "/boot", f"nix-env -p {PROFILE} --set {theirs}; nix-env -p {PROFILE} --switch-generation 2")
    view = subject.confirm(subject.switched(new), end="reverted")
    assert (view.blame, view.reason) == ("silent", f"commit: {PROFILE} does not name the new system any more")
    assert (subject.stands_on, subject.quarantined(new)) == ((subject.old,) * 3, False)
    assert subject.sh(f"readlink -f {PROFILE}-4-link") == theirs


@pytest.mark.parametrize("part", ["-linux-6.13-bzImage", pytest.param("-initrd-linux-6.13", marks=pytest.mark.long)])
def test_commit_whose_kernel_or_initrd_is_not_whole_on_the_boot_partition_goes_back(
    subject: Subject, part: str
) -> None:
    new = subject.closure(NEW + 'kernel = "6.13";')
    before(subject, "sync", "/boot", f"for file in /boot/EFI/nixos/*{part}*; do echo half >$file; done")
    view = subject.confirm(subject.switched(new), end="reverted")
    assert view.reason == "commit: the boot entry's files are not those of the new system"
    assert (subject.stands_on, subject.quarantined(new)) == ((subject.old,) * 3, True)


@pytest.mark.parametrize(
    ("command", "argument", "script", "reason"),
    [
        ("nix-env", "--set", "exit 1", f"cannot set {PROFILE}"),
        ("timeout", "boot", HOLD_LOCK, "another switch holds the lock"),
        pytest.param("timeout", "boot", "exit 124", "boot loader did not end within 300 s", marks=pytest.mark.long),
    ],
    ids=["profile", "lock", "hangs"],
)
def test_commit_that_could_not_try_says_nothing_of_the_system(
    subject: Subject, command: str, argument: str, script: str, reason: str
) -> None:
    new, generations = subject.closure(NEW), subject.generations
    before(subject, command, argument, script)
    run = subject.switched(new)
    assert subject.word(run, "confirm").accepted
    until(lambda: subject.read("state") not in ("switched", "committing"), what="the commit has ended")
    subject.sh("systemctl stop holder", check=False)
    view = subject.follow(run, "reverted")
    assert (view.blame, view.reason) == ("silent", f"commit: {reason}")
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, generations)


def test_what_a_shutdown_ends_is_settled_by_the_next_boot(subject: Subject) -> None:
    """Services stop then, and none can be started: nothing can be proven, and what fails is no fault of the system."""
    says = f"[ -e {PLACE}/asked ] || echo stopping; echo >>{PLACE}/asked; exit 1"  # and in the end nothing
    before(subject, "systemctl", "is-system-running", f"[ ! -e {GO} ] || {{ {says}; }}", once=False)
    run = subject.switched(subject.closure(NEW + f"bootLoaderScript = ''touch {GO}; kill -9 $PPID'';"))
    assert subject.word(run, "confirm").accepted
    waits = f"cd {OPEN} && grep -q killed reason && [ $(wc -l <{PLACE}/asked) -gt 3 ] && grep -qx committing state"
    until(lambda: subject.succeeds(waits), what="the keeper waits for the end of the shutdown")
    subject.host.power_off()
    subject.host.power_on()
    view = subject.follow(run, "reverted")
    assert (view.rebooted, subject.stands_on) == (True, (subject.old,) * 3)


# --- back ---


def test_boot_default_that_a_lock_kept_from_being_restored_is_restored_in_the_end(subject: Subject) -> None:
    ruin = "sed -i 's/^default .*/default nixos-generation-1.conf/' /boot/loader/loader.conf; exit 1"
    new = subject.closure(NEW + f'bootLoaderScript = "{ruin}";')
    before(subject, "nix-env", "--switch-generation", HOLD_LOCK)
    run = subject.switched(new)
    assert subject.word(run, "confirm").accepted
    refused = f"journalctl -o cat -u fleet-keep-{run} | grep -q 'Could not acquire lock'"
    until(lambda: subject.succeeds(refused), what="the lock is in the way")
    subject.sh("systemctl stop holder")
    subject.follow(run, "reverted")
    assert subject.stands_on == (subject.old,) * 3


def test_system_that_somebody_brings_when_the_old_one_was_proven_stays(subject: Subject) -> None:
    theirs = subject.closure(THIRD)
    failing = "--state=failed,auto-restart,auto-restart-queued"  # asked for last of all, of an old system that runs
    before(subject, "systemctl", failing, f"{theirs}/activate {theirs}")
    subject.abandon(subject.switched(subject.closure(NEW)), end="superseded")
    assert subject.running == theirs


# --- contacts ---

# Whoever sleeps or waits for a lock waits for the end of a switch, which comes then, or for what is left of it to go,
# which goes then.
SLEEP = f"""\
case $(cat {OPEN}/state) in
    switched)
        echo confirm >{OPEN}/.word && mv {OPEN}/.word {OPEN}/word
        until [ "$(cat {OPEN}/state)" = tested ]; do /usr/bin/sleep 0.02; done
        ;;
    *)
        touch {GO}
        while [ -e {OPEN} ]; do /usr/bin/sleep 0.02; done
        ;;
esac"""


@pytest.mark.parametrize("ended", [True, False], ids=["before the contact", "during the contact"])
def test_end_is_told_when_nothing_of_it_is_left(subject: Subject, ended: bool) -> None:  # noqa: FBT001
    """Else the next run would be refused: this one is still open."""
    run = subject.switched(subject.closure(NEW), goal="test")
    before(subject, "date", "+%s", f"until [ -e {GO} ]; do /usr/bin/sleep 0.02; done")
    if ended:
        subject.sh(f"echo confirm >{OPEN}/.word && mv {OPEN}/.word {OPEN}/word")
        until(lambda: subject.read("state") == "tested", what="the end, of which all is left")
    instead(subject, "flock", SLEEP)
    waiting = instead(subject, "sleep", SLEEP)
    told = subject.sh(f"{waiting} {subject.asks} {'facts' if ended else f'watch {run} switched'}")
    assert not subject.succeeds(f"test -e {OPEN}")
    assert answers.one(answers.parse(told), "last_run" if ended else "run") == run


def test_contact_that_comes_while_a_run_begins_takes_nothing_from_it(subject: Subject) -> None:
    """It sees roots of a run that is not open, and by the time that it may act the run is."""
    order = subject.order(subject.closure(NEW))
    slow = f"""\
case $3 in {OPEN})
    touch {PLACE}/opening
    until [ -e {GO} ]; do sleep 0.02; done
esac
exec /usr/bin/mv "$@\""""
    begin = f'printf %s "$1" | {instead(subject, "mv", slow)} $2 begin'
    with ThreadPoolExecutor(2) as pool:
        beginning = pool.submit(subject.sh, begin, order, subject.asks)
        until(lambda: subject.succeeds(f"test -e {PLACE}/opening"), what="it has its roots, and is not open")
        contact = pool.submit(subject.call, "facts")
        until(lambda: subject.succeeds("pgrep -x flock"), what="the contact waits for it")
        subject.sh(f"touch {GO}")
        run = answers.one(answers.parse(beginning.result()), "begun")
        contact.result()
    roots = [f"{ROOTS}/{run}-{part}" for part in ("new", "old", "program")]
    assert subject.sh(f"ls -d {ROOTS}/{run}-*").split() == roots
    assert not subject.succeeds("test -e /run/fleet/.next")
    subject.follow(run, "switched")
    subject.abandon(run)


def without_answer(subject: Subject, question: str, call: str, order: str = "") -> Output:
    """The contact's end, when systemd refuses this question longer than it is waited for.

    The time of the contact passes with the first wait for an answer.
    """
    refuses = f'case " $* " in *"{question}"*) exit 1 ;; esac; exec /usr/bin/systemctl "$@"'
    instead(subject, "systemctl", refuses)
    passes = f"read -r now _ <{PLACE}/uptime; echo $((${{now%.*}} + 20)).00 0 >{PLACE}/uptime"
    path = instead(subject, "sleep", passes)
    clock = f"cp /proc/uptime {PLACE}/uptime && mount --bind {PLACE}/uptime /proc/uptime"
    script = f'{clock} && printf %s "$1" | {path} {subject.asks} {call}'
    return subject.host.exec("unshare", "-m", "sh", "-c", script, "sh", order, check=False)


def test_no_answer_of_systemd_is_no_proof(subject: Subject) -> None:
    run = subject.switched(subject.closure(NEW))
    for question in ("--state=failed", "--property=NRestarts"):
        done = without_answer(subject, question, f"look {run}")
        assert (done.status, "state=" in done.stdout) == (1, False), question
    subject.abandon(run)


def test_run_does_not_begin_when_systemd_does_not_say_what_there_is_to_go_back_to(subject: Subject) -> None:
    for question in ("--state=failed", "--state=active", "--property=Triggers"):
        done = without_answer(subject, question, "begin", subject.order(subject.closure(NEW)))
        assert answers.one(answers.parse(done.stdout), "refused") == "full", question
    assert subject.leftovers() == ""

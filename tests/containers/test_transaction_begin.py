"""Opening a transaction: complete or not at all, once, and never beside another."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.host import answers
from fleet.host.facts import open_transaction
from tests.containers.hostprogram import NEW, OPEN, PROFILE, RECORD, ROOTS, Subject, run_id
from tests.waiting import until

HANGING = NEW + 'activationScript = "/usr/bin/sleep 600";'


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash --posix"])
def test_confirmed_switch_is_committed(subject: Subject, shell: str) -> None:
    new = subject.closure(NEW)
    subject.use(shell)
    run = subject.switched(new)
    assert subject.body() == "new"
    assert subject.stands_on == (new, subject.old, subject.old)
    view = subject.confirm(run)
    assert (view.boot_entry, subject.stands_on) == (new, (new, new, new))
    assert subject.sh(f"readlink {ROOTS}/live {ROOTS}/previous").split() == [new, subject.old]


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash --posix"])
def test_abandoned_switch_is_reverted(subject: Subject, shell: str) -> None:
    new = subject.closure(NEW)
    subject.use(shell)
    before = subject.generations
    subject.abandon(subject.switched(new))
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)
    assert subject.body() == "old"
    assert subject.sh(f"readlink {ROOTS}/live") == subject.old


def test_order_that_is_not_finished_opens_nothing(subject: Subject) -> None:
    """The connection dies while the order is on its way."""
    order = subject.order(subject.closure(NEW))
    argv = ["docker", "exec", "-i", subject.host.container.name, *subject.asks.split(), "begin"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as client:
        assert client.stdin
        client.stdin.write(order.encode().partition(b"goal ")[0])
        client.stdin.flush()
        until(lambda: subject.succeeds(f"pgrep -f '{subject.asks} begin'"), what="the order is read")
        client.stdin.close()
    assert not subject.succeeds(f"test -e {OPEN}")
    assert subject.running == subject.old


@pytest.mark.parametrize("line", ["run", "fleet-part"])
def test_order_that_lacks_something_opens_nothing(subject: Subject, line: str) -> None:
    lines = subject.order(subject.closure(NEW)).splitlines(keepends=True)
    told = subject.tell("".join(one for one in lines if not one.startswith(line)))
    assert told["refused"] == ["usage"]
    assert subject.leftovers() == ""


def test_full_run_opens_nothing(subject: Subject) -> None:
    order = subject.order(subject.closure(NEW))
    script = (
        "mkdir -p /run/fleet && mount -t tmpfs -o size=4k,nr_inodes=6 none /run/fleet && "
        'printf %s "$1" | $2 begin; ls -A /run/fleet; umount -l /run/fleet'
    )
    done = subject.host.exec("unshare", "-m", "sh", "-c", script, "sh", order, subject.asks, check=False)
    assert "refused=full" in done.stdout
    assert done.stdout.splitlines()[-1] == ".opening"


def test_second_run_is_refused_and_told_who_where_which_and_since(subject: Subject) -> None:
    new = subject.closure(NEW)
    run = subject.switched(new)
    lines = subject.tell(subject.order(subject.old, by="bob"))
    held = open_transaction(lines)
    assert answers.one(lines, "refused") == "locked"
    assert held is not None
    assert (held.run, held.state, held.who, held.origin, held.new, held.old) == (
        run,
        "switched",
        "alice",
        "desk",
        new,
        subject.old,
    )
    assert abs(held.since - int(subject.sh("date +%s"))) < 60
    assert 0 < held.closes_in <= 30
    subject.abandon(run)


def test_roots_of_an_open_run_are_not_given_up(subject: Subject) -> None:
    new, run = subject.closure(NEW), run_id()
    subject.call("root", run, new, subject.program)
    subject.switched(new, run=run)
    assert answers.one(answers.parse(subject.sh(f"{subject.asks} unroot {run}")), "refused") == "locked"
    assert subject.sh(f"readlink {ROOTS}/{run}-new") == new
    subject.abandon(run)


def test_roots_of_a_run_that_died_go_after_some_days_and_those_of_an_open_one_stay(subject: Subject) -> None:
    dead, new = run_id(), subject.closure(NEW)
    subject.call("root", dead, new, subject.program)
    run, other = subject.switched(new), run_id()
    subject.sh(f"touch -h -d '8 days ago' {ROOTS}/*-*")
    subject.call("root", other, new, subject.program)
    left = [f"{run}-new", f"{run}-old", f"{run}-program", f"{other}-new", f"{other}-program"]
    assert subject.sh(f"ls {ROOTS}").split() == sorted(left)
    subject.call("unroot", other)
    subject.abandon(run)


def test_login_that_is_not_root_is_told_so(subject: Subject) -> None:
    done = subject.host.exec("runuser", "-u", "deploy", "--", *subject.asks.split(), "facts")
    assert answers.parse(done.stdout)["message"] == ["this needs root, and the login is deploy"]


def test_run_that_is_begun_twice_switches_once(subject: Subject) -> None:
    order = subject.order(subject.closure(NEW))
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(subject.tell, [order] * 4))
    run = answers.one(told[0], "begun")
    assert [answers.one(lines, "begun") for lines in told] == [run] * 4
    subject.follow(run, "switched")
    subject.abandon(run)
    assert answers.one(subject.tell(order), "begun") == run  # it was: what became of it, `show` tells
    assert subject.show(run).state == "reverted"
    switches = subject.sh(f"journalctl -o cat _SYSTEMD_UNIT=fleet-switch-{run}.service | grep -c '^activating the'")
    assert switches == "1"
    subject.host.power_off()
    subject.host.power_on()
    assert answers.one(subject.tell(order), "begun") == run
    assert (subject.show(run).state, subject.leftovers()) == ("reverted", "")


def test_host_that_runs_another_system_than_the_plan_was_made_for_is_refused(subject: Subject) -> None:
    new = subject.closure(NEW)
    lines = subject.tell(subject.order(new, expected=new))
    assert answers.one(lines, "refused") == "stale"
    assert {new, subject.old} <= set(answers.one(lines, "message").replace(",", "").split())
    assert subject.leftovers() == ""
    assert subject.stands_on == (subject.old,) * 3


def test_one_of_many_that_begin_at_once_wins_and_the_others_are_told_its_run(subject: Subject) -> None:
    orders = [subject.order(subject.closure(NEW)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(subject.tell, orders))
    (run,) = [answers.one(lines, "begun") for lines in told if "begun" in lines]
    assert [answers.one(lines, "open_run") for lines in told if "refused" in lines] == [run] * 3
    subject.follow(run, "switched")
    subject.abandon(run)


def test_quarantined_closure_is_refused_unless_asked_for_again(subject: Subject) -> None:
    bad = subject.closure(NEW)
    subject.abandon(subject.switched(bad), "found check web: 503")
    lines = subject.tell(subject.order(bad))
    assert answers.one(lines, "refused") == "quarantined"
    assert answers.one(lines, "message").startswith("check web: 503 (run ")
    assert subject.leftovers() == ""
    run = subject.switched(bad, retry="yes")
    subject.confirm(run)
    assert not subject.quarantined(bad)


def test_incomplete_and_unfit_closures_are_refused_with_nothing_left(subject: Subject) -> None:
    absent = "/nix/store/00000000000000000000000000000000-nixos-system-absent"
    assert answers.one(subject.tell(subject.order(absent)), "refused") == "incomplete"
    assert answers.one(subject.tell(subject.order(subject.program)), "refused") == "unfit"
    assert subject.leftovers() == ""
    assert subject.running == subject.old


def test_host_without_a_system_profile_is_refused(subject: Subject) -> None:
    """A live system, booted from the network or an ISO: there is nothing that could be made to boot again."""
    new = subject.closure(NEW)
    subject.sh(f"mv {PROFILE} {PROFILE}.away")
    try:
        lines = subject.tell(subject.order(new))
    finally:
        subject.sh(f"mv {PROFILE}.away {PROFILE}")
    assert answers.one(lines, "refused") == "unfit"
    assert answers.one(lines, "message").startswith(f"no system profile {PROFILE}")
    assert (subject.leftovers(), subject.running) == ("", subject.old)


def test_roots_and_the_record_exist_before_anything_switches(subject: Subject) -> None:
    hanging = subject.closure(HANGING)
    run = subject.begin(hanging)
    until(lambda: subject.read("launched"), what="the switch unit")
    there = subject.sh(f"cd {ROOTS} && readlink {run}-new {run}-old {run}-program")
    assert there.split() == [hanging, subject.old, subject.program]
    assert subject.sh(f"cat {RECORD}/open/run {RECORD}/open/old {RECORD}/open/active").split()[:2] == [run, subject.old]
    assert subject.running == subject.old
    subject.abandon(run)


def test_there_is_no_moment_without_roots(subject: Subject) -> None:
    new = subject.closure(NEW)
    watch = (
        f"until [ -e {OPEN} ]; do :; done; while [ -e {OPEN} ]; do "
        # What the run has roots for is rooted as live before those go: so they are read first.
        f"set -- $(readlink {ROOTS}/*-*) $(readlink {ROOTS}/live {ROOTS}/previous); "
        f"case \" $* \" in *' {subject.old} '*) ;; *) echo old; esac;"
        f"case \" $* \" in *' {new} '*) ;; *) echo new; esac; done"
    )
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(subject.sh, watch)
        subject.confirm(subject.switched(new))
        assert watching.result() == ""


def test_run_that_lost_the_host_before_it_was_on_record_leaves_nothing(subject: Subject) -> None:
    """Its keeper did not come to do anything."""
    run, new = run_id(), subject.closure(NEW)
    subject.call("root", run, new, subject.program)
    mute = "printf '#!/bin/sh\nexit 1\n' >/run/mute/systemd-run; chmod 755 /run/mute/systemd-run"
    subject.sh(f"mkdir /run/mute; {mute}")
    begin = '(printf %s "$1" | PATH=/run/mute:$PATH $2 begin >/dev/null 2>&1 &)'
    subject.sh(begin, subject.order(new, run=run), subject.asks)
    until(lambda: subject.succeeds(f"test -e {OPEN}"), what="a transaction")
    subject.sh(f"mkdir {RECORD}/.open")  # as half a copy
    subject.host.power_off()
    subject.host.power_on()
    assert subject.show(run).state == "unknown"
    assert subject.leftovers() == ""
    assert subject.stands_on == (subject.old,) * 3


@pytest.mark.parametrize("damage", ["rm *", "echo >run", "rm old"])
def test_damaged_record_is_put_aside_and_blocks_nothing(subject: Subject, damage: str) -> None:
    first = subject.switched(subject.closure(NEW), goal="test")
    subject.sh(f"cp -r {RECORD}/open {RECORD}/kept")
    subject.confirm(first, end="tested")
    subject.sh(f"mv {RECORD}/kept {RECORD}/open; rm -rf /run/fleet; cd {RECORD}/open && {damage}")
    subject.abandon(subject.switched(subject.old))
    assert subject.succeeds(f"test -d {RECORD}/broken")
    assert subject.leftovers() == ""


def test_run_that_cannot_write_its_record_switches_nothing(subject: Subject) -> None:
    subject.sh(
        f"mkdir -p {RECORD}.away {RECORD} && mount --bind {RECORD}.away {RECORD} && mount -o remount,ro,bind {RECORD}"
    )
    try:
        run = subject.begin(subject.closure(NEW))
        view = subject.follow(run, "reverted")
    finally:
        subject.sh(f"umount -l {RECORD}; rmdir {RECORD}.away")
    assert (view.blame, view.reason) == ("silent", f"cannot write {RECORD}")
    assert subject.sh(f"journalctl -o cat -u fleet-switch-{run}") == ""


def test_run_that_cannot_root_its_systems_does_not_begin(subject: Subject) -> None:
    subject.sh(f"mkdir -p {ROOTS} && mount --bind {ROOTS} {ROOTS} && mount -o remount,ro,bind {ROOTS}")
    try:
        lines = subject.tell(subject.order(subject.closure(NEW)))
    finally:
        subject.sh(f"umount -l {ROOTS}")
    assert answers.one(lines, "refused") == "full"
    assert (subject.leftovers(), subject.running) == ("", subject.old)


def test_roots_of_a_run_that_never_begins_go_when_it_says_so(subject: Subject) -> None:
    run = run_id()
    subject.call("root", run, subject.old, subject.program)
    assert subject.sh(f"ls {ROOTS}").split() == [f"{run}-new", f"{run}-program"]
    subject.call("unroot", run)
    assert subject.leftovers() == ""


def test_run_that_is_given_up_while_it_is_described_does_not_begin(subject: Subject) -> None:
    """It has been admitted by then, and its controller does not wait for it."""
    run = run_id()
    order = subject.order(subject.closure(NEW), run=run)
    slow = '#!/bin/sh\nuntil [ -e /run/slow/go ]; do sleep 0.05; done\nexec /usr/bin/systemctl "$@"\n'
    subject.sh("rm -rf /run/slow && mkdir /run/slow")
    subject.feed(slow.encode(), "sh", "-c", "cat >/run/slow/systemctl && chmod 755 /run/slow/systemctl")
    begin = 'printf %s "$1" | PATH=/run/slow:$PATH $2 begin'
    with ThreadPoolExecutor(2) as pool:
        beginning = pool.submit(subject.sh, begin, order, subject.asks)
        until(lambda: subject.succeeds("test -e /run/fleet/.next/since"), what="it is being described")
        leaving = pool.submit(subject.call, "unroot", run)
        until(lambda: subject.succeeds(f"grep -q {run} /run/fleet/.given-up"), what="it is given up")
        subject.sh("touch /run/slow/go")
        leaving.result()
    assert answers.one(answers.parse(beginning.result()), "refused") == "closed"
    assert (subject.leftovers(), subject.running) == ("", subject.old)


def test_what_a_run_had_under_way_when_it_was_given_up_comes_too_late(subject: Subject) -> None:
    """Its controller went, and what it had asked last reaches the host after its goodbye."""
    run, new = run_id(), subject.closure(NEW)
    subject.call("unroot", run)
    for late in (("root", run, new, subject.program), ("begin",)):
        script = 'order=$1; shift; printf %s "$order" | "$@"'
        said = subject.sh(script, subject.order(new, run=run), *subject.asks.split(), *late)
        assert answers.one(answers.parse(said), "refused") == "closed", late
    assert subject.leftovers() == ""

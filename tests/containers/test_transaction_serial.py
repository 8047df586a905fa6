"""A run begins only where nothing has happened since it was planned, and the host says what has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.host import answers, history
from fleet.host.answers import State
from fleet.host.facts import host_facts
from tests.containers.hostprogram import NEW, PROFILE, RECORD, Subject, run_id
from tests.waiting import until

if TYPE_CHECKING:
    from fleet.host.answers import Lines
    from fleet.host.facts import HostFacts

HANGING = NEW + 'activationScript = "/usr/bin/sleep 600";'
KILLED = NEW + "bootLoaderScript = ''kill -9 $PPID'';"
"""Its commit sets the profile, and goes back without having found anything bad."""


def facts(subject: Subject) -> HostFacts:
    return host_facts(subject.call("facts"))


def stale(lines: Lines) -> str:
    """What the refusal says has happened."""
    assert answers.one(lines, "refused") == "stale", lines
    return answers.one(lines, "message")


def test_host_that_had_no_transaction_says_so_and_nothing_is_written_for_it(subject: Subject) -> None:
    subject.sh(f"rm -rf {RECORD} /run/fleet")
    found = facts(subject)
    assert (found.serial, subject.call("history", "0-none")) == ("0-none", {})
    assert found.link == subject.sh(f"echo $(readlink {PROFILE})@$(stat -c %.9Z {PROFILE})")
    assert subject.sh(f"ls -d {RECORD} /run/fleet 2>/dev/null", check=False) == ""


def test_serial_is_on_the_disk_before_anything_acts_and_is_told_until_the_next_one(subject: Subject) -> None:
    run = subject.begin(subject.closure(HANGING))
    until(lambda: subject.read("launched"), what="the switch is under way")
    serial = facts(subject).serial
    assert (serial.partition("-")[0], len(serial)) == ("1", len("1-8f3a09c2"))
    assert subject.sh(f"cat {RECORD}/serial {RECORD}/open/serial").splitlines() == [f"{serial} {run}", serial]
    subject.abandon(run)
    found = facts(subject)
    assert (found.serial, found.last and found.last.serial) == (serial, serial)
    subject.sh("rm -rf /run/fleet")
    assert facts(subject).serial == serial
    subject.sh(f"rm -rf {RECORD}/last")  # which a full disk may have kept from there
    assert facts(subject).serial == serial
    second = subject.switched(subject.closure(NEW))
    assert facts(subject).serial.partition("-")[0] == "2"
    subject.abandon(second)


def test_run_whose_serial_the_disk_does_not_take_switches_nothing(subject: Subject) -> None:
    subject.sh(f"mkdir -p {RECORD}/.serial")
    run = subject.begin(subject.closure(NEW))
    view = subject.follow(run, "reverted")
    subject.sh(f"rm -r {RECORD}/.serial")
    assert (view.blame, view.reason) == ("silent", f"cannot write {RECORD}")
    assert subject.sh(f"journalctl -o cat -u fleet-switch-{run}") == ""


def test_transaction_since_the_plan_is_told_though_the_host_runs_what_it_ran(subject: Subject) -> None:
    new = subject.closure(NEW)
    planned = facts(subject).serial
    order = subject.order(new)
    between = [subject.switched(new, by="bob", intent="try it", source="git+ssh://x rev 1f3c clean")]
    subject.abandon(between[0], "found check web: 503")
    between.append(subject.switched(new, retry="yes"))
    subject.abandon(between[1])
    lines = subject.tell(order)
    now = facts(subject).serial
    assert stale(lines) == f"the newest transaction was {planned} when this was planned, and now is {now}"
    told = history.entries(lines)
    assert [one.run for one in told] == between
    assert (told[0].by, told[0].origin, told[0].intent, told[0].source) == (
        "bob", "desk", "try it", "git+ssh://x rev 1f3c clean",
    )  # fmt: skip
    assert (told[0].old, told[0].new, told[0].state, told[0].blame, told[0].reason) == (
        subject.old, new, "reverted", "found", "check web: 503",
    )  # fmt: skip
    assert told[0].serial.partition("-")[0] == "1"
    assert told[1].serial == now
    assert history.entries(subject.call("history", told[0].serial)) == told[1:]
    assert (subject.leftovers(), subject.running) == ("", subject.old)


def test_profile_that_somebody_has_set_there_and_back_since_is_told(subject: Subject) -> None:
    order, before = subject.order(subject.closure(NEW)), facts(subject).link
    subject.sh(f"nix-env -p {PROFILE} --set {subject.closure(NEW)}; nix-env -p {PROFILE} --switch-generation 2")
    lines = subject.tell(order)
    now = facts(subject).link
    assert (before.partition("@")[0], now != before) == (now.partition("@")[0], True)
    assert stale(lines) == f"the system profile was {before} when this was planned, and now is {now}"
    assert "history" not in lines


def test_all_that_differs_is_told(subject: Subject) -> None:
    new, other = subject.closure(NEW), subject.closure(NEW.replace('"new"', '"other"'))
    said = stale(subject.tell(subject.order(new, expected=other, serial="7-x", link="system-9-link@1.0"))).split("; ")
    assert [one.partition(" when ")[0].partition(" ran ")[0] for one in said] == [
        other, "the newest transaction was 7-x", "the system profile was system-9-link@1.0",
    ]  # fmt: skip


def test_order_that_comes_again_after_another_run_does_nothing(subject: Subject) -> None:
    """As when a network holds back what was sent twice."""
    new = subject.closure(NEW)
    order = subject.order(new)
    first = answers.one(subject.tell(order), "begun")
    subject.follow(first, "switched")
    subject.abandon(first)
    subject.abandon(subject.switched(new, plan="0" * 64, confirm=31))
    stale(subject.tell(order))
    assert subject.leftovers() == ""


# --- the same part again ---


def test_part_that_went_back_for_silence_begins_again_also_when_its_commit_had_set_the_profile(
    subject: Subject,
) -> None:
    order, before = subject.order(subject.closure(KILLED)), facts(subject).link
    first = answers.one(subject.tell(order), "begun")
    subject.follow(first, "switched")
    subject.confirm(first, end="reverted")
    assert facts(subject).link != before
    second = run_id()
    assert answers.one(subject.tell(order.replace(first, second)), "begun") == second
    subject.follow(second, "switched")
    subject.abandon(second)
    assert [one.run for one in subject.history] == [first, second]
    assert len({one.part for one in subject.history}) == 1


@pytest.mark.parametrize(
    ("word", "state", "blame", "reason"),
    [("confirm", "committed", "", ""), ("abandon found check web: 503", "reverted", "found", "check web: 503")],
)
def test_part_that_ended_otherwise_is_not_begun_again_and_its_end_is_told(
    subject: Subject, word: str, state: str, blame: str, reason: str
) -> None:
    order = subject.order(subject.closure(NEW), retry="yes")
    first = answers.one(subject.tell(order), "begun")
    subject.follow(first, "switched")
    assert subject.word(first, word).accepted
    subject.follow(first, state)
    lines = subject.tell(order.replace(first, run_id()))
    told = [answers.one(lines, key) for key in ("refused", "state", "blame", "reason")]
    assert told == ["ended", state, blame, reason]
    assert answers.one(lines, "message") == f"run {first} was of this very part, and ended {state}"
    assert subject.leftovers() == ""


def test_part_that_went_back_does_not_begin_again_after_another_run(subject: Subject) -> None:
    new = subject.closure(NEW)
    order = subject.order(new)
    first = answers.one(subject.tell(order), "begun")
    subject.follow(first, "switched")
    subject.abandon(first)
    subject.abandon(subject.switched(new, confirm=31))
    assert "the newest transaction was" in stale(subject.tell(order.replace(first, run_id())))


def test_part_that_went_back_does_not_begin_again_where_somebody_has_set_the_profile_there_and_back(
    subject: Subject,
) -> None:
    new = subject.closure(NEW)
    order = subject.order(new)
    first = answers.one(subject.tell(order), "begun")
    subject.follow(first, "switched")
    subject.abandon(first)
    subject.sh(f"nix-env -p {PROFILE} --set {new}; nix-env -p {PROFILE} --switch-generation 2")
    assert "the system profile was" in stale(subject.tell(order.replace(first, run_id())))
    assert (subject.leftovers(), subject.running) == ("", subject.old)


def test_part_that_went_back_does_not_begin_again_on_another_system(subject: Subject) -> None:
    order = subject.order(subject.closure(NEW))
    first = answers.one(subject.tell(order), "begun")
    subject.follow(first, "switched")
    subject.abandon(first)
    other = subject.closure(NEW.replace('"new"', '"other"'))
    subject.sh(f"{other}/bin/switch-to-configuration test")
    assert f"and now {other} does" in stale(subject.tell(order.replace(first, run_id())))


# --- what is lost ---


def test_end_that_a_full_disk_has_kept_from_the_history_is_entered_when_the_next_one_opens(subject: Subject) -> None:
    new = subject.closure(NEW)
    first = subject.switched(new)
    subject.sh(f"mkdir {RECORD}/.history")
    subject.abandon(first)
    assert not subject.succeeds(f"test -e {RECORD}/history")
    assert [one.run for one in subject.history] == [first]  # told all the same
    subject.sh(f"rmdir {RECORD}/.history")
    second = subject.switched(new)
    assert [line.split("\t")[1] for line in subject.sh(f"cat {RECORD}/history").splitlines()] == [first]
    subject.abandon(second)
    assert [one.run for one in subject.history] == [first, second]
    assert subject.sh(f"stat -c %a {RECORD}/history") == "600"


def test_withdrawn_plan_begins_nowhere_and_an_open_transaction_is_not_withdrawn(subject: Subject) -> None:
    new = subject.closure(NEW)
    planned = facts(subject).serial
    order = subject.order(new)
    withdrawal = run_id()
    serial = answers.one(subject.call("withdraw", withdrawal, planned, "bob", "train", "b" * 64), "serial")
    assert facts(subject).serial == serial != planned
    assert subject.call("withdraw", run_id(), planned, "bob", "train", "b" * 64) == {}
    lines = subject.tell(order)
    assert stale(lines) == f"the newest transaction was {planned} when this was planned, and now is {serial}"
    (told,) = history.entries(lines)
    assert (told.run, told.by, told.state, told.plan) == (withdrawal, "bob", State.WITHDRAWN, "b" * 64)
    assert (subject.leftovers(), subject.running) == ("", subject.old)
    run, now = subject.switched(new), facts(subject).serial
    said = subject.host.exec(*subject.asks.split(), "withdraw", run_id(), now, "bob", "train", "b" * 64).stdout
    assert (answers.parse(said)["refused"], facts(subject).serial) == (["locked"], now)
    subject.abandon(run)

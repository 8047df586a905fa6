"""Two versions of the host program on one host: a transaction is ended by the one that began it, whoever comes by.

The other one is that of fleet 0.1.0 before it had numbers: format 1.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fleet.errors import LockedError
from fleet.host import answers
from fleet.host.facts import host_facts
from fleet.host.program import FORMAT, refusal
from fleet.inventory import Host
from fleet.nix import quoted
from tests.containers.hostprogram import NEW, OPEN, RECORD, Subject
from tests.containers.test_transaction_table import REACH, WORDS, release
from tests.waiting import until

if TYPE_CHECKING:
    from fleet.host.answers import Lines
    from fleet.host.facts import HostFacts

OLD_THEN_NEW, NEW_THEN_OLD = (1, FORMAT), (FORMAT, 1)
MEETINGS = pytest.mark.parametrize(
    "formats", [OLD_THEN_NEW, NEW_THEN_OLD], ids=["the new one comes by", "the old one comes by"]
)
OPEN_STATES = ("switching", "switched", "committing", "reverting")
RARE_ENDS = ("tested", "superseded", "stuck")
TAKEN = {
    "switching": (False, True),
    "switched": (True, True),
    "committing": (False, False),
    "reverting": (False, False),
}
"""Whether `confirm` and `abandon` are."""
OTHER = NEW.replace('"new"', '"other"')


def facts(subject: Subject) -> HostFacts:
    return host_facts(subject.call("facts"))


def use(subject: Subject, format: int) -> None:
    subject.use("/bin/sh", format=format)


def remembered(subject: Subject) -> list[str]:
    """The runs of the history: it is kept by programs of the new format."""
    return subject.sh(f"cut -f 2 {RECORD}/history 2>/dev/null", check=False).split()


def locked(subject: Subject, lines: Lines) -> LockedError:
    """What a controller makes of the refusal."""
    error = refusal(Host.model_validate({"name": subject.host.name}), lines)
    assert isinstance(error, LockedError), lines
    return error


@MEETINGS
@pytest.mark.parametrize(
    "state",
    [
        pytest.param(state, marks=[pytest.mark.long] if state in ("switching", "committing") else [])
        for state in OPEN_STATES
    ],
)
def test_open_transaction_is_seen_and_ended_by_the_program_that_began_it(
    subject: Subject, formats: tuple[int, int], state: str
) -> None:
    """Also after a power cut, when the other one is the first to come by."""
    first, other = formats
    before = subject.generations
    use(subject, first)
    ours, run = subject.program, REACH[state](subject)
    use(subject, other)
    subject.sh(f"systemctl stop fleet-keep-{run}", check=False)
    found = facts(subject).transaction
    assert found is not None
    assert (found.run, found.state, found.who, found.old) == (run, state, "alice", subject.old)
    assert f"path={ours} " in subject.sh(f"systemctl show -P ExecStart fleet-keep-{run}")
    told = locked(subject, subject.tell(subject.order(subject.closure(NEW), by="bob")))
    assert f"run {run} of alice from desk, {state}" in told.message
    assert answers.view(subject.call("watch", run, state, "")).state == state
    assert subject.look(run).state == state
    for word, taken in zip(("confirm", "abandon"), TAKEN[state], strict=True):
        if not taken:
            assert not subject.word(run, WORDS[word]).accepted
    subject.host.power_off()
    subject.host.power_on()
    view = subject.follow(run, "reverted", within=60)
    assert (view.rebooted, subject.leftovers()) == (True, "")
    assert (subject.stands_on, subject.generations) == ((subject.old,) * 3, before)
    assert remembered(subject) == ([run] if first == FORMAT else [])
    release(subject)


@MEETINGS
@pytest.mark.parametrize(
    ("word", "end"), [("confirm", "committed"), pytest.param("abandon found it", "reverted", marks=pytest.mark.long)]
)
def test_word_that_the_other_program_takes_reaches_the_one_that_began(
    subject: Subject, formats: tuple[int, int], word: str, end: str
) -> None:
    first, other = formats
    new = subject.closure(NEW)
    use(subject, first)
    run = subject.switched(new)
    use(subject, other)
    deadline = int(subject.read("deadline"))
    until(lambda: subject.look(run).closes_in and int(subject.read("deadline")) > deadline, what="a later deadline")
    assert subject.word(run, word).accepted
    subject.follow(run, end)
    assert subject.stands_on == ((new if end == "committed" else subject.old),) * 3
    assert remembered(subject) == ([run] if first == FORMAT else [])


@MEETINGS
@pytest.mark.parametrize(
    "end", ["committed", *(pytest.param(end, marks=pytest.mark.long) for end in ("reverted", *RARE_ENDS))]
)
def test_transaction_that_has_ended_is_known_and_followed_by_one_of_the_other_program(
    subject: Subject, formats: tuple[int, int], end: str
) -> None:
    first, other = formats
    use(subject, first)
    run = REACH[end](subject)
    use(subject, other)
    found = facts(subject)
    assert found.last is not None
    assert (found.last.run, found.last.state, subject.show(run).state) == (run, end, end)
    second = subject.switched(subject.closure(OTHER), retry="yes")
    subject.abandon(second)
    use(subject, FORMAT)
    now = facts(subject)
    assert (now.last and now.last.run, now.serial.partition("-")[0]) == (second, "2")
    assert [one.run for one in subject.history] == [run, second]
    use(subject, first)
    subject.abandon(subject.switched(subject.closure(OTHER), retry="yes"))


@pytest.mark.parametrize(
    ("formats", "word", "end"),
    [
        pytest.param(OLD_THEN_NEW, "confirm", "committed", marks=pytest.mark.long),
        (OLD_THEN_NEW, "abandon found it", "reverted"),
        (NEW_THEN_OLD, "abandon found it", "reverted"),
    ],
    ids=["old, kept", "old, gone back", "new, gone back"],
)
def test_boot_on_trial_goes_on_by_the_program_that_began_it(
    subject: Subject, formats: tuple[int, int], word: str, end: str
) -> None:
    first, other = formats
    new = subject.closure(NEW + 'kernel = "6.13";')
    use(subject, first)
    ours, run = subject.program, subject.begin(new, goal="boot", boot=120, risk="yes")
    use(subject, other)
    boot_again(subject)
    view = subject.follow(run, "switched")
    assert (view.running, view.rebooted) == (new, True)
    assert f"path={ours} " in subject.sh(f"systemctl show -P ExecStart fleet-keep-{run}")
    assert f"run {run} of alice" in locked(subject, subject.tell(subject.order(subject.closure(NEW)))).message
    assert subject.look(run).state == "switched"
    assert subject.word(run, word).accepted
    if end == "reverted":
        boot_again(subject)
    subject.follow(run, end, within=60)
    assert subject.stands_on == ((new if end == "committed" else subject.old),) * 3
    until(lambda: not subject.succeeds("test -e /etc/systemd/system.attached"), what="no unit that wakes it")


def boot_again(subject: Subject) -> None:
    """A container goes off where it would reboot."""
    until(lambda: not subject.host.is_on, within=60, what="it goes down")
    subject.host.power_on()


GUARDS = {
    1: "confirm=5\nthreshold=2\nguarded=revert\nend",
    FORMAT: "fleet-guard v1\nconfirm 5\nthreshold 2\nguarded revert\nend",
}


def guarded(subject: Subject, config: str, format: int) -> str:
    """A closure with the guard of this format's program, and the order that its module writes."""
    use(subject, format)
    check = f'{subject.program} guard "$1" "$NIXOS_ACTION" <<\'END\'\n{GUARDS[format]}\nEND\n'
    return subject.closure(config + f"preSwitchChecks.guard = {quoted(check)};")


@MEETINGS
def test_guard_of_the_other_program_goes_on_where_somebody_switches_again(
    subject: Subject, formats: tuple[int, int]
) -> None:
    """It takes over from the one that watches, and would go back to what that one would."""
    first, other = formats
    one = guarded(subject, NEW, first)
    two, guard = guarded(subject, OTHER, other), subject.program
    subject.sh(f"{one}/bin/switch-to-configuration test")
    run = subject.read("run")
    subject.sh(f"{two}/bin/switch-to-configuration test")
    assert subject.show(run).state == "superseded"
    use(subject, first)
    watched = facts(subject).transaction
    assert watched is not None
    assert (watched.origin, watched.old, watched.new, subject.read("program")) == ("guard", subject.old, two, guard)
    subject.follow(watched.run, "tested", within=60)
    use(subject, FORMAT)
    assert [one.run for one in subject.history] == [run, watched.run]


def test_state_of_the_older_program_is_taken_in_once_also_when_that_is_killed_and_raced(subject: Subject) -> None:
    bad, good = subject.closure(NEW), subject.closure(OTHER)
    use(subject, 1)
    run = subject.switched(bad)
    subject.abandon(run, "found check web: 503")
    use(subject, FORMAT)
    found = facts(subject)
    assert (found.serial, found.quarantined) == (f"1-{run}", (bad,))
    assert subject.tell(subject.order(bad))["refused"] == ["quarantined"]
    assert not subject.succeeds(f"test -e {RECORD}/history")
    orders = [subject.order(good), subject.order(good)]
    kills = '#!/bin/sh\ncase $1 in */.history) kill -9 0 ;; esac\nexec /usr/bin/sync "$@"\n'
    subject.feed(kills.encode(), "sh", "-c", "mkdir -p /run/kills && cat >/run/kills/sync && chmod 755 /run/kills/sync")
    with ThreadPoolExecutor(2) as pool:
        begin = 'printf %s "$1" | PATH=/run/kills:$PATH $2 begin'
        list(pool.map(lambda order: subject.sh(begin, order, subject.asks, check=False), orders))
    assert not subject.succeeds(f"test -e {OPEN}")
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(subject.tell, orders))
    begun = [answers.one(lines, "begun") for lines in told if "begun" in lines]
    assert len(begun) == 1
    subject.follow(begun[0], "switched")
    subject.abandon(begun[0])
    assert [one.run for one in subject.history] == [run, begun[0]]
    assert [one.serial.partition("-")[0] for one in subject.history] == ["1", "2"]
    subject.sh("rm -r /run/kills")

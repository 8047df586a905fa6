"""The host program makes of every word, in every state, what the model does: both read tests/model/words.pml."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.containers.hostprogram import HOLD_LOCK, NEW, OPEN, PROFILE, Subject, run_id
from tests.waiting import NeverError, until

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = Path(__file__).parents[1] / "model" / "words.pml"
WORDS = {"confirm": "confirm", "abandon": "abandon silent somebody said so"}
HANGING = NEW + 'activationScript = "/usr/bin/sleep 600";'
SLOW_COMMIT = NEW + "beforeBootLoader = ''/usr/bin/sleep 3'';"
ENDS = {"committing": "committed", "reverting": "reverted"}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    state: str
    word: str
    taken: bool
    after: str

    def __str__(self) -> str:
        return f"{self.state}-{self.word}"


ROWS = [
    Row(state, word, taken == "yes", after)
    for state, word, taken, after in re.findall(
        r"^WORD\((\w+),\s*(\w+),\s*(yes|no),\s*(\w+)\)$", TABLE.read_text(), re.MULTILINE
    )
]


def hold_lock(subject: Subject) -> None:
    """A person's own switch is under way, until `release`."""
    subject.sh(HOLD_LOCK)


def release(subject: Subject) -> None:
    subject.sh("systemctl stop holder", check=False)


def to_switching(subject: Subject) -> str:
    run = subject.begin(subject.closure(HANGING))
    until(lambda: subject.read("launched"), what="the switch is under way")
    return run


def to_switched(subject: Subject) -> str:
    return subject.switched(subject.closure(NEW))


def to_committing(subject: Subject) -> str:
    run = subject.switched(subject.closure(SLOW_COMMIT))
    return said(subject, run, "confirm", "committing")


def to_reverting(subject: Subject) -> str:
    run = to_switched(subject)
    hold_lock(subject)  # the way back waits for it
    return said(subject, run, "abandon", "reverting")


def to_committed(subject: Subject) -> str:
    return said(subject, to_switched(subject), "confirm", "committed")


def to_tested(subject: Subject) -> str:
    return said(subject, subject.switched(subject.closure(NEW), goal="test"), "confirm", "tested")


def to_reverted(subject: Subject) -> str:
    return said(subject, to_switched(subject), "abandon", "reverted")


def to_superseded(subject: Subject) -> str:
    run = to_switched(subject)
    other = subject.closure(NEW + 'files."etc/other" = "";')
    subject.sh(f"nix-env --profile {PROFILE} --set {other}")
    return said(subject, run, "abandon", "superseded")


def to_stuck(subject: Subject) -> str:
    run = to_switched(subject)
    drop_in = "/run/systemd/system/steady.service.d"  # it does not start any more
    subject.sh(f"mkdir -p {drop_in} && printf '[Service]\\nExecStartPre=/bin/false\\n' >{drop_in}/ill.conf")
    subject.sh("systemctl daemon-reload && systemctl stop steady")
    try:
        return said(subject, run, "abandon", "stuck")
    finally:
        subject.sh(f"rm -r {drop_in} && systemctl daemon-reload")


REACH: dict[str, Callable[[Subject], str]] = {
    "switching": to_switching,
    "switched": to_switched,
    "committing": to_committing,
    "reverting": to_reverting,
    "committed": to_committed,
    "tested": to_tested,
    "reverted": to_reverted,
    "superseded": to_superseded,
    "stuck": to_stuck,
}


def said(subject: Subject, run: str, word: str, state: str) -> str:
    """The run, which has taken the word and come to the state."""
    assert subject.word(run, WORDS[word]).accepted
    assert subject.follow(run, state, within=60).state == state
    return run


def pass_deadline(subject: Subject) -> None:
    subject.sh(f"echo 0 >{OPEN}/.late && mv {OPEN}/.late {OPEN}/deadline")


def test_every_state_and_word_is_in_the_table() -> None:
    assert {row.state for row in ROWS} == set(REACH)
    for state in REACH:
        wanted = {"confirm", "abandon"} | ({"late"} if state in ("switching", "switched", *ENDS) else set())
        assert {row.word for row in ROWS if row.state == state} == wanted


@pytest.mark.parametrize("row", [row for row in ROWS if row.taken], ids=str)
def test_word_that_is_taken_leads_where_the_table_says(subject: Subject, row: Row) -> None:
    run = REACH[row.state](subject)
    if row.word == "late":
        pass_deadline(subject)
    else:
        assert subject.word(run, WORDS[row.word]).accepted
    assert subject.follow(run, ENDS[row.after]).state == ENDS[row.after]


@pytest.mark.parametrize(
    "state", [pytest.param(one, marks=pytest.mark.long) if one == "stuck" else one for one in REACH]
)
def test_word_that_is_not_taken_changes_nothing(subject: Subject, state: str) -> None:
    run = REACH[state](subject)
    refused = [row for row in ROWS if row.state == state and not row.taken]
    for row in refused:
        assert row.after == state
        if row.word == "late":
            pass_deadline(subject)
        else:
            view = subject.word(run, WORDS[row.word])
            assert (view.accepted, view.state) == (False, state)
    for word in WORDS.values():  # of another run: never taken
        assert not subject.word(run_id(), word).accepted
        assert subject.read("word").split(" ")[0] in ("", "confirm", "abandon")
    assert subject.show(run).state == state
    release(subject)
    if state in ("switching", "switched"):
        said(subject, run, "abandon", "reverted")
    else:
        end = ENDS.get(state, state)
        assert subject.follow(run, end).state == end


# Moves like mv; a word only when it is told to.
STALLING_MV = """\
#!/bin/sh
case $* in
    *" word")
        : >/run/stall/stalls
        until [ -e /run/stall/go ]; do sleep 0.05; done
        ;;
esac
exec /usr/bin/mv "$@"
"""


def test_word_that_is_late_by_a_whole_run_does_not_reach_the_next(subject: Subject) -> None:
    first = to_switched(subject)
    subject.sh("rm -rf /run/stall && mkdir /run/stall")
    subject.feed(STALLING_MV.encode(), "sh", "-c", "cat >/run/stall/mv && chmod 755 /run/stall/mv")
    stalled = f"PATH=/run/stall:$PATH {subject.asks} word {first} confirm"
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(subject.sh, stalled)
        until(lambda: subject.succeeds("test -e /run/stall/stalls"), what="the word has looked")
        said(subject, first, "abandon", "reverted")
        second = to_switched(subject)
        subject.sh("touch /run/stall/go")
        late.result()
    try:
        with pytest.raises(NeverError):
            until(lambda: subject.show(second).state != "switched", within=1)
        assert subject.show(second).state == "switched"
    finally:
        if subject.word(second, WORDS["abandon"]).accepted:
            subject.follow(second, "reverted")

"""What the host program does with calls and transactions of a format that it does not know: no more than show them."""

from __future__ import annotations

import shlex

import pytest

from fleet.host import answers
from tests.containers.hostprogram import OPEN, RECORD, Subject, run_id

SPY = """\
#!/bin/sh
printf '%s\\n' "$*" >>/run/spied
[ ! -e /run/mute ] || exit 0
echo state=switched
"""


@pytest.mark.parametrize(("number", "own_way"), [("", ""), ("3", "3 ")])
@pytest.mark.parametrize("place", [OPEN, f"{RECORD}/open"])
def test_nothing_of_another_format_is_touched_and_its_program_is_asked_in_its_own_way(
    subject: Subject, place: str, number: str, own_way: str
) -> None:
    run = run_id()
    pretend(subject, place, run, number)
    before = subject.sh(f"cd {place} && grep -r . . | sort")
    try:
        for verb, *words in (["facts"], ["show", run], ["busy"], ["look", "another"]):
            subject.call(verb, *words)
        for verb, *words in (["look", run], ["watch", run, "switched", ""], ["word", run, "abandon found x y"]):
            assert subject.call(verb, *words) == {"state": ["switched"]}
        assert subject.tell(subject.order(subject.old))["refused"] == ["locked" if place == OPEN else "full"]
        shown = [f"{own_way}show {run}"] * 4
        asked = [
            f"{own_way}{words}" for words in (f"look {run}", f"watch {run} switched ", f"word {run} abandon found x y")
        ]
        assert subject.sh("cat /run/spied").splitlines() == [*shown, *asked, shown[0]]
        assert subject.sh(f"cd {place} && grep -r . . | sort") == before
        assert subject.sh("systemctl list-units --all --plain --no-legend 'fleet-*'") == ""
    finally:
        subject.sh(f"rm -rf {place} /run/spied /run/spy")


@pytest.mark.parametrize("trouble", ["rm /run/spy", "touch /run/mute"])
def test_transaction_of_another_format_whose_program_is_gone_is_told_and_left_alone(
    subject: Subject, trouble: str
) -> None:
    run = run_id()
    pretend(subject, f"{RECORD}/open", run, "")
    subject.sh(trouble)
    try:
        order = subject.order(subject.old)
        for call in ("facts", f"look {run}", f"show {run}", "begin"):
            lines = answers.parse(subject.sh(f'printf %s "$1" | {subject.asks} {call}', order))
            assert (answers.one(lines, "refused"), run in answers.one(lines, "message")) == ("broken", True), lines
        assert subject.sh(f"cat {RECORD}/open/run") == run
    finally:
        subject.sh(f"rm -rf {RECORD}/open /run/spied /run/spy /run/mute")


def pretend(subject: Subject, place: str, run: str, number: str) -> None:
    """A transaction is open, or on record, whose program only writes down how it is called."""
    subject.feed(SPY.encode(), "sh", "-c", "cat >/run/spy && chmod 755 /run/spy")
    files = {"run": run, "program": "/run/spy", "new": subject.old, "old": subject.old, "state": "switched"}
    files |= {"who": "bob", "from": "train", "deadline": "0", **({"format": number} if number else {})}
    script = "".join(f"printf '%s\\n' {shlex.quote(value)} >{name};" for name, value in files.items())
    subject.sh(f"mkdir -p {place} && cd {place} && {script}")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("3 facts", "this host program speaks format 2, and the call is of format 3"),
        ("1 look r", "this host program speaks format 2, and the call is of format 1"),
        ("facts", "this host program speaks format 2, and the call 'facts' begins with no number"),
        ("", "this host program speaks format 2, and the call '' begins with no number"),
    ],
)
def test_call_of_another_format_is_refused_with_both_numbers(subject: Subject, call: str, says: str) -> None:
    lines = answers.parse(subject.sh(f"{subject.program} {call}"))
    assert (answers.one(lines, "refused"), answers.one(lines, "message").startswith(says)) == ("format", True), lines

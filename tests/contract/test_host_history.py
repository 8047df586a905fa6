"""Serials and the history as the host program's own functions keep them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from fleet.host.answers import State, parse
from fleet.host.history import PastTransaction, entries
from fleet.model import Closure, RunId, Serial
from tests.contract.host_functions import SHELLS, call, put
from tests.unit.builders import NEW, OLD

if TYPE_CHECKING:
    from pathlib import Path

FIND = 'find_serial; echo "$serial"'
ENDED = {
    "format": "2", "serial": "41-8f3a09c2", "run": "20261120T042211-3fa9c1d2", "who": r"J\u00f6rg", "from": "desk",
    "since": "1795946400", "ended": "1795946460", "old": OLD, "new": NEW, "state": "reverted", "blame": "found",
    "part": "a" * 64, "plan": "b" * 64, "source": "git+ssh://x rev 1f3c clean", "intent": "update nginx",
    "reason": "check web: 503", "ledger": f"{'5f' * 16} 8123 {'c' * 64}",
}  # fmt: skip
ENTRY = PastTransaction(
    serial=Serial("41-8f3a09c2"), run=RunId("20261120T042211-3fa9c1d2"), by="Jörg", origin="desk", began=1795946400,
    ended=1795946460, old=Closure(OLD), new=Closure(NEW), state=State.REVERTED, blame="found", part="a" * 64,
    plan="b" * 64, source="git+ssh://x rev 1f3c clean", intent="update nginx", reason="check web: 503",
    ledger=f"{'5f' * 16} 8123 {'c' * 64}",
)  # fmt: skip
CLOSED = f"cd {'$closed'}; run=$(get run); "


def history(folder: Path, since: str = "0-none") -> tuple[PastTransaction, ...]:
    return entries(parse(call(folder, f"history {since}")))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("disk", "open_", "last", "old_last", "serial"),
    [
        (None, None, None, None, "0-none"),
        ("41-a r", None, None, None, "41-a"),
        ("41-a r", None, "41-a", None, "41-a"),
        ("41-a r", "42-b", "41-a", None, "42-b"),
        ("41-a r", None, "42-b", None, "42-b"),  # of a switch by hand whose serial the disk did not take
        ("41-a r", None, None, "39-c", "41-a"),  # a full disk has kept the last transaction, and then came a reboot
        ("41-a r", None, "40-c", None, "41-a"),
        (None, None, "run", None, "1-r-last"),  # of an older program
        ("41-a r", None, "run", None, "42-r-last"),
        ("41-a r", "run", "41-a", None, "42-r-open"),
        ("41-a r", None, None, "run", "42-r-old"),
        ("", None, "7-b", None, "7-b"),  # what a power cut leaves of a file
        ("nonsense", None, None, None, "0-none"),
        ("08-a r", None, None, None, "0-none"),
    ],
)
def test_serial_is_that_of_the_newest_transaction(
    tmp_path: Path, shell: str, disk: str | None, open_: str | None, last: str | None, old_last: str | None, serial: str
) -> None:
    for place, name, made in (
        ("run/open", "open", open_),
        ("run/last", "last", last),
        ("record/last", "old", old_last),
    ):
        if made is not None:
            put(tmp_path / place, run=f"r-{name}", **({} if made == "run" else {"serial": made}))
    if disk is not None:
        put(tmp_path / "record", serial=disk)
    before = sorted(tmp_path.rglob("*"))
    assert call(tmp_path, FIND, shell=shell) == f"{serial}\n"
    assert set(before) <= {*tmp_path.rglob("*")} <= {*before, *(tmp_path / name for name in PLACES)}


PLACES = ("functions", "run", "record", "roots")


def test_serials_go_up_by_one_and_are_never_the_same(tmp_path: Path) -> None:
    put(tmp_path / "record", serial="41-a r")
    drawn = call(tmp_path, "for n in 1 2 3; do draw_serial; cat serial; done").split()
    assert len(set(drawn)) == 3
    assert all(len(one) == len("42-8f3a09c2") and one.startswith("42-") for one in drawn)
    assert all(call(tmp_path, f"is_serial {one} && echo yes") == "yes\n" for one in drawn)


@pytest.mark.parametrize("shell", SHELLS)
def test_transaction_is_remembered_as_the_controller_reads_it(tmp_path: Path, shell: str) -> None:
    put(tmp_path / "run/last", **ENDED)
    call(tmp_path, f"{CLOSED} remember", shell=shell)
    assert history(tmp_path) == (ENTRY,)
    assert (tmp_path / "record/history").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "record").iterdir()) == ["history"]


def test_what_nobody_said_is_a_dash(tmp_path: Path) -> None:
    put(tmp_path / "run/last", **{key: ENDED[key] for key in ("run", "since", "ended", "old", "new", "state")})
    call(tmp_path, f"{CLOSED} remember")
    (line,) = (tmp_path / "record/history").read_text().splitlines()
    assert line.split("\t") == [
        "1-20261120T042211-3fa9c1d2", ENDED["run"], "-", "-", "1795946400", "1795946460", OLD, NEW, "reverted",
        *["-"] * 7,
    ]  # fmt: skip


def test_words_of_others_keep_their_place_and_are_not_endless(tmp_path: Path) -> None:
    reason = "a\tb\x1b[2J\x7f" + "c" * 300
    put(
        tmp_path / "run/last",
        **{**ENDED, "reason": reason, "intent": "x" * 201, "source": "y" * 200, "ledger": "z" * 201},
    )
    call(tmp_path, f"{CLOSED} remember")
    (line,) = (tmp_path / "record/history").read_text().splitlines()
    assert [len(field) for field in line.split("\t")[-4:]] == [200, 200, 200, 200]
    assert line.split("\t")[-2].startswith("a b [2J ccc")
    assert len(line.split("\t")) == len(dataclasses.fields(PastTransaction))


def test_entry_from_before_there_was_a_ledger_is_read(tmp_path: Path) -> None:
    put(tmp_path / "run/last", **ENDED)
    call(tmp_path, f"{CLOSED} remember")
    file = tmp_path / "record/history"
    file.write_text("\t".join(file.read_text().rstrip("\n").split("\t")[:15]) + "\n")
    assert history(tmp_path) == (dataclasses.replace(ENTRY, ledger=""),)


def test_the_last_100_are_remembered(tmp_path: Path) -> None:
    runs = " ".join(f"r{number}" for number in range(1, 106))
    script = f"mkdir t; cd t; for run in {runs}; do put run $run; put serial ${{run#r}}-x; remember; done"
    call(tmp_path, script)
    kept = history(tmp_path)
    assert [one.run for one in kept] == [f"r{number}" for number in range(6, 106)]
    assert [one.run for one in history(tmp_path, "103-x")] == ["r104", "r105"]
    assert history(tmp_path, "105-x") == ()
    for unknown in ("5-x", "10", "03-x", ".*", "'103-x '", ""):
        assert history(tmp_path, unknown) == kept, unknown


@pytest.mark.parametrize("moment", ["tail", "sync", "mv"])
def test_keeper_that_dies_while_it_remembers_leaves_one_entry(tmp_path: Path, moment: str) -> None:
    for number in (1, 2):
        put(tmp_path / "run/last", **{**ENDED, "run": f"r{number}", "serial": f"{number}-x"})
        call(tmp_path, f"{CLOSED} remember")
    put(tmp_path / "run/last", **{**ENDED, "run": "r3", "serial": "3-x"})
    dies = f'{moment}() {{ command {moment} "$@"; kill -9 $$; kill -9 $(sh -c "echo \\$PPID"); }}; '
    call(tmp_path, f"{dies} {CLOSED} remember", check=False)
    call(tmp_path, f"{CLOSED} remember; remember")
    assert [one.run for one in entries(parse(call(tmp_path, "history")))] == ["r1", "r2", "r3"]
    assert sorted(path.name for path in (tmp_path / "record").iterdir()) == ["history"]


def test_full_disk_loses_an_entry_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path / "run/last", **ENDED)
    call(tmp_path, f"{CLOSED} remember")
    put(tmp_path / "run/last", **{**ENDED, "run": "r2", "serial": "42-x"})
    for full in ("sync() { return 1; }", "printf() { return 1; }"):
        call(tmp_path, f"{full}; {CLOSED} remember || :")
        assert sorted(path.name for path in (tmp_path / "record").iterdir()) == ["history"]
        assert len((tmp_path / "record/history").read_text().splitlines()) == 1
    assert [one.run for one in history(tmp_path)] == [ENTRY.run, "r2"]  # as long as it is the last


def test_last_transaction_that_is_not_in_the_history_yet_is_told_and_not_written(tmp_path: Path) -> None:
    put(tmp_path / "record/last", **{key: value for key, value in ENDED.items() if key not in ("serial", "format")})
    (told,) = history(tmp_path)
    assert told == dataclasses.replace(ENTRY, serial=Serial(f"1-{ENTRY.run}"))
    assert history(tmp_path, told.serial) == ()
    assert not (tmp_path / "record/history").exists()


WITHDRAW = (
    "lock_opening() { :; }; find_systems() { running=%s; }; withdraw r9 %s 'J\\u00f6rg' desk %s"  # no host is here
)


@pytest.mark.parametrize("shell", SHELLS)
def test_withdrawal_draws_a_new_serial_and_is_remembered(tmp_path: Path, shell: str) -> None:
    put(tmp_path / "record", serial="41-a r")
    put(tmp_path / "run/last", **{**ENDED, "serial": "41-a"})
    drawn = parse(call(tmp_path, WITHDRAW % (OLD, "41-a", "b" * 64), shell=shell))["serial"][-1]
    assert drawn.startswith("42-")
    assert call(tmp_path, FIND, shell=shell) == f"{drawn}\n"
    assert (tmp_path / "record/serial").read_text() == f"{drawn} r9\n"
    told = history(tmp_path)[-1]
    assert (told.serial, told.run, told.by, told.origin, told.state, told.plan, told.old, told.new) == (
        drawn, "r9", "Jörg", "desk", State.WITHDRAWN, "b" * 64, OLD, OLD,
    )  # fmt: skip
    assert call(tmp_path, "draw_serial; cat serial", shell=shell).startswith("43-")


def test_plan_that_is_worthless_already_is_withdrawn_without_a_new_serial(tmp_path: Path) -> None:
    put(tmp_path / "record", serial="42-b r")
    for planned in ("41-a", "42-a", "0-none"):
        assert call(tmp_path, WITHDRAW % (OLD, planned, "b" * 64)) == ""
    assert (tmp_path / "record/serial").read_text() == "42-b r\n"
    assert history(tmp_path) == ()


def test_host_that_never_had_a_transaction_forgets_a_plan_too(tmp_path: Path) -> None:
    assert call(tmp_path, WITHDRAW % (OLD, "0-none", "b" * 64)).startswith("serial=1-")


def test_withdrawal_that_the_disk_does_not_take_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "record", serial="41-a r")
    (tmp_path / "record/.serial").mkdir()
    answer = parse(call(tmp_path, WITHDRAW % (OLD, "41-a", "b" * 64)))
    assert answer["refused"] == ["full"]
    assert (tmp_path / "record/serial").read_text() == "41-a r\n"


@pytest.mark.parametrize(
    "arguments",
    ["withdraw", "withdraw r", "withdraw r x d", "withdraw ../r 0-none a b d", "withdraw r 0-none a b ../d"],
)
def test_withdrawal_of_what_is_no_plan_is_refused(tmp_path: Path, arguments: str) -> None:
    assert parse(call(tmp_path, f"require_names {arguments}"))["refused"] == ["usage"]

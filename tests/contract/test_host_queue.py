"""Whose turn it is, and who proves a run, as the host program's own functions decide it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from fleet.host.answers import parse
from tests.contract.host_functions import SHELLS, call, put
from tests.unit.builders import NEW, OLD

if TYPE_CHECKING:
    from pathlib import Path

TICK = """
    lock_opening() { :; }; mkdir -p $queue; times=0
    clock() { now=$time; }
    wait_for_others() { time=$((time + 1)); times=$((times + 1)); }
    at() { time=$1; shift; ( "$@"; ); }
    begins() { run=$1 new=${2-new}; decline() { refuse "$@"; }; require_turn; echo turn=mine; }
"""
"""Time passes only where somebody waits, and nobody has to have a lock."""


def queue(folder: Path, script: str, *, shell: str = "sh") -> list[dict[str, list[str]]]:
    """What each call in the script answered; they are parted by `next`."""
    said = call(folder, f"{TICK}\nnext() {{ echo ----; }}\n{script}", shell=shell)
    return [parse(one) for one in said.split("----\n")]


def turns(answers: list[dict[str, list[str]]]) -> list[str]:
    return [answer.get("turn", answer.get("refused", ["-"]))[-1] for answer in answers]


def waiting(answer: dict[str, list[str]]) -> list[str]:
    """The runs that wait, by their numbers."""
    rows = [line.split("\t") for line in answer.get("waiting", ())]
    return [run for _, run, *_ in sorted(rows, key=lambda row: int(row[0]))]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_only_one_that_asks_has_the_turn_at_once(tmp_path: Path, shell: str) -> None:
    (answer,) = queue(tmp_path, "at 100 queue r1 60 ann desk 'update nginx'", shell=shell)
    assert answer["turn"] == ["yes"]
    (line,) = answer["waiting"]
    assert re.fullmatch(r"1\tr1\t\d{10}\t60\tann\tdesk\tupdate nginx", line)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_oldest_ticket_has_the_turn_and_the_others_know_whom_they_wait_for(tmp_path: Path, shell: str) -> None:
    answers = queue(
        tmp_path,
        """at 100 queue r1 60 ann desk -; next
           at 101 queue r2 60 bob train -; next
           at 101 queue r3 60 eve home -; next
           at 102 queue r1 58 ann desk -""",
        shell=shell,
    )
    assert turns(answers) == ["yes", "no", "no", "yes"]
    assert waiting(answers[2]) == ["r1", "r2", "r3"]


@pytest.mark.parametrize(("seconds", "waited"), [(600, 10), (10, 10), (3, 3)])
def test_answer_comes_after_some_seconds_and_no_later_than_the_time_is_over(
    tmp_path: Path, seconds: int, waited: int
) -> None:
    put(tmp_path / "run/open", run="r0", state="switched")
    assert call(tmp_path, f"{TICK}\ntime=100; queue r1 {seconds} ann desk - >/dev/null; echo $times") == f"{waited}\n"


def test_nobody_has_the_turn_while_a_transaction_is_open(tmp_path: Path) -> None:
    put(tmp_path / "run/open", run="r0", state="switched")
    assert turns(queue(tmp_path, "at 100 queue r1 60 ann desk -")) == ["no"]


def test_ticket_keeps_its_number_however_often_it_is_renewed(tmp_path: Path) -> None:
    put(tmp_path / "run/open", run="r0", state="switched")
    calls = "; next\n".join(f"at {100 + 10 * turn} queue r{run} 90 ann desk -" for turn in range(5) for run in (1, 2))
    answers = queue(tmp_path, f"{calls}; next\nrm -r $open; at 150 queue r2 40 ann desk -")
    assert waiting(answers[-1]) == ["r1", "r2"]
    assert turns(answers)[-1] == "no"


@pytest.mark.parametrize(("silence", "left"), [(30, ["r1"]), (31, [])])
def test_waiter_that_is_silent_for_30_seconds_is_dropped(tmp_path: Path, silence: int, left: list[str]) -> None:
    put(tmp_path / "run/open", run="r0", state="switched")
    call(tmp_path, f"{TICK}\nat 100 queue r1 600 ann desk -")
    (told,) = queue(tmp_path, f"at {100 + silence} answer_queue")
    call(tmp_path, f"{TICK}\nat {100 + silence} tend_queue")
    assert waiting(told) == [path.name for path in (tmp_path / "run/queue").iterdir()] == left


def test_ticket_that_outlives_its_own_time_is_dropped(tmp_path: Path) -> None:
    put(tmp_path / "run/open", run="r0", state="switched")
    call(tmp_path, f"{TICK}\nat 100 queue r1 20 ann desk -")
    assert waiting(parse(call(tmp_path, f"{TICK}\nat 119 answer_queue"))) == ["r1"]
    assert waiting(parse(call(tmp_path, f"{TICK}\nat 120 answer_queue"))) == []


def test_who_has_the_turn_and_does_not_begin_loses_it_to_the_next(tmp_path: Path) -> None:
    answers = queue(
        tmp_path,
        """at 100 queue r1 600 ann desk -; next
           at 110 queue r2 600 bob desk -; next
           at 125 queue r1 600 ann desk -; next
           at 120 queue r2 600 bob desk -; next
           at 131 queue r2 600 bob desk -; next
           at 132 queue r1 600 ann desk -""",
    )
    assert turns(answers) == ["yes", "no", "yes", "no", "yes", "no"]
    assert waiting(answers[-1]) == ["r2", "r1"]  # it has to wait anew


def test_turn_begins_anew_after_a_transaction_that_nobody_waited_for(tmp_path: Path) -> None:
    """Somebody has switched by hand meanwhile."""
    script = """at 100 queue r1 600 ann desk -; next
        mkdir $open; put_new $open/run r0; at 120 queue r1 600 ann desk -; next
        rm -r $open; at 140 queue r1 600 ann desk -; next
        at 150 queue r2 600 bob desk -; next
        at 169 begins r1"""
    assert turns(queue(tmp_path, script)) == ["yes", "no", "yes", "no", "mine"]


@pytest.mark.parametrize("shell", SHELLS)
def test_only_the_one_whose_turn_it_is_may_begin_and_the_others_are_told_who_waits(tmp_path: Path, shell: str) -> None:
    begin = "; next\n".join(f"at 105 begins {run}" for run in ("r1", "r2", "r3"))
    script = f"at 100 queue r2 60 bob desk - >/dev/null; at 100 queue r1 60 ann desk -; next\n{begin}"
    queued, late, oldest, without = queue(tmp_path, script, shell=shell)
    assert turns([queued, late, oldest, without]) == ["no", "locked", "mine", "locked"]
    assert "run r2" in late["message"][0]
    assert waiting(late) == waiting(without) == ["r2", "r1"]


def test_who_may_begin_without_a_ticket_where_nobody_waits(tmp_path: Path) -> None:
    assert turns(queue(tmp_path, "at 100 begins r9")) == ["mine"]
    assert turns(queue(tmp_path, "rmdir $queue; at 100 begins r9")) == ["mine"]


def test_who_goes_back_to_what_ran_before_waits_for_nobody(tmp_path: Path) -> None:
    call(tmp_path, f"{TICK}\nat 100 queue r1 60 ann desk -; ln -s {OLD} $roots/previous")
    back, forth = (f"at 101 begins r9 {new}" for new in (OLD, NEW))
    assert turns(queue(tmp_path, f"{back}; next\n{forth}")) == ["mine", "locked"]


def test_person_who_switches_by_hand_waits_for_nobody(tmp_path: Path) -> None:
    call(tmp_path, f"{TICK}\nat 100 queue r1 60 ann desk -")
    by_hand = "touch guarded; at 101 begins r9; rm guarded"
    assert turns(queue(tmp_path, by_hand)) == ["mine"]


def test_run_that_was_given_up_gets_no_ticket(tmp_path: Path) -> None:
    script = "given_up=$queue/../given-up; echo r1 >$given_up; at 100 queue r1 60 ann desk -; next; ls $queue"
    answers = queue(tmp_path, script)
    assert answers[0]["refused"] == ["closed"]
    assert list((tmp_path / "run/queue").iterdir()) == []


@pytest.mark.parametrize("seconds", ["", "-5", "1e9", "12345678901", "$(reboot)", "60;"])
def test_time_that_is_none_is_refused(tmp_path: Path, seconds: str) -> None:
    (answer,) = queue(tmp_path, f"at 100 queue r1 '{seconds}' ann desk -")
    assert answer["refused"] == ["usage"]
    assert list((tmp_path / "run/queue").iterdir()) == []


def test_words_of_others_are_on_one_line_and_not_endless(tmp_path: Path) -> None:
    intent = "x" * 300
    (answer,) = queue(tmp_path, f"at 100 queue r1 60 \"$(printf 'a\\033[2J\\tb')\" desk {intent}")
    (line,) = answer["waiting"]
    assert line.split("\t")[4:] == ["a [2J b", "desk", "x" * 200]


def test_ticket_that_cannot_be_read_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "run/queue").mkdir(parents=True)
    for name, text in (("a", ""), ("b", "1 2 3"), ("c", "\n\n")):
        (tmp_path / "run/queue" / name).write_text(text)
    assert turns(queue(tmp_path, "at 100 queue r1 60 ann desk - 2>/dev/null")) == ["yes"]


def test_nothing_is_queued_on_a_full_disk(tmp_path: Path) -> None:
    (answer,) = queue(tmp_path, "mv() { return 1; }; at 100 queue r1 60 ann desk -")
    assert answer["refused"] == ["full"]


# --- the one who proves ------------------------------------------------------------------------------------

PROVING = """
    lock_opening() { :; }; show() { answer state switched; }; ring() { :; }; judge_units() { :; }; wait_for_end() { :; }
    tell_lines() { :; }; clock() { now=$time; }; time=100
"""


def proving(folder: Path, script: str, *, deadline: int = 160, shell: str = "sh") -> dict[str, list[str]]:
    """What a host says whose run r1 is switched, and that was looked at when the deadline was put off."""
    put(folder / "run/open", run="r1", state="switched", confirm="60", format="2", deadline=str(deadline))
    return parse(call(folder, f"{PROVING}\n{script}", shell=shell))


@pytest.mark.parametrize("shell", SHELLS)
def test_each_who_attaches_gets_the_next_number(tmp_path: Path, shell: str) -> None:
    assert proving(tmp_path, "attach r1; attach r1; attach r2", shell=shell)["prover"] == ["2", "3"]


def test_number_is_on_the_disk_for_after_a_reboot(tmp_path: Path) -> None:
    put(tmp_path / "record/open", run="r1")
    proving(tmp_path, "sync() { :; }; attach r1")
    assert (tmp_path / "record/open/prover").read_text() == "2\n"


def test_number_that_cannot_be_written_is_not_given(tmp_path: Path) -> None:
    assert "prover" not in proving(tmp_path, "mv() { return 1; }; attach r1")


@pytest.mark.parametrize("shell", SHELLS)
def test_who_was_displaced_neither_renews_the_deadline_nor_leaves_a_word(tmp_path: Path, shell: str) -> None:
    script = "attach r1; look r1 1; word r1 confirm wait '' 1; word r1 'abandon found x' wait '' 1"
    told = proving(tmp_path, script, deadline=159, shell=shell)
    assert (told["displaced"], told["accepted"]) == (["yes"] * 3, ["no", "no"])
    assert (tmp_path / "run/open/deadline").read_text() == "159\n"
    assert not (tmp_path / "run/open/word").exists()


def test_who_attached_last_looks_and_leaves_words_and_so_does_a_person(tmp_path: Path) -> None:
    told = proving(tmp_path, "attach r1; look r1 2; word r1 confirm wait '' 2; word r1 'abandon silent by hand'")
    assert (told["accepted"], "displaced" in told) == (["yes", "yes"], False)


def test_who_began_has_the_first_number(tmp_path: Path) -> None:
    told = proving(tmp_path, "look r1 1; word r1 confirm wait '' 1")
    assert (told["accepted"], "displaced" in told) == (["yes"], False)


@pytest.mark.parametrize(("pause", "accepted"), [(0, "yes"), (10, "yes"), (11, "no"), (59, "no")])
def test_nothing_is_committed_that_was_seen_more_than_10_seconds_ago(tmp_path: Path, pause: int, accepted: str) -> None:
    script = f"look r1 1; time=$((time + {pause})); word r1 confirm wait '' 1"
    assert proving(tmp_path, script)["accepted"] == [accepted]


def test_bad_word_counts_however_late(tmp_path: Path) -> None:
    assert proving(tmp_path, "time=150; word r1 'abandon found x' wait '' 1")["accepted"] == ["yes"]

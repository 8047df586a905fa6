"""The first wrong entry of a ledger has a name, by the ledger alone or by what others have kept of it."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.ledger import Entry, Head, Kind
from fleet.ledger.chain import Chain, How, against_note, parse, read_chain
from fleet.ledger.entries import LARGEST, LONGEST
from fleet.ledger.witnesses import Witness, hear
from tests.unit.ledgers import ID, OPENED, OTHER_ID, RUN, USUAL, entry, head_of, lines_of, rehashed, rewritten

LINES = lines_of(USUAL)


def chain_of(lines: list[str], noted: Head | None = None) -> Chain:
    """As an export has it, or as the database has it with the note of its head."""
    chain = read_chain([(None, line) for line in lines])
    return against_note(chain, noted) if noted is not None else chain


def wrong(lines: list[str], noted: Head | None = None) -> tuple[int, How] | None:
    found = chain_of(lines, noted).wrong
    return (found.entry, found.how) if found is not None else None


def test_ledger_as_it_was_written_is_right() -> None:
    chain = chain_of(LINES, head_of(LINES))
    assert (chain.wrong, chain.head, chain.ledger, chain.begun) == (None, head_of(LINES), ID, {})
    assert chain.runs == {RUN}
    assert read_chain([*enumerate(LINES, 1)]).head == chain.head


def test_no_ledger_is_right_too() -> None:
    assert (chain_of([]).wrong, chain_of([]).head, against_note(Chain(), None)) == (None, None, Chain())


@pytest.mark.parametrize("number", range(1, len(LINES) + 1))
def test_any_flipped_byte_names_its_entry(number: int) -> None:
    line = LINES[number - 1].encode()
    rng = random.Random(number)
    for place in {0, len(line) - 1, *rng.sample(range(len(line)), 60)}:
        for bit in (1, 32):
            flipped = bytearray(line)
            flipped[place] ^= bit
            spoilt = [*LINES[: number - 1], flipped.decode("ascii", "replace"), *LINES[number:]]
            assert wrong(spoilt) == (number, How.CHANGED), (place, bit)


@pytest.mark.parametrize("number", range(1, len(LINES)))
def test_dropped_entry_is_named(number: int) -> None:
    assert wrong([*LINES[: number - 1], *LINES[number:]]) == (number, How.MISSING)
    kept = [(place, line) for place, line in enumerate(LINES, 1) if place != number]
    found = read_chain(kept).wrong
    assert found is not None
    assert (found.entry, found.how) == (number, How.MISSING)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 3), (3, 6), (6, 7)])
def test_first_of_two_exchanged_entries_is_named(one: int, other: int) -> None:
    exchanged = list(LINES)
    exchanged[one - 1], exchanged[other - 1] = exchanged[other - 1], exchanged[one - 1]
    assert wrong(exchanged) == (one, How.MISPLACED)


def test_entry_that_stands_there_twice_is_named() -> None:
    assert wrong([*LINES[:3], LINES[2], *LINES[3:]]) == (4, How.MISPLACED)


@pytest.mark.parametrize("number", range(1, len(LINES)))
def test_entry_that_was_written_anew_with_its_hash_is_named(number: int) -> None:
    spoilt = list(LINES)
    spoilt[number - 1] = rehashed(LINES[number - 1], by="bob")
    assert wrong(spoilt) == (number, How.REWRITTEN)


def test_entry_that_is_slipped_in_is_named() -> None:
    (more,) = lines_of([entry(Kind.APPROVAL, plan="c" * 64)], before=head_of(LINES).hash, first=len(LINES) + 1)
    assert wrong([*LINES, more], head_of(LINES)) == (len(LINES) + 1, How.ADDED)
    found = read_chain([(0, more), *enumerate(LINES, 1)]).wrong
    assert found is not None
    assert (found.entry, found.how) == (1, How.ADDED)


@pytest.mark.parametrize("left", [0, 1, len(LINES) - 1])
def test_first_entry_of_a_tail_that_was_cut_is_named(left: int) -> None:
    assert wrong(LINES[:left], head_of(LINES)) == (left + 1, How.CUT)
    assert wrong(LINES[:left]) is None  # an export alone cannot tell: its head has to be compared


def test_tail_that_was_cut_together_with_the_note_is_told_by_that() -> None:
    chain = against_note(chain_of(LINES[:3]), None)
    assert chain.wrong is not None
    assert (chain.wrong.entry, chain.wrong.how) == (4, How.CUT)


def test_last_entry_that_was_written_anew_is_named_by_the_note() -> None:
    assert wrong([*LINES[:-1], rehashed(LINES[-1], by="bob")], head_of(LINES)) == (len(LINES), How.REWRITTEN)


@pytest.mark.parametrize("line", ["", "{}", "[]", "null", '{"a":1}', "{" * 100_000, "x" * (LARGEST + 1), "\u00fc", '"'])
def test_what_is_no_entry_is_named(line: str) -> None:
    assert wrong([*LINES[:2], line, *LINES[3:]]) == (3, How.CHANGED)


def test_ledger_that_nothing_opens_is_wrong_from_the_first() -> None:
    for first in (USUAL[1], entry(Kind.OPENED, ledger="x"), entry(Kind.OPENED, ledger=ID.upper())):
        assert wrong(lines_of([first, *USUAL[1:]])) == (1, How.CHANGED)
    assert wrong(rewritten(LINES, 1, prev="1" * 64)) == (1, How.CHANGED)


def test_keys_that_stand_there_twice_are_seen() -> None:
    """Other programs may believe the first of them."""
    spoilt = LINES[1].replace('{"at":', '{"at":1,"at":', 1)
    assert json.loads(spoilt) == json.loads(LINES[1])
    assert wrong([LINES[0], spoilt, *LINES[2:]]) == (2, How.CHANGED)


def witnesses(lines: list[str], *sizes: int, who: str = "web-1", run: str = RUN) -> list[Witness]:
    return [Witness(who, head_of(lines, size), run) for size in sizes]


def heard(lines: list[str], *said: Witness, noted: Head | None = None) -> tuple[int, How] | None:
    chain = chain_of(lines, noted)
    found = hear(chain, said, chain.runs).chain.wrong
    return (found.entry, found.how) if found is not None else None


def test_witnesses_of_a_right_ledger_agree() -> None:
    verdict = hear(chain_of(LINES), [*witnesses(LINES, 3, 5), *witnesses(LINES, 7, who="plan x")], {RUN})
    assert (verdict.chain.wrong, list(verdict.contradicting)) == (None, [])
    assert verdict.agreeing == {"web-1": 2, "plan x": 1}


def test_whole_rewrite_is_named_as_near_as_witnesses_tell() -> None:
    spoilt = rewritten(LINES, 4, host="db-1")
    assert wrong(spoilt, head_of(spoilt)) is None
    assert heard(spoilt, *witnesses(LINES, 3, 4)) == (4, How.REWRITTEN)
    assert heard(spoilt, *witnesses(LINES, 7, 2)) == (3, How.REWRITTEN)  # from there on, one of them
    assert heard(spoilt, *witnesses(LINES, 6)) == (1, How.REWRITTEN)
    assert heard(spoilt, *witnesses(LINES, 3)) is None  # nobody has seen what was changed


def test_what_was_seen_after_a_rewrite_clears_nobody() -> None:
    spoilt = rewritten(LINES, 4, host="db-1")
    assert heard(spoilt, *witnesses(LINES, 4), *witnesses(spoilt, 7, who="db-1")) == (1, How.REWRITTEN)


def test_tail_that_was_cut_is_named_by_witnesses() -> None:
    cut = LINES[:5]
    assert heard(cut, *witnesses(LINES, 3, 7), noted=head_of(cut)) == (6, How.CUT)


def test_what_a_ledger_says_by_itself_comes_first() -> None:
    spoilt = [*LINES[:2], LINES[2].replace("web-1", "web-2"), *LINES[3:]]
    assert heard(spoilt, *witnesses(LINES, 7)) == (3, How.CHANGED)
    assert heard(spoilt, *witnesses(rewritten(LINES, 1, by="bob"), 2)) == (1, How.REWRITTEN)


def test_ledgers_of_other_machines_are_no_rewrite() -> None:
    theirs = lines_of([entry(Kind.OPENED, ledger=OTHER_ID), entry(Kind.BEGIN, run="r", hosts=("web-1",))])
    others = [Witness("web-1", head_of(theirs, ledger=OTHER_ID), "20261121T042211-aaaaaa")]
    verdict = hear(chain_of(LINES), [*witnesses(LINES, 3), *others], {RUN})
    assert (verdict.chain.wrong, list(verdict.contradicting)) == (None, [])
    assert verdict.others == {OTHER_ID: 1}


def test_ledger_with_another_id_in_the_place_of_this_one_is_a_rewrite() -> None:
    """Whoever writes it anew under another id has our runs in it, or in what else we remember."""
    theirs = rewritten(LINES, 1, ledger=OTHER_ID)
    chain = chain_of(theirs, head_of(theirs, ledger=OTHER_ID))
    assert chain.wrong is None
    found = hear(chain, witnesses(LINES, 3), chain.runs).chain.wrong
    assert found is not None
    assert (found.entry, found.how) == (1, How.REWRITTEN)
    assert ID in found.message


def test_run_without_an_end_is_told_with_its_hosts() -> None:
    chain = chain_of(LINES[:4])
    (run,) = chain.begun.values()
    assert (run.run, run.entry, run.hosts) == (RUN, 3, ("db-1",))
    (run,) = chain_of(LINES[:5]).begun.values()
    assert run.hosts == ()


def test_run_whose_end_came_before_that_of_its_hosts_is_over_with_the_last() -> None:
    """As `fleet resume` enters it."""
    entries = [*USUAL[:4], USUAL[5]]
    assert chain_of(lines_of(entries)).begun[RUN].hosts == ("db-1",)
    assert chain_of(lines_of([*entries, USUAL[4]])).begun == {}


def test_run_that_goes_on_is_not_over() -> None:
    entries = [*USUAL, entry(Kind.BEGIN, run=RUN, hosts=("pi",))]
    assert chain_of(lines_of(entries)).begun[RUN].hosts == ("pi",)
    after = [*USUAL[:4], USUAL[5], entries[-1], USUAL[4], entry(Kind.COMMIT, run=RUN, host="pi")]
    assert chain_of(lines_of(after)).begun[RUN].hosts == ()


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["why", "host", "run", "x"]), st.text() | st.booleans() | st.lists(st.text())))
def test_whatever_others_wrote_is_one_line_of_plain_ascii(values: dict[str, str]) -> None:
    (line,) = lines_of([Entry(kind=Kind.RESULT, by="ann", origin="desk", values=values)])
    assert line.isascii()
    assert line.isprintable()
    body = parse(line)
    assert body is not None
    assert (body["kind"], body["entry"]) == ("result", 1)


def test_words_of_others_are_not_endless_and_have_no_control_characters() -> None:
    values = entry(Kind.RESULT, why="a\x1b[2J\nb" + "c" * 3000, hosts=("\x07x",)).plain
    assert str(values["why"]).startswith("a bccc")
    assert len(str(values["why"])) < LONGEST + 40
    assert values["hosts"] == ["x"]


def test_entry_that_would_be_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        entry(Kind.BEGIN, hosts=["h" * 60] * 1500)


@pytest.mark.parametrize("key", ["at", "by", "entry", "from", "hash", "kind", "late", "prev"])
def test_nobody_can_give_an_entry_another_place(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        Entry(kind=Kind.RESULT, by="ann", origin="desk", values={key: "x"})


def test_head_is_read_back_and_nothing_else_is() -> None:
    head = head_of(LINES)
    assert Head.parse(str(head)) == head
    for text in ("", "-", str(head).upper(), f"{head} ", f"{head}\n", str(head).replace(" 7 ", " 07 "), "a b c"):
        with pytest.raises(ValueError, match="expected"):
            Head.parse(text)
    assert OPENED.plain["kind"] == "opened"

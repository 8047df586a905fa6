"""The check of docs/ledger.md: with `sha256sum` and `jq` alone it finds what `fleet ledger verify` finds."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fleet.ledger import Kind
from fleet.ledger.chain import read_chain
from tests.unit.ledgers import USUAL, entry, head_of, lines_of, rehashed, rewritten

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"
SAYINGS = (
    '"quotes" and \\backslashes\\ and /slashes/', "J\u00f6rg \u2192 \U0001f680", "\ud800 alone", "\x7f\x1b[0m<>&'", "",
    "-1e5", "a\tb\nc", "\u2028\u200b",
)  # fmt: skip
LINES = lines_of([
    *USUAL,
    entry(Kind.RESULT, by=SAYINGS[0], why=SAYINGS[1], hosts=SAYINGS, count=0, is_late=True, is_new=False),
    entry(Kind.BEGIN, hosts=[f"host-{number}" for number in range(500)], big=2**53 - 1, small=-(2**53) + 1),
])  # fmt: skip


def script() -> str:
    """The check, as the page has it."""
    (block,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(block)


def check(text: str) -> tuple[int, str]:
    assert shutil.which("jq"), "make setup installs it"
    done = subprocess.run(["sh", "-c", script()], input=text.encode(), capture_output=True, timeout=60, check=False)
    assert done.stderr == b""
    return done.returncode, done.stdout.decode().rstrip("\n")


def export(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def test_check_has_about_ten_lines_and_is_shell_for_everybody() -> None:
    assert len(script().splitlines()) <= 11
    done = subprocess.run(
        ["shellcheck", "--shell=sh", "-"], input=script(), text=True, capture_output=True, check=False
    )
    assert done.stdout == ""


def test_ledger_as_it_was_written_passes_with_its_size_and_head() -> None:
    head = head_of(LINES)
    assert check(export(LINES)) == (0, f"{head.size} {head.hash}")
    assert check(export(LINES).removesuffix("\n")) == (0, f"{head.size} {head.hash}")
    assert check("") == (0, f"0 {'0' * 64}")


SPOILT = {
    "changed": [*LINES[:3], LINES[3].replace("web-1", "web-2"), *LINES[4:]],
    "missing": [*LINES[:4], *LINES[5:]],
    "first missing": LINES[1:],
    "misplaced": [*LINES[:2], LINES[3], LINES[2], *LINES[4:]],
    "twice": [*LINES[:3], LINES[2], *LINES[3:]],
    "blank": [*LINES[:3], "", *LINES[3:]],
    "nonsense": [*LINES[:3], "{", *LINES[4:]],
    "two in a line": [*LINES[:2], f"{LINES[2]} {LINES[3]}", *LINES[4:]],
    "a key twice": [*LINES[:2], LINES[2].replace('{"at":', '{"at":1,"at":', 1), *LINES[3:]],
    "not canonical": [*LINES[:2], LINES[2].replace('{"at":', '{ "at":', 1), *LINES[3:]],
    "last changed": [*LINES[:-1], LINES[-1].replace("host-7", "host-8")],
}


@pytest.mark.parametrize("how", SPOILT)
def test_first_wrong_entry_is_the_one_that_fleet_names(how: str) -> None:
    wrong = read_chain([(None, line) for line in SPOILT[how]]).wrong
    assert wrong is not None
    assert check(export(SPOILT[how])) == (1, f"entry {wrong.entry} is wrong")


def test_flipped_bytes_are_found_wherever_they_are() -> None:
    rng = random.Random(7)
    for _ in range(6):
        number = rng.randrange(1, len(LINES))
        line = bytearray(LINES[number - 1].encode())
        place = rng.randrange(len(line))
        line[place] ^= 1 << rng.randrange(7)
        if b"\n" in line or 0 in line:
            continue
        spoilt = [*LINES[: number - 1], line.decode("ascii"), *LINES[number:]]
        assert check(export(spoilt)) == (1, f"entry {number} is wrong")


def test_entry_with_another_hash_is_found_at_the_next_one() -> None:
    """The next one names another hash: the check says where that is, and `fleet` that it is the one before."""
    spoilt = [*LINES[:2], rehashed(LINES[2], by="bob"), *LINES[3:]]
    assert check(export(spoilt)) == (1, "entry 4 is wrong")


def test_ledger_that_was_cut_or_written_anew_has_another_head() -> None:
    head = head_of(LINES)
    assert check(export(LINES[:6])) == (0, f"6 {json.loads(LINES[5])['hash']}")
    assert check(export(rewritten(LINES[:6], 2, by="bob")))[1] != f"6 {json.loads(LINES[5])['hash']}"
    assert head.size == len(LINES)

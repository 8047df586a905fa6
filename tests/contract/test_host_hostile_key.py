"""What somebody does who has the key of a gate and means harm: what a call may bring, hold and leave behind."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.contract.host_functions import SHELLS, call, put

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("shell", SHELLS)
RUN = "20261120T042211-3fa9c1d2"
OPENED = """
make_folder() {{ mkdir -p {folder}/own && cd {folder}/own; }}
require_ours() {{ :; }}
( open_gate && echo admitted $admitted )
"""
LOCK = """
lock_opening() {{ exec 9>{folder}/lock && flock -n 9 || refuse broken "somebody has the lock"; }}
sleep() {{ :; }}; wait_for_others() {{ :; }}
"""


@pytest.mark.parametrize(
    ("key", "length", "admitted"), [("by", 8000, True), ("by", 8200, False), ("from", 5 << 20, False)]
)
def test_order_cannot_make_each_later_look_at_the_host_too_long(
    tmp_path: Path, shell: str, key: str, length: int, *, admitted: bool
) -> None:
    """It is kept as it came, and `facts` tells it: whoever asks reads 4 MiB, and nobody could deploy any more."""
    order = f"fleet-order v1\nrun {RUN}\n{key} {'a' * length}\nfleet-part v1\nhost one\nend\n"
    said = call(tmp_path, OPENED.format(folder=tmp_path), shell=shell, stdin=order)
    assert (said == "admitted unsigned\n") is admitted
    assert admitted or "a line of more than 8192 characters" in said


@pytest.mark.parametrize("key", ["who", "from", "intent"])
def test_history_has_the_beginning_of_what_was_said(tmp_path: Path, shell: str, key: str) -> None:
    put(tmp_path / "run/open", run=RUN, serial="1-a", **{f"{key}_": "a" * 9000})
    line = call(tmp_path, "tab='\t'; enter $open; print_entry", shell=shell)
    assert len(line) < 400
    assert "a" * 200 in line


def test_many_withdrawals_hide_nothing_that_was_done(tmp_path: Path, shell: str) -> None:
    entry = [f"3-{'a' * 8}", RUN, "ann", "desk", "1", "2", "old", "new", "committed", *["-"] * 5, "withdrawn", "-"]
    put(tmp_path / "record", history="\t".join(entry))
    script = """lock_opening() { :; }; sync() { :; }; find_systems() { running=x; }; serial=3-aaaaaaaa
      for number in $(seq 30); do find_serial; withdraw r$number "$serial" eve desk plan >/dev/null; done"""
    put(tmp_path / "record", serial=f"3-{'a' * 8} {RUN}")
    call(tmp_path, script, shell=shell)
    rows = [line.split("\t") for line in (tmp_path / "record/history").read_text().splitlines()]
    assert rows[0] == entry
    assert [row[1] for row in rows[1:]] == [f"r{number}" for number in range(10, 31)]


@pytest.mark.parametrize("verb", ["missing", "substitutable", "fetch", "texts"])
def test_what_a_call_brings_is_read_up_to_the_limit(tmp_path: Path, shell: str, verb: str) -> None:
    """A line without an end would fill the memory of the host, as root."""
    fakes = "most_input=10000; as_login() { cat; }; bringing() { cat; }; script() { :; }"
    path = f"/nix/store/{'a' * 32}-"
    sent = "".join(f"{path}{number}\n" for number in range(1000)) if verb != "texts" else "a\n" * 20_000
    said = call(tmp_path, f"{fakes}; verb={verb}; obey run {RUN}", shell=shell, stdin=sent)
    assert 0 < len(said) <= 10_000
    assert len(call(tmp_path, f"{fakes}; verb={verb}; obey run {RUN} | wc -c", shell=shell, stdin="x" * 100_000)) < 7


@pytest.mark.parametrize(
    ("script", "first"),
    [
        ("queue r1 60 ann desk -", "turn=no"),
        ('lock_opening; run=r1 new=x; decline() { refuse "$@"; }; require_turn', "refused=locked"),
        ('lock_opening; decline() { refuse "$@"; }; old=x; require_current', "refused=stale"),
    ],
)
def test_whoever_reads_no_answer_holds_no_lock(tmp_path: Path, shell: str, script: str, first: str) -> None:
    words = "\t".join(["w" * 190] * 3)
    (tmp_path / "run/queue").mkdir(parents=True)
    for number in range(1, 200):
        (tmp_path / "run/queue" / f"t{number}").write_text(f"{number} 1 9999 100\n{words}\n")
    (tmp_path / "record").mkdir()
    line = "\t".join(["1-a", *["x" * 100] * 15])
    (tmp_path / "record/history").write_text(f"{line}\n" * 100)
    fakes = f"clock() {{ now=100; }}; planned_serial=0-a planned_link=- profile={tmp_path}/none"
    places = f"queue={tmp_path}/run/queue record={tmp_path}/record open={tmp_path}/run/open all_open="
    call(tmp_path, ":", shell=shell)
    text = f". ./functions; {places}; {LOCK.format(folder=tmp_path)}\n{fakes}\n{script}"
    asked = subprocess.Popen([*shell.split(), "-c", text], cwd=tmp_path, stdout=subprocess.PIPE)
    assert asked.stdout is not None
    try:
        assert asked.stdout.readline().decode().strip() == first
        assert subprocess.run(["flock", "-w", "5", tmp_path / "lock", "true"], check=False).returncode == 0
        assert asked.poll() is None  # it is still about to answer
    finally:
        asked.kill()
        asked.wait()
        asked.stdout.close()


def test_so_many_tickets_and_no_more(tmp_path: Path, shell: str) -> None:
    fakes = "lock_opening() { :; }; wait_for_others() { :; }; clock() { now=100; }; most_tickets=3"
    script = f"""{fakes}
      for run in r1 r2 r3 r4; do ( queue $run 60 ann desk - | sed -n 's/^refused=/'$run' /p' ); done
      ( queue r3 60 ann desk - | grep -c '^waiting' )
      clock() {{ now=131; }}
      ( queue r4 60 ann desk - | grep '^turn' )"""
    assert call(tmp_path, script, shell=shell).splitlines() == ["r4 locked", "3", "turn=yes"]


def test_what_was_given_up_is_remembered_and_does_not_fill_the_memory(tmp_path: Path, shell: str) -> None:
    (tmp_path / "given-up").write_text("".join(f"r{number}\n" for number in range(2500)))
    script = f"""given_up={tmp_path}/given-up; lock_opening() {{ :; }}; forget_staged() {{ :; }}
      sync_pushes() {{ :; }}; unroot r9999; for run in r9999 r2499 r1; do is_given_up $run && echo $run; done
      is_word {"r" * 129} || echo long"""
    assert call(tmp_path, script, shell=shell).split() == ["r9999", "r2499", "long"]
    assert len((tmp_path / "given-up").read_text().split()) == 1000


def test_pushes_that_were_cut_off_are_told_up_to_a_limit(tmp_path: Path, shell: str) -> None:
    script = "find_earlier_marks() { earlier=$(seq 300); }; answer_roots | grep -c ^doubtful="
    assert call(tmp_path, script, shell=shell) == "200\n"

"""What callers of the host program name: runs and store paths become parts of paths that root writes and removes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fleet.host.answers import one, parse
from tests.contract.host_functions import SHELLS, call
from tests.contract.test_host_order import ORDER
from tests.unit.builders import NEW, RUN

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = f"/nix/store/{'p' * 32}-fleet-host"
WICKED = (
    "", "/../../x", "../x", "..", ".", "a/b", "a b", "a\nb", "*", "-rf /", "a*", "$(id)", "ü", f"{RUN}/../x", "a\t",
    "\x1b[2J",
)  # fmt: skip
NO_STORE_PATH = (
    "", "/", "/nix/store", "/nix/store/", "/nix/store/..", "/nix/store/.", "/nix/store/a/b", "/nix/store/a b", "/etc",
    "/nix/store//etc", "nix/store/a", "/nix/store/a\nb", "/nix/store/$(id)", "/../../x",
)  # fmt: skip


def files(folder: Path) -> set[str]:
    """Everything in the folder but what the tests themselves need."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name not in ("functions", "draft")}
    return found - {"run", "record", "roots"}


def quoted(words: tuple[str, ...]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def named(folder: Path, *words: str, shell: str = "sh") -> str:
    """What the program says of a call with these words, before it does anything."""
    return one(parse(call(folder, f"require_names {quoted(words)}; echo went=on", shell=shell)), "refused")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("verb", ["root", "unroot", "stage", "watch", "look", "word", "show"])
@pytest.mark.parametrize("run", WICKED)
def test_run_that_is_no_word_is_refused(tmp_path: Path, shell: str, verb: str, run: str) -> None:
    assert named(tmp_path, verb, run, NEW, PROGRAM, shell=shell) == "usage"


@pytest.mark.parametrize("path", NO_STORE_PATH)
def test_link_to_anything_but_a_store_path_is_refused(tmp_path: Path, path: str) -> None:
    assert named(tmp_path, "root", RUN, path, PROGRAM) == "usage"
    assert named(tmp_path, "root", RUN, NEW, path) == "usage"
    assert named(tmp_path, "stage", RUN, path) == "usage"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "words",
    [("root", RUN, NEW, PROGRAM), ("stage", RUN, NEW), ("watch", RUN, "switching", ""), ("facts",), ("history",)],
)
def test_names_that_fleet_gives_are_taken(tmp_path: Path, shell: str, words: tuple[str, ...]) -> None:
    assert named(tmp_path, *words, shell=shell) == ""


def test_program_looks_at_names_before_it_does_what_is_asked(tmp_path: Path) -> None:
    script = f"""
    id() {{ echo 0; }}
    recover() {{ echo recovered=yes; }}
    main 2 root '/../../x' {NEW} {PROGRAM}
    """
    lines = parse(call(tmp_path, script))
    assert (one(lines, "refused"), "recovered" in lines, files(tmp_path)) == ("usage", False, set())


@pytest.mark.parametrize(
    "run", [run for run in WICKED if run.isascii() and run.isprintable() and run.strip() == run and run]
)
def test_order_with_such_a_run_removes_nothing(tmp_path: Path, run: str) -> None:
    precious = tmp_path / "x-old"
    precious.mkdir()
    order = ORDER.replace(f"run {RUN}\n", f"run {run}\n")
    assert order != ORDER
    lines = parse(call(tmp_path, "order=$(cat)\nwrite_draft", stdin=order))
    assert one(lines, "refused") == "usage"
    assert precious.exists()
    assert files(tmp_path) == {"x-old"}


def test_order_that_is_none_keeps_the_root_of_the_run_that_is_open(tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / f"{RUN}-old").symlink_to(NEW)
    call(tmp_path, f"run={RUN}\norder=$(cat)\nwrite_draft", stdin="rubbish\n")
    assert os.path.lexists(tmp_path / "roots" / f"{RUN}-old")


@pytest.mark.parametrize("new", ["/", "/etc", "/nix/store/a/b"])
def test_order_for_something_else_than_a_store_path_is_refused(tmp_path: Path, new: str) -> None:
    limits = "put goal test; put activation 1; put confirm 1"
    script = f"mkdir -p $draft; cd $draft\nrun={RUN} new='{new}'\n{limits}\ncheck_order"
    assert one(parse(call(tmp_path, script)), "message").endswith("is no store path")


def test_roots_from_before_the_clock_was_set_are_not_those_of_a_dead_run(tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    roots.mkdir()
    ages = {"20261120T000000-aaaaaa-new": 10, "20260101T000000-bbbbbb-new": 1_700_000_000}
    for name, changed in ages.items():
        (roots / name).symlink_to(NEW)
        os.utime(roots / name, (changed, changed), follow_symlinks=False)
    call(tmp_path, f"lock_opening() {{ :; }}\nroot {RUN} {NEW} {PROGRAM}")
    assert sorted(path.name for path in roots.iterdir()) == [
        "20261120T000000-aaaaaa-new", f"{RUN}-new", f"{RUN}-program",
    ]  # fmt: skip


def test_of_a_switch_that_floods_its_journal_the_end_is_told(tmp_path: Path) -> None:
    flood = 'journalctl() { yes "$(printf %05000d 0)" | head -n 3000; echo "-- cursor: s=1"; }'
    script = f"{flood}\nenter() {{ false; }}\nshow() {{ echo state=switching; }}\nwatch {RUN} switching ''"
    lines = parse(said := call(tmp_path, script))
    assert len(said) < 2 << 20
    assert (len(lines["line"]), one(lines, "cursor"), one(lines, "state")) == (499, "s=1", "switching")


@pytest.mark.parametrize(("who", "login"), [("Ann", "Ann"), ("ann.b-c_1", "ann.b-c_1"), ("ann|root", ""), ("a\nb", "")])
def test_person_whose_ways_in_are_looked_at_is_the_one_who_came_by_sudo(tmp_path: Path, who: str, login: str) -> None:
    script = f"SUDO_USER='{who}'; ways_in() {{ :; }}; find_systems() {{ echo \"$login\"; exit; }}; snapshot"
    assert call(tmp_path, script) == f"{login}\n"

"""The rule of what stays, in the host program. Generations and roots are in folders of a test, Nix is a stand-in."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.contract.host_functions import SHELLS, call, put

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("shell", SHELLS)
RUN = "20261120T000000-abcdef"


def system(letter: str) -> str:
    return f"/nix/store/{letter * 32}-nixos-system"


def sorted_as(
    folder: Path, shell: str, letters: str, keep: int, *, running: str, boots: str = "", script: str = ""
) -> dict[int, str]:
    """Why each generation stays, by its number; empty for those that go. The profile is what runs."""
    profiles = folder / "profiles"
    profiles.mkdir(exist_ok=True)
    for number, letter in enumerate(letters, 1):
        (profiles / f"system-{number}-link").symlink_to(system(letter))
    (profiles / "system").touch()
    fakes = f"""profile={profiles}/system booted={folder}/booted
      find_systems() {{ running={system(running)} profiled={system(running)}; }}
      read_boot() {{ default={system(boots) if boots else ""}; }}"""
    said = call(folder, f'{fakes}\n{script}\nsort_generations {keep}; printf \'%s---\\n%s\' "$stay" "$go"', shell=shell)
    stay, _, go = said.partition("---\n")
    found = {int(line.split()[0]): line.split()[2] for line in stay.splitlines()}
    gone = [int(line.split()[0]) for line in go.splitlines()]
    assert list(found) == sorted(found, reverse=True)
    assert gone == sorted(gone, reverse=True)
    return {**found, **dict.fromkeys(gone, "")}


def root(folder: Path, name: str, letter: str) -> None:
    (folder / "roots").mkdir(exist_ok=True)
    (folder / "roots" / name).symlink_to(system(letter))


def test_everything_that_somebody_may_need_stays_however_old_it_is(tmp_path: Path, shell: str) -> None:
    (tmp_path / "booted").symlink_to(system("b"))
    for name, letter in (("live", "h"), ("previous", "a"), ("staged", "c"), (f"{RUN}-new", "e"), (f"{RUN}-old", "h")):
        root(tmp_path, name, letter)
    found = sorted_as(tmp_path, shell, "abcdefghij", 1, running="h")
    assert found == {
        10: "newest", 9: "", 8: "running,profile,pending,proven", 7: "", 6: "", 5: "pending", 4: "", 3: "staged",
        2: "booted", 1: "previous",
    }  # fmt: skip


def test_newest_are_those_with_the_highest_numbers(tmp_path: Path, shell: str) -> None:
    found = sorted_as(tmp_path, shell, "abcdefghijkl", 3, running="a")
    assert [number for number, why in found.items() if why == "newest"] == [12, 11, 10]
    assert found[1] == "running,profile"


def test_a_generation_stays_where_another_one_of_the_same_system_is_needed(tmp_path: Path, shell: str) -> None:
    root(tmp_path, "previous", "a")
    assert sorted_as(tmp_path, shell, "abac", 1, running="c") == {
        4: "newest,running,profile",
        3: "previous",
        2: "",
        1: "previous",
    }


@pytest.mark.parametrize("how", ["boot loader", "root"])
def test_no_generation_goes_where_writing_the_menu_would_change_what_boots(
    tmp_path: Path, shell: str, how: str
) -> None:
    if how == "root":
        root(tmp_path, "boots", "b")
    boots = "b" if how == "boot loader" else ""
    found = sorted_as(tmp_path, shell, "abc", 1, running="c", boots=boots)
    assert found == {3: "newest,running,profile", 2: "boots_next", 1: "held"}


def test_what_somebody_has_made_the_boot_default_stays_though_another_one_was_it_before(
    tmp_path: Path, shell: str
) -> None:
    root(tmp_path, "boots", "c")  # of a run that ended stuck
    found = sorted_as(tmp_path, shell, "abc", 1, running="c", boots="b")
    assert found == {3: "newest,running,profile", 2: "boots_next", 1: "held"}


def test_no_generation_goes_while_a_person_has_to_look(tmp_path: Path, shell: str) -> None:
    put(tmp_path / "run" / "last", run=RUN, state="stuck")
    assert set(sorted_as(tmp_path, shell, "abc", 1, running="c").values()) == {"newest,running,profile", "held"}
    put(tmp_path / "run" / "last", run=RUN, state="committed")
    found = call(tmp_path, 'profiled=x default=x profile=/; find_held; echo "held=$held"', shell=shell)
    assert found == "held=\n"


def pusher(folder: Path, shell: str) -> str:
    return call(folder, 'unsynced=record/unsynced; find_pusher; echo "$pusher"', shell=shell).strip()


def test_a_push_is_seen_by_the_mark_that_it_holds_or_by_what_it_is_about_to_bring(tmp_path: Path, shell: str) -> None:
    marks = tmp_path / "record" / "unsynced"
    marks.mkdir(parents=True)
    mark = marks / RUN
    mark.write_text("boot\n")
    assert pusher(tmp_path, shell) == ""  # nobody holds it: that push is over
    with mark.open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert pusher(tmp_path, shell) == RUN
    root(tmp_path, f"{RUN}-new", "z")  # not there yet
    assert pusher(tmp_path, shell) == RUN
    old = time.time() - 660
    os.utime(tmp_path / "roots" / f"{RUN}-new", (old, old), follow_symlinks=False)
    assert pusher(tmp_path, shell) == ""
    (tmp_path / "roots" / "profile-alice").mkdir()
    root(tmp_path, f"profile-alice/{RUN}-new", "y")  # so is what comes for a profile on this host
    assert pusher(tmp_path, shell) == RUN


NIX = ("nix-store", "nix-env")


def tells(folder: Path, script: str) -> str:
    """Lets Nix write to the file `asked` what it is asked, and do nothing. What is in front of the script of a test."""
    (folder / "bin").mkdir()
    for name in NIX:
        (folder / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{folder}/asked\n')
        (folder / "bin" / name).chmod(0o755)
    places = "menu_due=record/menu-due menu_log=log unsynced=record/unsynced collecting=run/collecting"
    return f"PATH={folder}/bin:$PATH {places}\nlock_opening() {{ :; }}; sync() {{ :; }}\n{script}"


@pytest.mark.parametrize("verb", ["garbage 1", "prune 1", "collect 1"])
@pytest.mark.parametrize("whose", [".", "profile-alice"])
def test_nothing_is_done_while_a_transaction_is_open_and_it_is_told_whose(
    tmp_path: Path, shell: str, verb: str, whose: str
) -> None:
    put(tmp_path / "run" / whose / "open", run=RUN, state="switched", who="ann", from_="desk", deadline="9")
    said = call(tmp_path, tells(tmp_path, verb), shell=shell).splitlines()
    assert said[:5] == ["refused=locked", f"open_run={RUN}", "open_state=switched", "open_who=ann", "open_from=desk"]
    assert not (tmp_path / "asked").exists()


def test_nothing_is_collected_while_the_menu_is_due(tmp_path: Path, shell: str) -> None:
    said = call(tmp_path, tells(tmp_path, ": >$menu_due; collect 5"), shell=shell)
    assert said.startswith("refused=broken\nmessage=the boot menu still names systems")
    assert not (tmp_path / "asked").exists()


def test_no_generation_goes_where_it_cannot_be_noted_that_the_menu_is_due(tmp_path: Path, shell: str) -> None:
    """So a full disk can be collected all the same."""
    sorts = "sort_generations() { held='' stay='' go=\"9 x${newline}\"; }"
    said = call(tmp_path, tells(tmp_path, f"{sorts}\nmenu_due=/proc/none; prune 5"), shell=shell)
    assert (said, (tmp_path / "asked").exists()) == ("", False)


def test_only_generations_that_somebody_has_agreed_to_go(tmp_path: Path, shell: str) -> None:
    sorts = "sort_generations() { held='' stay='' go=\"9 x${newline}8 x${newline}3 x${newline}\"; }"
    script = f"write_menu() {{ [ -e $menu_due ] && echo menu; }}; {sorts}\nprofile=p; prune 5 3,8,12"
    said = call(tmp_path, tells(tmp_path, script), shell=shell)
    assert said.splitlines() == ["menu", "deleted=8", "deleted=3"]
    assert (tmp_path / "asked").read_text() == "nix-env --profile p --delete-generations 8 3\n"

"""What is removed, when somebody asks for it, and what stays."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from fleet.model import HostName, Outcome, RunId
from fleet.state import KEEP, Delivery, Tidied
from fleet.state.folders import Folders
from tests.unit.builders import NEW
from tests.unit.state_builders import (
    RUN,
    SWITCH,
    ended,
    finished,
    folder_of_0_1_0,
    folder_of_today,
    in_files,
    open_state,
    python,
    recorded,
    run_id,
    said,
    started,
    wrapped,
)
from tests.unit.test_state_folders import HOLD, HOLD_AS_0_1_0

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.state import State

pytestmark = pytest.mark.usefixtures("kept")
OVER = (started(), finished())


def runs_that_ended(state: State, *numbers: int) -> None:
    for number in numbers:
        folder_of_today(state, *wrapped(*OVER, run=run_id(number)))
        recorded(state, *OVER, run=run_id(number))


def builds(state: State, *numbers: int) -> None:
    for number in numbers:
        with state.hold(run_id(number)):
            pass


def folders(state: State) -> list[str]:
    return sorted(path.name for path in state.folder(RUN).parent.iterdir())


def test_oldest_runs_go_with_their_folders_and_events_and_the_newest_stay(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    runs_that_ended(state, *range(KEEP + 3))
    assert state.tidy() == Tidied(runs=(run_id(2), run_id(1), run_id(0)))
    kept = [run_id(number) for number in range(3, KEEP + 3)]
    assert folders(state) == kept
    assert sorted(run.id for run in state.runs()) == kept
    assert state.events(run_id(2)) == []
    assert len(state.events(run_id(3))) == 2
    assert state.tidy() == Tidied()


def test_run_stays_while_something_of_it_waits_for_a_host_that_is_away(tmp_path: Path) -> None:
    """A host with a gate takes its part of the run's plan, and no other: without the run nobody would know which."""
    state = open_state(tmp_path)
    runs_that_ended(state, *range(KEEP + 3))
    host = HostName("laptop")
    delivery = Delivery(
        host=host, closure=NEW, derivation=None, run=run_id(1), by="ann", intent="", made=0.0,
        expires=time.time() + 60, first=0.0, missed=1,
    )  # fmt: skip
    state.want([delivery])
    assert state.tidy(dry_run=True).runs == state.tidy().runs == (run_id(2), run_id(0))
    assert state.run(run_id(1)) is not None
    state.no_longer_want([host], before=run_id(KEEP))
    assert state.tidy().runs == (run_id(1),)


def test_creating_a_run_removes_nothing(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    runs_that_ended(state, *range(KEEP + 3))
    assert len(state.runs()) == len(folders(state)) == KEEP + 3


def test_builds_do_not_push_out_what_was_deployed(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    runs_that_ended(state, *range(KEEP))
    builds(state, *range(100, 100 + KEEP + 2))
    assert state.tidy() == Tidied(builds=(run_id(101), run_id(100)))
    assert len(state.runs()) == KEEP
    assert len(folders(state)) == 2 * KEEP


@in_files  # another one does not read in what 0.1.0 has left
def test_run_that_is_open_outlives_any_number_of_runs(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started(), SWITCH, run=run_id(0))
    folder_of_0_1_0(tmp_path, run_id(1), started(), SWITCH)
    runs_that_ended(state, *range(2, KEEP + 4))
    assert state.tidy() == Tidied(runs=(run_id(3), run_id(2)))
    assert {run.id for run in state.runs() if run.is_open} == {run_id(0), run_id(1)}
    recorded(state, started(verb="resume"), ended(Outcome.KEPT), finished(), run=run_id(0), after=2)
    assert state.tidy() == Tidied(runs=(run_id(0),))


@pytest.mark.parametrize("outcome", [Outcome.ROLLED_BACK, Outcome.NEEDS_HUMAN])
def test_what_was_gathered_about_a_host_that_went_back_outlives_runs_that_did_nothing(
    tmp_path: Path, outcome: Outcome
) -> None:
    """As many of those stay as of all others, so that it has an end, too."""
    state = open_state(tmp_path)
    for number in range(4):
        recorded(state, started(), ended(outcome), finished(), run=run_id(number))
    runs_that_ended(state, *range(4, 10))
    assert state.tidy(keep=3) == Tidied(runs=tuple(run_id(number) for number in (6, 5, 4, 0)))
    assert state.tidy(keep=3) == Tidied()


def test_run_that_is_under_way_keeps_its_folder_and_with_it_the_roots_of_what_it_built(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    runs_that_ended(state, *range(KEEP + 2))
    folder_of_0_1_0(tmp_path, RunId("20251231T000000-000000"), *OVER)
    builds(state, *range(100, 100 + KEEP + 2))
    with (
        state.hold(run_id(0)) as ours,
        python(HOLD, tmp_path, run_id(1)) as other,
        python(HOLD_AS_0_1_0, state.folder(RunId("20251231T000000-000000"))) as old,
        state.hold(run_id(100)),
    ):
        assert said(other) == said(old) == "held"
        assert state.tidy() == Tidied(builds=(run_id(101),))
        assert ours.is_dir()
    assert state.tidy() == Tidied(runs=(run_id(1), run_id(0), RunId("20251231T000000-000000")), builds=(run_id(100),))


def test_run_that_was_taken_up_meanwhile_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = open_state(tmp_path)
    runs_that_ended(state, *range(KEEP + 2))
    owned = Folders.owned

    def late(folders: Folders, run: RunId) -> object:
        if run == run_id(1):
            recorded(state, started(verb="resume"), SWITCH, run=run, after=2)
        return owned(folders, run)

    monkeypatch.setattr(Folders, "owned", late)
    assert state.tidy() == Tidied(runs=(run_id(0),))
    assert state.folder(run_id(1)).is_dir()


def test_run_that_lost_its_folder_goes_too(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    for number in range(KEEP + 1):
        recorded(state, *OVER, run=run_id(number))
    assert state.tidy() == Tidied(runs=(run_id(0),))
    assert len(state.runs()) == KEEP


def test_removing_that_was_killed_by_halves_is_done_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = open_state(tmp_path)
    runs_that_ended(state, *range(KEEP + 1))
    (state.folder(run_id(0)) / "events.jsonl").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        assert state.tidy() == Tidied()
    assert state.tidy() == Tidied(runs=(run_id(0),))


def test_many_that_tidy_at_once_beside_runs_that_begin_hurt_nobody(tmp_path: Path) -> None:
    runs_that_ended(open_state(tmp_path), *range(KEEP + 10))
    removed, errors = list[RunId](), list[BaseException]()

    def work(number: int) -> None:
        state = open_state(tmp_path)
        try:
            with state.hold(run_id(1000 + number)):
                recorded(state, *OVER, run=run_id(1000 + number))
                removed.extend(state.tidy().runs)
        except BaseException as error:  # a thread's own errors are seen by nobody
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(removed) == {run_id(number) for number in range(14)}
    assert sorted(run.id for run in open_state(tmp_path).runs()) == [
        *(run_id(number) for number in range(14, KEEP + 10)),
        *(run_id(1000 + number) for number in range(4)),
    ]


def test_plans_go_when_they_have_expired_and_no_run_applies_them(tmp_path: Path) -> None:
    state, now = open_state(tmp_path), time.time()
    for digest, expires in (("1a", now - 1), ("2b", now + 3600), ("3c", now - 1)):
        state.keep_plan(digest, "text", expires=expires)
    recorded(state, started(), SWITCH, plan="3c")
    assert state.tidy() == Tidied(plans=("1a",))
    assert {plan.digest for plan in state.plans()} == {"2b", "3c"}

"""What is recorded of runs and plans, and read back."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import ConfigError
from fleet.events import KINDS, Envelope, Event, OutputLine, PushFinished, decode, event_name
from fleet.model import HostName, Outcome, Phase, RunId
from fleet.state import Asked, BaselineRecord, Delivery, PlanRecord, RunRecord, fold_all
from fleet.state.archive import ENOUGH
from fleet.state.records import FOLDED
from tests.unit.event_samples import sample
from tests.unit.state_builders import (
    DB,
    PUSH,
    RUN,
    SWITCH,
    WEB,
    ended,
    finished,
    in_files,
    open_state,
    record,
    recorded,
    result,
    run_id,
    started,
    wrapped,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("kept")
LINE = OutputLine(host=WEB, phase=Phase.BUILD, text="line")


def test_every_kind_of_event_comes_back_in_its_envelope_and_in_order(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    told = [sample(kind) for name, kind in KINDS.items() if name != "push_progressed"]
    recorded(state, started(), *told)
    assert state.events(RUN) == wrapped(started(), *told)


def test_run_that_was_recorded_is_what_its_events_fold_to(tmp_path: Path) -> None:
    state, told = open_state(tmp_path), (started(WEB, DB), PUSH, LINE, SWITCH, ended(Outcome.KEPT), LINE)
    recorded(state, *told, plan="1f3c")
    assert state.run(RUN) == fold_all(RunRecord(id=RUN, plan="1f3c"), wrapped(*told))
    assert state.runs() == [state.run(RUN)]


def test_another_state_of_the_same_folder_reads_the_same(tmp_path: Path) -> None:
    recorded(open_state(tmp_path), started(), SWITCH)
    assert open_state(tmp_path).events(RUN) == wrapped(started(), SWITCH)


def test_runs_come_newest_first(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    for number in (2, 3, 1):
        recorded(state, started(run=run_id(number)), run=run_id(number))
    assert [run.id for run in state.runs()] == [run_id(3), run_id(2), run_id(1)]


def test_run_that_is_resumed_goes_on_where_it_was(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started(), SWITCH, LINE, plan="1f3c")
    known = state.run(RUN)
    assert known is not None
    assert (known.is_open, known.last_seq) == (True, 3)
    recorded(state, started(verb="resume"), ended(Outcome.KEPT), finished(result(Outcome.KEPT)), after=known.last_seq)
    again = state.run(RUN)
    assert again is not None
    assert (again.verb, again.plan, again.is_open, again.exit_code, again.last_seq) == ("deploy", "1f3c", False, 0, 6)
    assert [envelope.seq for envelope in state.events(RUN)] == [1, 2, 3, 4, 5, 6]


def test_events_can_be_followed(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started(), PUSH, SWITCH)
    assert state.events(RUN, after=1) == wrapped(started(), PUSH, SWITCH)[1:]
    assert state.events(RUN, after=3) == []


def test_what_is_not_there_is_nothing_and_makes_nothing(tmp_path: Path) -> None:
    state = open_state(tmp_path / "home")
    assert [*state.runs(), *state.runs_in_folders(), *state.events(RUN), *state.plans()] == []
    assert (state.run(RUN), state.speeds(), state.is_under_way(RUN)) == (None, {}, False)
    assert state.tidy().runs == ()
    with pytest.raises(ConfigError):
        state.plan("1f3c")
    assert not (tmp_path / "home").exists()


@in_files
def test_state_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)  # as fleet 0.1.0 made it
    recorded(open_state(tmp_path / "home"), started())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").iterdir()}
    assert modes.pop("state.db-journal", 0o600) == 0o600
    assert modes == {"state.db": 0o600}
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_reading_many_runs_does_not_decode_what_they_only_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, decoded = open_state(tmp_path), set[type[Event]]()
    recorded(state, started(), *[sample(kind) for kind in KINDS.values()])

    def note(source: str, **place: Any) -> Envelope:
        envelope = decode(source, **place)
        decoded.add(type(envelope.event))
        return envelope

    monkeypatch.setattr("fleet.state.queries.decode", note)
    assert len(state.runs()) == 1
    assert decoded == set(FOLDED)


def test_event_that_a_newer_fleet_has_written_costs_only_itself(tmp_path: Path) -> None:
    state = open_state(tmp_path)

    class HostPainted(OutputLine):
        pass

    recorded(state, started(), HostPainted(host=WEB, phase=Phase.BUILD, text="red"), SWITCH)
    assert event_name(HostPainted) not in KINDS
    assert [envelope.seq for envelope in state.events(RUN)] == [1, 3]


def pushed(host: str, size: int, seconds: float) -> PushFinished:
    return PushFinished(host=HostName(host), paths=1, nar_bytes=size, wire_bytes=size, seconds=seconds)


def test_speed_is_that_of_the_newest_push_that_was_big_enough(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    pushes = [
        (pushed("web", 4 * ENOUGH, 2.0), pushed("db", ENOUGH, 4.0)),
        (pushed("web", 2 * ENOUGH, 2.0), pushed("web", 8 * ENOUGH, 2.0)),
        (pushed("web", ENOUGH - 1, 2.0), pushed("db", ENOUGH, 0.0)),
    ]
    for number, events in enumerate(pushes, 1):
        recorded(state, started(run=run_id(number)), *events, run=run_id(number))
    assert state.speeds() == {"web": 4 * ENOUGH, "db": ENOUGH / 4}


def test_plan_comes_back_by_its_digest_and_by_the_beginning_of_it(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.keep_plan("1f3c00", "fleet-plan v1\n", expires=2e9)
    state.keep_plan("1f4400", "another\n", expires=1e9)
    assert [state.plan(digest) for digest in ("1f3c00", "1f3", "1f44")] == ["fleet-plan v1\n"] * 2 + ["another\n"]


@pytest.mark.parametrize(
    ("digest", "why"), [("1f", "2 plans"), ("", "no plan"), ("2", "no plan"), ("1F3", "no plan"), ("%", "no plan")]
)
def test_digest_of_no_plan_or_of_many_is_refused(tmp_path: Path, digest: str, why: str) -> None:
    state = open_state(tmp_path)
    for known in ("1f3c", "1f44"):
        state.keep_plan(known, "text", expires=2e9)
    with pytest.raises(ConfigError, match=why):
        state.plan(digest)


def test_digest_that_another_one_begins_with_is_its_own(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.keep_plan("1f", "short", expires=2e9)
    state.keep_plan("1f3c", "long", expires=2e9)
    assert state.plan("1f") == "short"


def test_plans_are_listed_with_their_times_and_one_that_is_kept_stays_as_it_is(tmp_path: Path) -> None:
    state, now = open_state(tmp_path), time.time()
    state.keep_plan("1f3c", "text", expires=2e9)
    (kept,) = state.plans()
    assert kept == PlanRecord("1f3c", made=kept.made, expires=2e9)
    assert now - 1 <= kept.made <= time.time()
    state.keep_plan("1f3c", "other text", expires=3e9)
    assert (state.plans(), state.plan("1f3c")) == ([kept], "text")


def test_several_fleets_in_several_threads_with_loops_of_their_own(tmp_path: Path) -> None:
    def deploy(fleet: str, number: int) -> None:
        run = run_id(number)
        lines = [OutputLine(host=None, phase=Phase.BUILD, text=f"{fleet} {number}")] * 50
        asyncio.run(record(open_state(tmp_path / fleet), started(run=run), *lines, run=run))

    threads = [
        threading.Thread(target=deploy, args=(fleet, number)) for fleet in ("home", "work") for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fleet in ("home", "work"):
        state = open_state(tmp_path / fleet)
        told = {run.id: [getattr(one.event, "text", "") for one in state.events(run.id)] for run in state.runs()}
        assert told == {run_id(number): ["", *[f"{fleet} {number}"] * 50] for number in range(4)}


def test_one_state_may_be_used_by_several_threads_at_once(tmp_path: Path) -> None:
    state, seen = open_state(tmp_path), dict[int, list[RunId]]()

    def deploy(number: int) -> None:
        recorded(state, started(run=run_id(number)), run=run_id(number))
        seen[number] = [run.id for run in state.runs()]

    threads = [threading.Thread(target=deploy, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(run_id(number) in seen[number] for number in range(6))
    assert len(state.runs()) == 6


def test_what_is_asked_of_a_rollout_is_seen_by_every_process_until_it_is_taken_back(tmp_path: Path) -> None:
    run = RunId("20261120T042211-3fa9c1d2")
    mine, theirs = open_state(tmp_path), open_state(tmp_path)
    assert theirs.asked(run) is None
    mine.ask(run, Asked.PAUSE, by="ann")
    mine.ask(run, Asked.ABORT, by="bob")
    found = theirs.asked(run)
    assert found is not None
    assert (found.asked, found.by) == (Asked.ABORT, "bob")
    assert theirs.asked(RunId("20261120T042211-000000")) is None
    theirs.ask(run, None, by="bob")
    assert mine.asked(run) is None


def delivery(host: HostName, run: str, **changes: Any) -> Delivery:
    known: dict[str, Any] = {
        "closure": "/nix/store/x-1", "derivation": None, "by": "ann", "intent": "", "made": 100.0,
        "expires": time.time() + 100, "first": 100.0, "missed": 1,
    }  # fmt: skip
    return Delivery(host=host, run=RunId(run), **(known | changes))


def test_what_waits_for_a_host_is_the_newest_and_counts_what_it_has_missed(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    assert state.deliveries() == []
    state.want([delivery(WEB, "r1"), delivery(DB, "r1")])
    state.want([delivery(WEB, "r2", closure="/nix/store/x-2", made=200.0, first=200.0)])
    found = {one.host: one for one in state.deliveries()}
    assert found[DB] == delivery(DB, "r1", expires=found[DB].expires)
    assert (found[WEB].closure, found[WEB].first, found[WEB].missed) == ("/nix/store/x-2", 100.0, 2)
    state.no_longer_want([WEB], before=RunId("r1"))
    assert [one.host for one in state.deliveries()] == [DB, WEB]
    state.no_longer_want([WEB], before=RunId("r3"))
    assert [one.host for one in state.deliveries()] == [DB]


def test_what_has_waited_for_too_long_is_forgotten_with_its_root(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.want([delivery(WEB, "r1", expires=150.0), delivery(DB, "r1")])
    root = state.delivery_root(WEB)
    root.parent.mkdir(parents=True)
    root.symlink_to("/nix/store/x-1")
    assert [one.host for one in state.deliveries()] == [DB]
    state.tidy()
    assert not root.is_symlink()
    state.want([delivery(WEB, "r2", made=200.0, first=200.0)])
    assert [(one.host, one.first, one.missed) for one in state.deliveries()] == [(DB, 100.0, 1), (WEB, 200.0, 1)]


def test_root_that_cannot_be_removed_keeps_nothing_else_from_being_forgotten(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.want([delivery(WEB, "r1"), delivery(DB, "r1", expires=150.0)])
    for host in (WEB, DB):
        state.delivery_root(host).mkdir(parents=True)
    state.no_longer_want([WEB], before=RunId("r1"))
    assert state.tidy().deliveries == (DB,)
    assert state.deliveries() == []


def test_root_that_was_left_over_goes_later(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.want([delivery(DB, "r1")])
    for host in (WEB, DB):
        root = state.delivery_root(host)
        root.parent.mkdir(parents=True, exist_ok=True)
        root.symlink_to("/nix/store/x-1")
        os.utime(root, (1, 1), follow_symlinks=False)
    state.tidy()
    assert [root.name for root in state.delivery_root(WEB).parent.iterdir()] == [DB]


def test_what_was_accepted_of_a_host_is_the_newest_and_its_own(tmp_path: Path) -> None:
    state, other = open_state(tmp_path), open_state(tmp_path)
    assert (state.has_baseline(WEB), state.baseline(WEB), list(tmp_path.iterdir())) == (False, None, [])
    for at in (1.0, 2.0):
        state.keep_baseline(WEB, BaselineRecord(at=at, by="ann\udcff", body='{"/etc/a\udcff": ""}'))
    assert other.has_baseline(WEB)
    assert other.baseline(WEB) == BaselineRecord(at=2.0, by="ann?", body='{"/etc/a?": ""}')
    assert (other.has_baseline(DB), other.baseline(DB)) == (False, None)

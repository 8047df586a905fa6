"""A run that several processes record: each event has its own number, each host one result, whoever comes first."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.events import HostFinished, PushProgressed
from fleet.ledger import Kind
from fleet.ledger.chain import read_chain
from fleet.model import HostName, Outcome
from fleet.state import Asked
from tests.unit.ledgers import entry
from tests.unit.state_builders import (
    DB,
    PUSH,
    RUN,
    SWITCH,
    WEB,
    open_state,
    python,
    recorded,
    result,
    said,
    started,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("kept")


def test_events_are_numbered_after_all_that_anybody_has_told(tmp_path: Path) -> None:
    one, two = open_state(tmp_path), open_state(tmp_path)
    recorded(one, started(WEB, DB))
    with two.joint_record(RUN, by="worker-2") as record:
        (told,) = record.tell(PUSH, PushProgressed(host=WEB, sent=1, total=2))
    with one.joint_record(RUN, by="worker-1") as record:
        record.tell(SWITCH)
    assert (told.seq, told.by, told.event) == (2, "worker-2", PUSH)
    assert [(one.seq, one.by) for one in one.events(RUN)] == [(1, "ann"), (2, "worker-2"), (3, "worker-1")]


def test_result_is_recorded_where_there_is_none(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started(WEB, DB))
    with state.joint_record(RUN, by="w") as record:
        assert not record.has_ended(WEB)
        assert record.finish(result(Outcome.KEPT)) is not None
        assert record.has_ended(WEB)
        assert record.finish(result(Outcome.FAILED, "push")) is None
        assert not record.has_ended(DB)
    with state.joint_record(RUN, by="w") as record:
        assert record.finish(result(Outcome.FAILED, "push")) is None
    run = state.run(RUN)
    assert run is not None
    assert (run.hosts[WEB].result, run.hosts[DB].result, run.last_seq) == (result(Outcome.KEPT), None, 2)


def test_error_takes_back_all_that_was_told(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started())

    def fail() -> None:
        with state.joint_record(RUN, by="w") as record:
            record.tell(PUSH)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(state.events(RUN)) == 1


def test_run_that_nobody_has_begun_is_not_joined(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is recorded"), open_state(tmp_path).joint_record(RUN, by="w"):
        pass


def test_what_is_asked_of_the_rollout_is_seen(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started())
    state.ask(RUN, Asked.PAUSE, by="ann")
    with state.joint_record(RUN, by="w") as record:
        assert record.request is not None
        assert record.request.asked is Asked.PAUSE


WORK = """
import sys; from pathlib import Path
from fleet.model import HostName, Outcome, Verb
from fleet.state import Entered
from tests.unit.state_builders import RUN, open_state, result
state, hosts = open_state(Path(sys.argv[1])), [HostName(f"h{number}") for number in range(40)]
entered = Entered("desk", Verb.DEPLOY)
entered.begin(hosts)
print("ready", flush=True)
sys.stdin.readline()
won = 0
for host in hosts:
    with state.joint_record(RUN, by=sys.argv[2], entered=entered) as record:
        won += record.finish(result(Outcome.KEPT, host=host)) is not None
print(won, flush=True)
"""


def test_each_host_has_one_result_however_many_have_one_for_it(tmp_path: Path) -> None:
    state, hosts = open_state(tmp_path), [HostName(f"h{number}") for number in range(40)]
    recorded(state, started(*hosts))
    state.ledger.enter(entry(Kind.BEGIN, run=RUN, hosts=hosts))
    with ExitStack() as stack:
        others = [stack.enter_context(python(WORK, tmp_path, f"worker-{number}")) for number in range(3)]
        assert [said(other) for other in others] == ["ready"] * 3
        for other in others:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
        assert sum(int(said(other)) for other in others) == 40
    events = [envelope.event for envelope in state.events(RUN)]
    assert sorted(event.host for event in events if isinstance(event, HostFinished)) == sorted(hosts)
    assert [envelope.seq for envelope in state.events(RUN)] == list(range(1, 42))
    chain = read_chain(state.ledger.read().lines)
    assert (len(chain.hashes), chain.wrong) == (42, None)
    assert chain.begun[RUN].hosts == ()

"""Writing what a run tells: together, in order, without making the run wait, and never more silently than it must."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fleet.errors import StateError
from fleet.events import Envelope, OutputLine, PushProgressed, RunInterrupted
from fleet.model import Phase
from fleet.state.recorder import GroupCommit
from tests.unit.state_builders import PUSH, SWITCH, WEB, started, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL = StateError("this machine cannot record what it does: No space left on device", hint="free some space")
LINE = OutputLine(host=None, phase=Phase.BUILD, text="line")


class Disk:
    """What was written, each time. It may be slow, full or broken."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.begins: list[bool] = []
        self.error: Exception | None = None
        self.is_busy, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

        self.has_failed, self.has_written = threading.Event(), threading.Event()

    def __call__(self, envelopes: Sequence[Envelope], *, begins: bool) -> None:
        self.is_busy.set()
        self.may_go_on.wait()
        if self.error is not None:
            self.has_failed.set()
            raise self.error
        self.writes.append([envelope.seq for envelope in envelopes])
        self.begins.append(begins)
        self.has_written.set()


async def test_what_has_come_together_is_written_at_once_and_in_order() -> None:
    disk = Disk()
    disk.may_go_on.clear()
    with GroupCommit(disk) as recorder:
        first, *rest = wrapped(started(), *[LINE] * 99)
        recorder.record(first)
        disk.is_busy.wait()
        for envelope in rest:
            recorder.record(envelope)
        disk.may_go_on.set()
        await recorder.flush()
        assert disk.writes == [[1], list(range(2, 101))]
        assert disk.begins == [True, False]


async def test_telling_does_not_wait_for_the_disk_and_being_secured_does() -> None:
    disk = Disk()
    disk.may_go_on.clear()
    with GroupCommit(disk) as recorder:
        recorder.record(*wrapped(started()))
        flush = asyncio.create_task(recorder.flush())
        await asyncio.to_thread(disk.is_busy.wait)
        assert (disk.writes, flush.done()) == ([], False)
        disk.may_go_on.set()
        await flush
        assert disk.writes == [[1]]


async def test_nothing_told_is_secured() -> None:
    with GroupCommit(Disk()) as recorder:
        await recorder.flush()
        assert recorder.lost is None


def test_end_waits_for_what_was_told() -> None:
    disk = Disk()
    with GroupCommit(disk) as recorder:
        for envelope in wrapped(started(), SWITCH):
            recorder.record(envelope)
    assert [seq for write in disk.writes for seq in write] == [1, 2]
    recorder.close()


async def test_progress_of_a_push_is_not_kept() -> None:
    disk = Disk()
    with GroupCommit(disk) as recorder:
        for envelope in wrapped(started(), PushProgressed(host=WEB, sent=1, total=2), SWITCH):
            recorder.record(envelope)
    assert [seq for write in disk.writes for seq in write] == [1, 3]


async def test_what_cannot_be_written_is_said_where_it_matters_and_afterwards() -> None:
    disk = Disk()
    with GroupCommit(disk) as recorder:
        recorder.record(*wrapped(started()))
        await recorder.flush()
        assert recorder.lost is None
        disk.error = FULL
        recorder.record(*wrapped(PUSH, after=1))
        with pytest.raises(StateError) as caught:
            await recorder.flush()
    assert (caught.value.message, caught.value.hint) == (FULL.message, FULL.hint)
    assert recorder.lost is FULL


async def test_what_could_not_be_written_is_written_before_what_comes_later() -> None:
    disk = Disk()
    with GroupCommit(disk) as recorder:
        recorder.record(*wrapped(started()))
        await recorder.flush()
        disk.error = FULL
        recorder.record(*wrapped(PUSH, after=1))
        with pytest.raises(StateError):
            await recorder.flush()
        disk.error = None
        recorder.record(*wrapped(SWITCH, after=2))
        await recorder.flush()
    assert [seq for write in disk.writes for seq in write] == [1, 2, 3]
    assert recorder.lost is None


async def test_what_could_not_be_written_is_tried_again_though_nothing_else_is_told() -> None:
    disk = Disk()
    with GroupCommit(disk) as recorder:
        disk.error = FULL
        recorder.record(*wrapped(started()))
        with pytest.raises(StateError):
            await recorder.flush()
        disk.error = None
        await asyncio.to_thread(disk.has_written.wait)
    assert (disk.writes, disk.begins, recorder.lost) == ([[1]], [True], None)


async def test_first_event_begins_the_record_whenever_it_is_written() -> None:
    disk = Disk()
    disk.error = FULL
    with GroupCommit(disk) as recorder:
        for envelope in wrapped(started(), PUSH):
            recorder.record(envelope)
            with pytest.raises(StateError):
                await recorder.flush()
        disk.error = None
        recorder.record(*wrapped(SWITCH, after=2))
        await recorder.flush()
        recorder.record(*wrapped(LINE, after=3))
    assert [seq for write in disk.writes for seq in write] == [1, 2, 3, 4]
    assert disk.begins == [True] + [False] * (len(disk.writes) - 1)


async def test_database_that_is_away_is_waited_for_and_not_for_ever() -> None:
    disk, told = Disk(), list[bool]()
    disk.error = FULL
    with GroupCommit(disk, patience=lambda _: 2.5, on_behind=told.append) as recorder:
        began = time.monotonic()
        recorder.record(*wrapped(started()))
        with pytest.raises(StateError):
            await recorder.flush()
        assert time.monotonic() - began >= 2.5
        with pytest.raises(StateError):  # once is enough
            await asyncio.wait_for(recorder.flush(), timeout=1)
        disk.error = None
        recorder.record(*wrapped(PUSH, after=1))
        await recorder.flush()
        assert told == [True, False]
        disk.error = FULL
        disk.has_failed.clear()
        recorder.record(*wrapped(SWITCH, after=2))
        flush = asyncio.create_task(recorder.flush())
        await asyncio.to_thread(disk.has_failed.wait)
        disk.error = None
        await flush
    assert ([seq for write in disk.writes for seq in write], told) == ([1, 2, 3], [True, False] * 2)


async def test_what_is_not_written_at_the_end_stays_behind_and_is_said() -> None:
    disk, told = Disk(), list[bool]()
    disk.error = FULL
    with GroupCommit(disk, patience=lambda _: 60.0, on_behind=told.append) as recorder:
        recorder.record(*wrapped(started()))
        flush = asyncio.create_task(recorder.flush())
        await asyncio.to_thread(disk.has_failed.wait)
        await asyncio.to_thread(recorder.close)  # whoever ends does not wait
        with pytest.raises(StateError):
            await flush
    assert (told, recorder.lost) == ([True], FULL)


async def test_bug_in_writing_is_said_and_ends_nothing() -> None:
    disk = Disk()
    with GroupCommit(disk) as recorder:
        recorder.record(*wrapped(started()))
        await recorder.flush()
        disk.error = RuntimeError("oops")
        recorder.record(*wrapped(PUSH, after=1))
        with pytest.raises(StateError, match=r"oops.*bug in fleet"):
            await recorder.flush()
        disk.error = None
        recorder.record(*wrapped(SWITCH, after=2))
    assert disk.writes == [[1], [3]]


async def test_what_is_told_after_the_end_is_lost_and_said_to_be() -> None:
    disk = Disk()
    with GroupCommit(disk) as recorder:
        recorder.record(*wrapped(started()))
    await recorder.flush()
    recorder.record(*wrapped(RunInterrupted(), after=1))
    with pytest.raises(StateError, match="after the end"):
        await recorder.flush()
    assert disk.writes == [[1]]


async def test_waiting_may_be_cancelled() -> None:
    disk, errors = Disk(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    disk.may_go_on.clear()
    with GroupCommit(disk) as recorder:
        recorder.record(*wrapped(started()))
        flush = asyncio.create_task(recorder.flush())
        await asyncio.to_thread(disk.is_busy.wait)
        flush.cancel()
        disk.may_go_on.set()
        await recorder.flush()
    assert (disk.writes, recorder.lost, errors) == ([[1]], None, [])


def test_loop_that_is_gone_by_then_hurts_nobody() -> None:
    disk = Disk()
    disk.may_go_on.clear()
    with GroupCommit(disk) as recorder:
        recorder.record(*wrapped(started()))

        async def leave() -> None:
            asyncio.create_task(recorder.flush())  # noqa: RUF006 - it is cancelled with its loop
            await asyncio.to_thread(disk.is_busy.wait)

        asyncio.run(leave())
        disk.may_go_on.set()
        asyncio.run(recorder.flush())
    assert (disk.writes, recorder.lost) == ([[1]], None)


def test_many_threads_with_loops_of_their_own_may_wait_for_one_recorder() -> None:
    disk = Disk()
    with GroupCommit(disk) as recorder:
        recorder.record(*wrapped(started()))

        def use(number: int) -> None:
            recorder.record(*wrapped(LINE, after=number))
            asyncio.run(recorder.flush())

        threads = [threading.Thread(target=use, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seq for write in disk.writes for seq in write) == list(range(1, 10))

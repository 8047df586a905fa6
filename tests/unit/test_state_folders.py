"""Who is at work on a run: said by a lock that ends with them, among processes of any version and within one."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from fleet.errors import ConfigError, StateError
from fleet.state import locks
from tests.unit.state_builders import RUN, open_state, python, run_id, said

pytestmark = pytest.mark.usefixtures("kept")
HOLD = """
import sys; from pathlib import Path; from tests.unit.state_builders import open_state
with open_state(Path(sys.argv[1])).hold(sys.argv[2]):
    print("held", flush=True); sys.stdin.readline()
print("let go", flush=True); sys.stdin.read()
"""
HOLD_AND_FORK = """
import os, sys; from pathlib import Path; from tests.unit.state_builders import open_state
state = open_state(Path(sys.argv[1]))
with state.hold(sys.argv[2]):
    if os.fork() == 0:  # as every child is until it runs its program
        sys.stdin.read()
        os._exit(0)
print(state.is_under_way(sys.argv[2]), flush=True)
"""
HOLD_AS_0_1_0 = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True); sys.stdin.read()
"""


def test_run_is_under_way_while_it_is_held_and_not_any_longer(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with state.hold(RUN) as folder:
        assert (folder, folder.is_dir()) == (state.folder(RUN), True)
        assert state.is_under_way(RUN)
        assert not state.is_under_way(run_id(1))
    assert not state.is_under_way(RUN)


def test_run_is_held_once_at_a_time_also_within_one_process(tmp_path: Path) -> None:
    with open_state(tmp_path).hold(RUN):
        with pytest.raises(ConfigError, match="still under way"), open_state(tmp_path).hold(RUN):
            pass
        assert open_state(tmp_path).is_under_way(RUN)
    with open_state(tmp_path).hold(RUN):
        pass


def test_hold_ends_with_an_error_too(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with pytest.raises(RuntimeError), state.hold(RUN):
        raise RuntimeError
    assert not state.is_under_way(RUN)


def test_run_of_another_process_is_under_way_until_that_lets_it_go(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with python(HOLD, tmp_path, RUN) as other:
        assert said(other) == "held"
        assert state.is_under_way(RUN)
        with pytest.raises(ConfigError, match="still under way"), state.hold(RUN):
            pass
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        assert said(other) == "let go"
        assert not state.is_under_way(RUN)


def test_run_of_a_process_that_died_is_not_under_way(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with python(HOLD, tmp_path, RUN) as other:
        assert said(other) == "held"
        other.kill()
        other.wait()
        with state.hold(RUN):
            pass


def test_child_that_inherits_the_lock_does_not_keep_it(tmp_path: Path) -> None:
    with python(HOLD_AND_FORK, tmp_path, RUN) as other:
        assert said(other) == "False"


def test_run_of_fleet_0_1_0_is_under_way(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.folder(RUN).mkdir(parents=True)
    with python(HOLD_AS_0_1_0, state.folder(RUN)) as other:
        assert said(other) == "held"
        assert state.is_under_way(RUN)
        with pytest.raises(ConfigError), state.hold(RUN):
            pass


def test_fleet_0_1_0_sees_that_a_run_is_under_way(tmp_path: Path) -> None:
    with open_state(tmp_path).hold(RUN) as folder:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(handle)


def test_whoever_only_reads_a_run_does_not_keep_others_from_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, acquire, seen, refused = open_state(tmp_path), locks.acquire, list[str](), threading.Event()
    state.folder(RUN).mkdir(parents=True)
    reader = acquire(state.folder(RUN), shared=True)
    assert reader is not None
    assert not state.is_under_way(RUN)

    def noted(folder: Path, *, shared: bool = False) -> int | None:
        handle = acquire(folder, shared=shared)
        if handle is None:
            refused.set()
        return handle

    def hold() -> None:
        with state.hold(RUN):
            seen.append("held")

    monkeypatch.setattr(locks, "acquire", noted)
    thread = threading.Thread(target=hold)
    thread.start()
    refused.wait()
    locks.release(reader)
    thread.join()
    assert seen == ["held"]


def test_folder_that_is_removed_while_it_is_taken_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, acquire, removed = open_state(tmp_path), locks.acquire, list[Path]()

    def remove_first(folder: Path, *, shared: bool = False) -> int | None:
        handle = acquire(folder, shared=shared)
        if not removed:
            removed.append(folder)
            shutil.rmtree(folder)
        return handle

    monkeypatch.setattr(locks, "acquire", remove_first)
    with state.hold(RUN) as folder:
        assert removed == [folder]
        assert folder.is_dir()
        assert state.is_under_way(RUN)


def test_folder_of_a_run_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    with open_state(tmp_path / "home").hold(RUN) as folder:
        for path in (folder, tmp_path / "home"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_place_that_cannot_be_written_says_where_to_go(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StateError) as caught, open_state(tmp_path).hold(RUN):
        pass
    assert str(tmp_path) in caught.value.message
    assert "XDG_STATE_HOME" in caught.value.hint
    assert caught.value.exit_code == 2

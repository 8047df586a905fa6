"""How the keeper and whoever watches wait, where something does not work: nobody waits for ever, and nobody spins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.host_functions import SHELLS, call, put

if TYPE_CHECKING:
    from pathlib import Path

FULL_RUN = "blame() { return 1; }\ntold_to_stop() { return 1; }\npast_deadline() { true; }\nnext=reverting run=r1\n"
"""The deadline has passed, and nothing can be written."""
WAIT = "sleep() { echo slept $1; }\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("over", ["activation_is_over", "proof_is_over"])
def test_deadline_ends_a_wait_also_where_nothing_can_be_written(tmp_path: Path, over: str, shell: str) -> None:
    script = f"{FULL_RUN}looks=0\nblame_overrun() {{ blame; }}\nif {over}; then echo over; fi"
    assert call(tmp_path, script, shell=shell) == "over\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_activation_that_was_killed_ends_a_wait_also_where_nothing_can_be_written(tmp_path: Path, shell: str) -> None:
    script = f"{FULL_RUN}past_deadline() {{ false; }}\nis_inactive() {{ true; }}\nlooks=2\n"
    assert call(tmp_path, f"{script}if activation_is_over; then echo over; fi", shell=shell) == "over\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("status", "slept"), [(124, ""), (1, "slept 0.2\n" * 2), (126, "slept 0.2\n" * 2)])
def test_keeper_goes_on_asking_whatever_becomes_of_its_bell(
    tmp_path: Path, status: int, slept: str, shell: str
) -> None:
    script = f"{WAIT}exec 8</dev/null\ntimeout() {{ return {status}; }}\nasked=0\n"
    script += "third_time() { asked=$((asked + 1)); [ $asked -eq 3 ]; }\nwait_for_bell third_time; echo over"
    assert call(tmp_path, script, shell=shell) == f"{slept}over\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("status", "slept"), [(0, "slept 0.2\n"), (1, ""), (66, "slept 1\n")])
def test_whoever_watches_does_not_spin_where_there_is_no_lock(
    tmp_path: Path, status: int, slept: str, shell: str
) -> None:
    """`flock` ends with 1 after its second, and with 66 where it cannot open the file."""
    put(tmp_path, state="switching", **{".turn-switching": ""})
    assert call(tmp_path, f"{WAIT}flock() {{ return {status}; }}\nwait_for_turn switching", shell=shell) == slept


@pytest.mark.parametrize("shell", SHELLS)
def test_silence_of_pid_1_at_the_end_of_a_guarded_switch_is_no_proof(tmp_path: Path, shell: str) -> None:
    script = "new=/nix/store/new next=reverting\npast_deadline() { true; }\nrunning_system() { echo $new; }\n"
    script += "judge_units() { exit 1; }\naccount_for_profile() { :; }\nprove; echo $next; cat reason"
    assert call(tmp_path, script, shell=shell) == "reverting\nPID 1 does not answer\n"

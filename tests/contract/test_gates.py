"""What a laptop says about whether it may be changed unasked: the script, in a folder of its own and with its tools."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet.machine import Output
from fleet.machine.local import LocalMachine
from fleet.scripts import one_line
from fleet.steps.gates import what_forbids_delivery
from tests.fakes import FakeMachine, runs
from tests.unit import builders

if TYPE_CHECKING:
    from pathlib import Path

ALONE = {"busctl": "exit 1", "loginctl": "exit 1"}
"""Neither NetworkManager nor logind."""
SESSIONS = 'case $1 in list-sessions) echo "3 1000 ann seat0 tty2" ;; *) printf "%s\\n" {} ;; esac'


def asked(folder: Path, supplies: dict[str, dict[str, str]], tools: dict[str, str]) -> dict[str, str]:
    """What the script prints on a machine with these power supplies and these answers of its tools."""
    for name, files in supplies.items():
        for file, text in files.items():
            path = folder / "sys/class/power_supply" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
    (folder / "bin").mkdir()
    for name, script in (ALONE | tools).items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    argv = ["sh", "-c", one_line("fleet.steps", "gates"), "sh", str(folder)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("supplies", "found"),
    [
        ({}, {}),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Charging"}}, {}),
        ({"BAT0": {"type": "Battery", "status": "Full"}}, {}),
        ({"BAT0": {"type": "Battery", "status": "Discharging"}}, {"battery": "yes"}),
        ({"mouse": {"type": "USB", "status": "Discharging"}}, {}),
        ({"BAT0": {"type": "Battery"}}, {}),
    ],
)
def test_power_is_that_of_the_batteries(
    tmp_path: Path, supplies: dict[str, dict[str, str]], found: dict[str, str]
) -> None:
    assert asked(tmp_path, supplies, {}) == found


@pytest.mark.parametrize(("said", "found"), [("u 1", "yes"), ("u 3", "yes"), ("u 2", ""), ("u 4", ""), ("u 0", "")])
def test_connection_is_metered_where_networkmanager_says_or_guesses_so(tmp_path: Path, said: str, found: str) -> None:
    assert asked(tmp_path, {}, {"busctl": f"echo '{said}'"}).get("metered", "") == found


@pytest.mark.parametrize(
    ("session", "user"),
    [
        ("Active=yes Remote=no Class=user IdleHint=no", "ann"),
        ("Active=no Remote=no Class=user IdleHint=no", ""),
        ("Active=yes Remote=yes Class=user IdleHint=no", ""),
        ("Active=yes Remote=no Class=user IdleHint=yes", ""),
        ("Active=yes Remote=no Class=greeter IdleHint=no", ""),
    ],
)
def test_somebody_works_there_who_is_active_at_it(tmp_path: Path, session: str, user: str) -> None:
    assert asked(tmp_path, {}, {"loginctl": SESSIONS.format(session)}).get("session", "") == user


async def test_host_may_be_changed_where_fleet_toml_allows_it() -> None:
    laptop = builders.host("laptop", deliver_on_battery=False, deliver_metered=False, deliver_in_session=False)
    server = builders.host("server")
    answer = (
        runs("sh", "-c", one_line("fleet.steps", "gates")),
        Output(status=0, stdout="battery=yes\nmetered=yes\nsession=a\tb\n"),
    )
    assert await what_forbids_delivery(FakeMachine(answer), server) == ""
    for allowed, why in (
        ({}, "it runs on battery"),
        ({"deliver_on_battery": True}, "its connection is metered"),
        ({"deliver_on_battery": True, "deliver_metered": True}, "a    b is working there"),
    ):
        host = laptop.model_copy(update=allowed)
        assert (await what_forbids_delivery(FakeMachine(answer), host)).startswith(why), allowed


async def test_script_runs_on_this_machine() -> None:
    host = builders.host("laptop", deliver_on_battery=False)
    assert await what_forbids_delivery(LocalMachine(), host) in ("", "it runs on battery (deliver_on_battery)")

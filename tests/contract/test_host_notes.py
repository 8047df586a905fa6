"""What people are told of a switch that went well. PID 1 answers as it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.host_functions import SHELLS, call, put

if TYPE_CHECKING:
    from pathlib import Path

SWITCH = """\
old=$PWD/OLD new=$PWD/NEW run=r1
with_timeout() { :; }
said_by() { get said; }
failed_snippets() { get failed_snippets; }
journalctl() { get journal; }
failing_units() { trouble=$(get failing_now); }
systemctl() {
    case $* in
        *UnitsLoadTimestampMonotonic*) get loaded ;;
        *" $(get asked)"*) get shown ;;
    esac
}
"""
RESTARTED = "stopping the following units: a.service, web.service\nstarting the following units: a.service, web.service"


def switched(folder: Path, *, changes: str = "web.service", shell: str = "sh", **files: str) -> str:
    """The notes on a switch that has changed this file of a unit. It began at 100, and units were read at 200."""
    for system in ("OLD", "NEW"):
        units = folder / system / "etc/systemd/system"
        for unit in ("web.service", "ssh.service", "web.service.d/x.conf", "job@.service"):
            (units / unit).parent.mkdir(parents=True, exist_ok=True)
            (units / unit).write_text(f"[Service]\n# {system}\n" if unit == changes else "[Service]\n")
    shown = "MainPID=7\nExecMainStartTimestampMonotonic=100\nId=web.service"
    usual = {"status": "0", "said": RESTARTED, "loaded": "200", "asked": "web.service", "shown": shown}
    put(folder, **{**usual, "journal": "", "failing_now": "", **files})
    return call(folder, f"{SWITCH}take_notes; cat notes 2>/dev/null || :", shell=shell)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("changes", ["web.service", "web.service.d/x.conf"])
def test_changed_service_that_was_started_before_it_was_read_anew_is_noted(
    tmp_path: Path, changes: str, shell: str
) -> None:
    told = switched(tmp_path, changes=changes, shell=shell)
    assert told == "web.service was changed, and still runs as before: systemctl restart web.service there, or reboot\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("began", "noted"), [(100, True), (300, False)])
def test_units_that_are_read_once_more_after_the_switch_make_no_service_old(
    tmp_path: Path,
    began: int,
    noted: bool,  # noqa: FBT001
    shell: str,
) -> None:
    """Somebody else has asked for it at 500, and units were started at 250."""
    lines = ["stopping the following units: web.service", "starting the following units: web.service"]
    journal = "\n".join(f"[    0.000{at}] host stc[7]: {line}" for at, line in zip((50, 250), lines, strict=True))
    shown = f"MainPID=7\nExecMainStartTimestampMonotonic={began}\nId=web.service"
    assert bool(switched(tmp_path, journal=journal, loaded="500", shown=shown, shell=shell)) is noted


@pytest.mark.parametrize("shell", SHELLS)
def test_instance_of_a_changed_template_that_runs_on_is_noted(tmp_path: Path, shell: str) -> None:
    said = "stopping the following units: job@1.service, job@2.service"
    shown = "\n\n".join(
        f"MainPID={number}\nExecMainStartTimestampMonotonic={began}\nId=job@{number}.service"
        for number, began in ((1, 100), (2, 300))
    )
    told = switched(tmp_path, changes="job@.service", asked="job@*.service", said=said, shown=shown, shell=shell)
    assert (
        told
        == "job@1.service was changed, and still runs as before: systemctl restart job@1.service there, or reboot\n"
    )


@pytest.mark.parametrize(
    "files",
    [
        {"changes": "ssh.service"},
        {"changes": "job@.service"},
        {"shown": "MainPID=7\nExecMainStartTimestampMonotonic=300\nId=web.service"},
        {"shown": "MainPID=0\nExecMainStartTimestampMonotonic=100\nId=web.service"},
        {"said": "NOT restarting the following changed units: web.service"},
        {"said": "reloading the following units: web.service"},
        {"said": "starting the following units: web.service.mount, web"},
        {"loaded": ""},
        {"shown": ""},
    ],
    ids=[
        "unchanged",
        "template",
        "started anew",
        "not running",
        "not to restart",
        "reloaded",
        "others",
        "old systemd",
        "silence",
    ],
)
def test_other_services_are_not(tmp_path: Path, files: dict[str, str]) -> None:
    assert switched(tmp_path, **files) == ""


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"status": "0", "said": "Failed to reload web.service"}, ""),
        (
            {"said": "Failed to reload web.service\nFailed to reload web.service"},
            "exit status 4 of switch-to-configuration: Failed to reload web.service\n",
        ),
        (
            {"said": "", "failing_now": "x.service failed"},
            "exit status 4 of switch-to-configuration, and these have failed, which do not count: x.service\n",
        ),
        (
            {"status": "2", "failed_snippets": "specialfs"},
            "activation script 'specialfs' failed, which ignore_snippets allows\n",
        ),
        ({"said": ""}, "exit status 4 of switch-to-configuration, and no unit has failed\n"),
        ({"said": "", "failing_now": "web.service failed", "changes": "web.service", "shown": "TriggeredBy="}, ""),
        ({"said": "", "failing_now": "x.service failed", "failing": "x.service", "shown": "TriggeredBy="}, ""),
    ],
)
def test_job_that_failed_though_no_unit_has_is_noted(tmp_path: Path, files: dict[str, str], told: str) -> None:
    assert switched(tmp_path, **{"status": "4", "changes": "ssh.service", **files}) == told

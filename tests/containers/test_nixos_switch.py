"""NixOS's own switch-to-configuration on a lab host: what fleet reads from it, and foretells of it, is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.diff.system import UNITS, SystemFacts
from fleet.diff.units import compare_units
from fleet.model import Closure
from tests.containers.hostprogram import HOLD_LOCK, NEW, OLD, Subject
from tests.containers.nixos_switch import needs_program
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.machine import Output

pytestmark = needs_program
ILL = 'services.ill.exec = "${busybox} false";'
_LIST = re.compile(r"would (stop|NOT stop|reload|restart|start) the following (?:changed )?units: (.*)")


def switch(subject: Subject, closure: str, action: str = "test") -> Output:
    """What the program said and how it ended, by hand."""
    return subject.host.exec(f"{closure}/bin/switch-to-configuration", action, check=False)


@pytest.fixture
def by_hand(subject: Subject) -> Iterator[Subject]:
    """The host, for switches by hand: it goes back to OLD afterwards."""
    yield subject
    switch(subject, subject.old)


# --- what the host program reads ---


@pytest.mark.parametrize(
    ("config", "action", "status"),
    [
        ('initInterfaceVersion = "systemd 3";', "test", 100),
        ('preSwitchChecks.never = "exit 1";', "test", 1),
        ('preSwitchChecks.never = "exit 1";', "boot", 1),
        ('bootLoaderScript = "exit 3";', "boot", 1),
        ('activationScript = "exit 3";', "test", 2),
        (ILL, "test", 4),
        (f'activationScript = "exit 3"; {ILL}', "test", 4),
    ],
)
def test_it_ends_as_the_host_program_expects(by_hand: Subject, config: str, action: str, status: int) -> None:
    assert switch(by_hand, by_hand.closure(NEW + config), action).status == status


@pytest.mark.parametrize("action", ["check", "test", "boot", "dry-activate"])
def test_it_does_not_wait_for_another_that_holds_the_lock(subject: Subject, action: str) -> None:
    subject.sh(f"mkdir -p /run/nixos; {HOLD_LOCK}")
    done = switch(subject, subject.old, action)
    subject.sh("systemctl stop holder")
    assert (done.status, done.stderr) == (11, "Could not acquire lock\n")


def test_it_says_what_the_host_program_looks_for(by_hand: Subject) -> None:
    bad = by_hand.closure(NEW + f'activationScript = "exit 3"; {ILL}')
    assert "\nFailed to run activate script\n" in switch(by_hand, bad).stderr
    switch(by_hand, by_hand.old)
    by_hand.sh("journalctl --sync")
    said = by_hand.sh("journalctl -q -o cat -t nixos -n 4").splitlines()
    words = "switching to system configuration"
    assert said == [
        f"{words} {bad}",
        f"{words} {bad} failed (status 4)",
        f"{words} {by_hand.old}",
        f"finished {words} {by_hand.old}",
    ]


# --- what befalls a switch ---


@pytest.mark.parametrize(("bus", "status"), [("ls", 0), ("rm", 4)])
def test_user_whose_units_cannot_be_reloaded_fails_no_deployment(subject: Subject, bus: str, status: int) -> None:
    """Without her bus the program exits with 4, and no unit of the system has failed."""
    subject.sh("loginctl enable-linger operator")
    until(lambda: subject.succeeds(f"{bus} /run/user/$(id -u operator)/bus"), what="a user's bus")
    try:
        run = subject.switched(subject.closure(NEW))
        view = subject.look(run)
        assert (view.status, view.bad) == (status, ())
        subject.confirm(run)
    finally:
        subject.sh("loginctl disable-linger operator; loginctl terminate-user operator", check=False)


def test_systemd_that_is_executed_again_ends_no_transaction(subject: Subject) -> None:
    new = subject.closure(NEW + 'files."etc/systemd/system.conf" = "[Manager]\\n";')
    run = subject.switched(new)
    assert "restarting systemd..." in subject.call("watch", run, "switching", "")["line"]
    subject.confirm(run)
    assert subject.stands_on == (new,) * 3


def test_what_a_killed_switch_had_noted_for_the_next_one_is_done_on_the_way_back(subject: Subject) -> None:
    run = subject.begin(subject.closure(NEW + 'activationScript = "/usr/bin/sleep 600";'))
    until(lambda: subject.succeeds("pgrep -f '[a]ctivation-script'"), what="activation")
    assert "web.service" in subject.sh("cat /run/nixos/start-list")
    subject.sh(f"systemctl kill -s KILL fleet-switch-{run}")
    subject.follow(run, "reverted")
    assert (subject.body(), subject.sh("ls /run/nixos/*-list", check=False)) == ("old", "")


# --- what a plan foretells ---


def service(unit: str = "", service: str = "", command: str = "/usr/bin/sleep inf") -> str:
    return f"[Unit]\n{unit}\n[Service]\nExecStart={command}\n{service}\n"


OTHER = "/usr/bin/sleep infinity"
RELOAD = "ExecReload=/usr/bin/true"
UNITS_OF_BOTH = {
    "exec.service": (service(), service(command=OTHER)),
    "same.service": (service(), service()),
    "comment.service": (service(), "# said\n" + service()),
    "description.service": (service("Description=a"), service("Description=b")),
    "after.service": (service(), service("After=basic.target")),
    "keep.service": (service(), service("", "X-RestartIfChanged=false", OTHER)),
    "reload.service": (service("", RELOAD), service("", f"{RELOAD}\nX-ReloadIfChanged=true", OTHER)),
    "at-once.service": (service(), service("", "X-StopIfChanged=false", OTHER)),
    "reloads.service": (service("", RELOAD), service("", f"{RELOAD} again")),
    "reloads-now.service": (service(), service("", RELOAD)),
    "reloads-no-more.service": (service("", RELOAD), service()),
    "triggers.service": (service("X-Reload-Triggers=1", RELOAD), service("X-Reload-Triggers=2", RELOAD)),
    "restarts.service": (service("X-Restart-Triggers=1"), service("X-Restart-Triggers=2")),
    "refuses.service": (service(), service("RefuseManualStop=true", "", OTHER)),
    "manual.service": (service(), service("X-OnlyManualStart=true", "", OTHER)),
    "wanted.service": (service(), service() + "[Install]\nWantedBy=multi-user.target\n"),
    "gone.service": (service(), None),
    "stays.service": (service("X-StopOnRemoval=false"), None),
    "clock.service": (service(), service()),
    "clock.timer": ("[Timer]\nOnCalendar=2098-01-01\n", "[Timer]\nOnCalendar=2099-01-01\n"),
    "look.service": (service(), service()),
    "look.path": ("[Path]\nPathExists=/run/never\n", "[Path]\nPathExists=/run/ever\n"),
    "listen.service": (service(), service()),
    "listen.socket": ("[Socket]\nListenStream=127.0.0.1:7001\n", "[Socket]\nListenStream=127.0.0.1:7002\n"),
    "part.slice": ("[Slice]\nTasksMax=99\n", "[Slice]\nTasksMax=98\n"),
    "run-m.mount": (
        "[Mount]\nWhat=tmpfs\nWhere=/run/m\nType=tmpfs\nOptions=size=1M\n",
        "[Mount]\nWhat=tmpfs\nWhere=/run/m\nType=tmpfs\nOptions=size=2M\n",
    ),
    "run-n.mount": (
        "[Mount]\nWhat=tmpfs\nWhere=/run/n\nType=tmpfs\n",
        "[Mount]\nWhat=other\nWhere=/run/n\nType=tmpfs\n",
    ),
}
"""Units that are active, in the old system and in the new one."""


def system(number: int) -> str:
    """OLD with these units."""
    units = "".join(
        f"units.\"{name}\" = {{ text = ''{both[number]}''; wantedBy = [ \"multi-user.target\" ]; }};"
        for name, both in UNITS_OF_BOTH.items()
        if both[number] is not None
    )
    return OLD + units


def facts(closure: str) -> SystemFacts:
    """The units of a closure that is in this machine's store."""
    folder = Path(closure, "etc", UNITS).resolve()
    texts = {f"{UNITS}{file.name}": file.read_text() for file in folder.iterdir() if file.is_file()}
    return SystemFacts(closure=Closure(closure), files=texts, texts=texts)


def foretold(old: str, new: str) -> dict[str, str]:
    """What a plan says of each unit."""
    diff = compare_units(facts(old), facts(new))
    fates = {"stop": diff.stop, "restart": diff.restart, "reload": diff.reload}
    return {unit: fate for fate, units in fates.items() for unit in units}


def announced(dry_run: str) -> dict[str, str]:
    """What the program would do to each unit. To stop and start it is to restart it."""
    found: dict[str, str] = {}
    for fate, units in _LIST.findall(dry_run):
        for unit in units.split(", "):
            found[unit] = "restart" if found.get(unit) == "stop" else fate
    return {unit: fate for unit, fate in found.items() if fate != "NOT stop"}


def test_plan_foretells_what_it_does_to_units(by_hand: Subject) -> None:
    old, new = by_hand.closure(system(0)), by_hand.closure(system(1))
    assert switch(by_hand, old).status == 0
    done = switch(by_hand, new, "dry-activate")
    assert announced(done.stderr) == foretold(old, new), done.stderr

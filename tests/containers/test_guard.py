"""`services.fleet.guard` at work: switches by hand on a lab host, with nobody there to prove or to undo them."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from fleet.nix import quoted
from tests.containers.files import put
from tests.containers.hostprogram import NEW, OPEN, PROFILE, ROOTS, Subject
from tests.nixos_modules import configured, script_text, unit_text
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
GOOD = NEW
FAILS = NEW + 'services.broken.exec = "${busybox} false";'
LOOPS = NEW + (
    'services.loops = { exec = "${busybox} false"; unit.StartLimitIntervalSec = 0;'
    ' service = { Restart = "always"; RestartSec = "300ms"; }; };'
)
ILL = 'services.ill.exec = "${busybox} false";'
LAST = "/run/fleet/last"


class Guarded:
    """A host on which people switch by hand to systems that have the guard."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def system(self, config: str, settings: str = "") -> str:
        """The closure of this configuration with `services.fleet.guard`, on the host."""
        settings = f'{{ services.fleet.guard = {{ enable = true; program = "{self.subject.program}"; {settings} }}; }}'
        wanted = "{ inherit (config.systemd) services; checks = config.system.preSwitchChecks; }"
        found = configured(("guard",), settings, wanted)
        ((name, check),) = found["checks"].items()
        text = config + f"preSwitchChecks.{quoted(name)} = {quoted(check)};"
        for name, unit in found["services"].items():
            if unit["script"]:
                put(self.subject.host, f"/opt/{name}", script_text(unit), mode="755")
            rendered = quoted(unit_text(f"{name}.service", unit, f"/opt/{name}"))
            wants = " ".join(map(quoted, unit["wantedBy"]))
            text += f'units."{name}.service" = {{ text = {rendered}; wantedBy = [ {wants} ]; }};'
        return self.subject.closure(text)

    def switch(self, closure: str, action: str = "switch") -> int:
        """The exit status of what `nixos-rebuild` does on the host."""
        if action in ("switch", "boot"):
            self.subject.sh(f"nix-env -p {PROFILE} --set {closure}")
        return self.subject.host.exec(f"{closure}/bin/switch-to-configuration", action, check=False).status

    @property
    def is_watched(self) -> bool:
        return self.subject.succeeds(f"test -e {OPEN}")

    def end(self) -> str:
        """How the watch has ended."""
        until(lambda: not self.is_watched, within=60, what="the watch has ended")
        return self.subject.sh(f"cat {LAST}/state; cat {LAST}/reason 2>/dev/null", check=False).replace("\n", ": ")


@pytest.fixture
def guarded(subject: Subject) -> Iterator[Guarded]:
    yield Guarded(subject)
    if subject.running != subject.old:  # its own units are gone before it is looked for leftovers
        subject.sh(f"{subject.old}/bin/switch-to-configuration test")
    subject.sh("rm -f /opt/fleet-guard*")


def test_good_system_is_kept_when_the_window_is_over_and_rooted_before(guarded: Guarded, subject: Subject) -> None:
    good = guarded.system(GOOD, 'window = "7s"; units = [ "web.service" ]; checks.mark = "test -e /run/mark";')
    other = subject.closure(NEW)
    subject.sh("touch /run/mark")
    assert guarded.switch(good) == 0
    assert guarded.is_watched
    assert subject.sh("systemd-analyze verify fleet-guard.service fleet-guard-boot.service 2>&1") == ""
    roots = subject.sh(f"readlink {ROOTS}/*-new {ROOTS}/*-old {ROOTS}/*-program").splitlines()
    assert roots == [good, subject.old, subject.program]
    assert subject.tell(subject.order(other))["refused"] == ["locked"]
    assert guarded.end() == "tested"
    assert subject.stands_on == (good, good, good)
    assert subject.sh(f"readlink {ROOTS}/live {ROOTS}/previous").splitlines() == [good, subject.old]
    assert f"the switch to {good}: tested" in subject.sh("journalctl -q -o cat -u 'fleet-keep-*' -n 5")
    assert guarded.switch(good) == 0
    assert not guarded.is_watched  # it is what runs: nothing could be gone back to


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (FAILS, "broken.service has failed"),
        (GOOD + 'activationScript = "false";', "activation failed with exit status 2"),
    ],
)
def test_bad_system_goes_back_with_nobody_there(guarded: Guarded, subject: Subject, config: str, why: str) -> None:
    bad = guarded.system(config)
    guarded.switch(bad)
    assert guarded.end() == f"reverted: {why}"
    assert subject.stands_on == (subject.old, subject.old, subject.old)
    assert (subject.body(), subject.is_active("steady")) == ("old", True)
    assert subject.quarantined(bad)


def test_unit_that_restarts_again_and_again_is_bad_from_the_threshold_on(guarded: Guarded, subject: Subject) -> None:
    guarded.switch(guarded.system(LOOPS, "restartThreshold = 8;"), "test")
    found = re.fullmatch(r"reverted: loops\.service was restarted (\d+) times since activation", guarded.end())
    assert found
    assert int(found[1]) >= 8
    assert subject.stands_on == (subject.old, subject.old, subject.old)


def test_profile_of_which_a_specialisation_was_switched_to_goes_back_too(guarded: Guarded, subject: Subject) -> None:
    parent, bad = subject.closure(NEW), guarded.system(FAILS)
    subject.sh(f"nix-env -p {PROFILE} --set {parent}; {bad}/bin/switch-to-configuration switch", check=False)
    assert guarded.end() == "reverted: broken.service has failed"
    assert subject.stands_on == (subject.old, subject.old, subject.old)


def test_switch_that_is_cut_short_goes_back(guarded: Guarded, subject: Subject) -> None:
    slow = guarded.system(NEW + 'services.slow = { exec = "${busybox} sleep inf"; service.Type = "oneshot"; };')
    subject.sh(
        f"nix-env -p {PROFILE} --set {slow}; systemd-run -q --unit=hand {slow}/bin/switch-to-configuration switch"
    )
    until(lambda: subject.running == slow, what="the switch is half done")
    subject.sh("systemctl kill -s KILL hand; systemctl stop slow")
    assert guarded.end() == "reverted: activation was killed (exit status 137)"
    assert subject.stands_on == (subject.old, subject.old, subject.old)


def test_after_another_switch_in_the_window_it_goes_back_to_what_was_proven(guarded: Guarded, subject: Subject) -> None:
    guarded.switch(guarded.system(GOOD))
    assert guarded.is_watched
    guarded.switch(guarded.system(FAILS))
    assert guarded.end() == "reverted: broken.service has failed"
    assert subject.stands_on == (subject.old, subject.old, subject.old)


def test_somebody_who_goes_back_by_hand_is_left_alone(guarded: Guarded, subject: Subject) -> None:
    guarded.switch(guarded.system(GOOD, 'window = "10min";'))
    assert guarded.is_watched
    guarded.switch(subject.old)
    assert guarded.end() == "superseded"
    assert subject.stands_on == (subject.old, subject.old, subject.old)


def test_reboot_in_the_window_begins_it_anew(guarded: Guarded, subject: Subject) -> None:
    new = guarded.system(GOOD, 'window = "10s"; checks.mark = "test -e /run/mark";')
    subject.sh("touch /run/mark")  # which is gone after the reboot
    guarded.switch(new)
    until(lambda: subject.read("state") == "switched", what="the activation has ended")
    subject.host.power_off()
    subject.host.power_on()
    assert subject.running == new
    until(lambda: guarded.is_watched, what="the watch goes on")
    assert guarded.end() == "reverted: fleet-guard.service has failed"
    assert subject.stands_on == (subject.old, subject.old, subject.old)


def test_what_only_is_to_be_reported_stays(guarded: Guarded, subject: Subject) -> None:
    bad = guarded.system(FAILS, 'action = "report";')
    guarded.switch(bad)
    assert guarded.end() == "superseded: broken.service has failed"
    assert subject.stands_on == (bad, bad, bad)
    assert not subject.quarantined(bad)


REFUSED = {
    "by a check": ('preSwitchChecks.zzz = "false";', "switch", 1),
    "by NixOS's own check": ('switchInhibitors.dbus = "other";', "switch", 1),
    "since its init differs": ('initInterfaceVersion = "systemd 3";', "test", 100),
    "since its boot loader fails": ('bootLoaderScript = "exit 3";', "switch", 1),
}
"""Why a switch comes to nothing. The last two are after all checks, so after the guard."""
HAS_DBUS = GOOD + 'switchInhibitors.dbus = "this";'


def reasons(*short: str) -> list[Any]:
    """All of REFUSED; those that are not named here are long."""
    return [why if why in short else pytest.param(why, marks=pytest.mark.long) for why in REFUSED]


@pytest.mark.parametrize("why", reasons("by a check", "since its init differs"))
def test_switch_that_comes_to_nothing_moves_nothing(guarded: Guarded, subject: Subject, why: str) -> None:
    config, action, status = REFUSED[why]
    with_dbus = subject.closure(HAS_DBUS)
    subject.confirm(subject.switched(with_dbus))
    before = subject.sh(f"readlink {ROOTS}/live {ROOTS}/previous")
    assert guarded.switch(guarded.system(GOOD.replace('"new"', '"other"') + config), action) == status
    until(lambda: not guarded.is_watched, what="nothing is watched")
    assert subject.sh(f"readlink {ROOTS}/live {ROOTS}/previous") == before
    assert subject.running == with_dbus


@pytest.mark.parametrize("why", reasons("by NixOS's own check", "since its boot loader fails"))
def test_switch_that_comes_to_nothing_ends_no_watch(guarded: Guarded, subject: Subject, why: str) -> None:
    """The one before it still runs, and has to prove itself."""
    config, action, status = REFUSED[why]
    first = guarded.system(HAS_DBUS, 'window = "8s"; checks.mark = "test -e /run/mark";')
    subject.sh("rm -f /run/mark")
    assert guarded.switch(first) == 0
    assert guarded.switch(guarded.system(GOOD.replace('"new"', '"other"') + config), action) == status
    assert guarded.end() == "reverted: fleet-guard.service has failed"
    assert subject.running == subject.old
    assert subject.sh(f"readlink {ROOTS}/live") == subject.old
    assert subject.quarantined(first)


@pytest.mark.parametrize("unit", ["", ILL], ids=["alone", "hidden by a unit"])
def test_activation_that_failed_goes_back_whatever_else_has(guarded: Guarded, subject: Subject, unit: str) -> None:
    """A unit that fails too makes exit status 4 of the 2, and that unit is of no account."""
    bad = guarded.system(GOOD + unit + 'activationScript = "exit 3";', 'ignoreUnits = [ "ill.*" ];')
    assert guarded.switch(bad, "test") == (4 if unit else 2)
    assert guarded.end() == "reverted: activation failed with exit status 2"
    assert subject.stands_on == (subject.old, subject.old, subject.old)
    good = guarded.system(GOOD + ILL, 'window = "5s"; ignoreUnits = [ "ill.*" ];')
    assert guarded.switch(good, "test") == 4
    assert guarded.end() == "tested"


def test_activation_script_that_may_fail_is_allowed_to(guarded: Guarded, subject: Subject) -> None:
    fails = GOOD.replace('"new"', '"other"') + 'activationScript = "exit 3";'
    good = guarded.system(fails, 'window = "5s"; ignoreSnippets = [ "lab" ];')
    assert guarded.switch(good, "test") == 2
    assert guarded.end() == "tested"
    bad = guarded.system(fails, 'window = "5s"; ignoreSnippets = [ "specialfs" ];')
    assert guarded.switch(bad, "test") == 2
    assert guarded.end() == "reverted: activation failed with exit status 2: the old system's activation fails too"
    assert subject.running == good


def test_what_users_say_of_a_switch_is_not_believed(guarded: Guarded, subject: Subject) -> None:
    good = guarded.system(GOOD, 'window = "5s";')
    forged = f"switching to system configuration {good} failed (status 1)"
    loop = f"while :; do /usr/bin/logger -t nixos '{forged}'; /usr/bin/sleep 0.02; done"
    subject.host.exec("systemd-run", "-q", "--unit=liar", "--uid=operator", "/bin/sh", "-c", loop)
    try:
        assert guarded.switch(good) == 0
        assert guarded.end() == "tested"
    finally:
        subject.sh("systemctl stop liar")
    assert forged in subject.sh("journalctl -q -o cat -t nixos")


def test_fleet_and_what_switches_nothing_are_not_watched(guarded: Guarded, subject: Subject) -> None:
    good = guarded.system(GOOD)
    for action in ("check", "dry-activate", "boot"):
        assert guarded.switch(good, action) == 0
        assert not guarded.is_watched
    subject.reset()
    run = subject.switched(good)
    assert subject.read("guarded") == ""
    subject.confirm(run)
    assert subject.stands_on == (good, good, good)

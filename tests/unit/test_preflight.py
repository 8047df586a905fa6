"""Before anything is built: what stops a host, and what people should know."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from fleet.errors import LockedError, UnfitError
from fleet.host.answers import State
from fleet.host.facts import OpenTransaction
from fleet.host.locked import queued
from fleet.host.tickets import Ticket
from fleet.machine import Output
from fleet.model import RunId, Severity
from fleet.steps import preflight
from tests.fakes import FakeMachine, asks
from tests.unit.builders import FACTS, NEW, OLD, PARTS, facts, host

HELD = OpenTransaction(
    run=RunId("r9"), state=State.SWITCHED, who="bob", origin="train", since=1000, closes_in=-3, new=NEW, old=OLD
)


def test_healthy_host_gives_no_finding() -> None:
    assert preflight.errors(host(), FACTS) == preflight.notes(FACTS) == ()
    preflight.require_fit(host(), FACTS)


@pytest.mark.parametrize(
    ("changes", "kind", "message", "hint"),
    [
        ({"nix": ""}, "nix", "no nix-store is found", "install Nix"),
        ({"store_writable": False}, "nix", "cannot be written", "read-only"),
        ({"machine": "aarch64"}, "architecture", "aarch64, fleet.toml says x86_64-linux", 'system = "aarch64-linux"'),
        ({"running": "/usr"}, "not_nixos", "not a NixOS system", "nixos-anywhere"),
        ({"profile": "/nix/var/nix/profiles/system"}, "no_profile", "nothing to boot again", "install NixOS"),
    ],
)
def test_what_stops_a_host_is_one_line_with_its_remedy(
    changes: dict[str, Any], kind: str, message: str, hint: str
) -> None:
    (found,) = preflight.errors(host(), facts(**changes))
    assert (found.severity, found.kind) == (Severity.ERROR, kind)
    assert message in found.message
    assert hint in found.hint
    assert "\n" not in found.message + found.hint
    with pytest.raises(UnfitError) as caught:
        preflight.require_fit(host(), facts(**changes))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_host_that_somebody_else_is_at_work_on_is_locked() -> None:
    with pytest.raises(LockedError, match="run r9 of bob from train") as caught:
        preflight.require_fit(host(), facts(transaction=HELD))
    assert "its deadline passed 3 s ago: it is closing, unless its keeper is stopped" in caught.value.hint
    assert "fleet deploy web-1 --wait 10m waits for a turn; fleet who web-1 shows who is at work" in caught.value.hint


def test_who_is_locked_out_is_told_why_since_when_until_when_and_who_waits_too() -> None:
    held = dataclasses.replace(HELD, closes_in=25, intent="update nginx")
    ticket = Ticket(number=3, run=RunId("r3"), since=1000, waits=600, by="ann", origin="desk", intent="fix it")
    with pytest.raises(LockedError) as caught:
        preflight.require_fit(host(), facts(transaction=held, waiting=(ticket, ticket)))
    assert re.fullmatch(
        r"a transaction is open: run r9 of bob from train, switched, since \d\d:\d\d:\d\d \(update nginx\)",
        caught.value.message,
    )
    assert "closes by itself 25 s after its controller is gone; 2 more before you" in caught.value.hint
    preflight.require_fit(host(), facts(transaction=held), waits=True)
    error = queued(host(), (ticket, ticket))
    assert re.match(r"others come first: run r3 of ann from desk is next, and waits since .* \(fix it\)", error.message)
    assert "gives up within 600 s; 1 more before you" in error.hint


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"booted_parts": {**PARTS, "kernel": "x", "initrd": "y"}}, "reboot_pending", "kernel, initrd"),
        ({"failed_units": ("a.service", "b.mount")}, "failing_units", "a.service, b.mount"),
        ({"upgrade_unit": "nixos-upgrade.timer"}, "auto_upgrade", "nixos-upgrade.timer"),
        ({"lock_holder": "123 nixos-rebuild"}, "switch_lock", "123 nixos-rebuild"),
        ({"nix_free": 1 << 20}, "space", "only 1.0 MiB free on /nix"),
        ({"boot_free": 1 << 20}, "space", "only 1.0 MiB free on /boot"),
        ({"boot_unmounted": ("/boot",)}, "boot_unmounted", "/boot is in fstab and not mounted"),
    ],
)
def test_what_people_should_know_stops_nothing(changes: dict[str, Any], kind: str, message: str) -> None:
    (found,) = preflight.notes(facts(**changes))
    assert (found.severity, found.kind) == (Severity.NOTE, kind)
    assert message in found.message
    preflight.require_fit(host(), facts(**changes))


def test_everything_is_found_at_once() -> None:
    odd = facts(nix="", machine="riscv64", boot_free=0, running="", failed_units=("a.service",), transaction=HELD)
    kinds = [finding.kind for finding in (*preflight.errors(host(), odd), *preflight.notes(odd))]
    assert kinds == ["nix", "architecture", "not_nixos", "failing_units", "space"]
    with pytest.raises(LockedError):
        preflight.require_fit(host(), odd)


@pytest.mark.parametrize(
    ("machine", "system", "runs"),
    [
        ("x86_64", "i686-linux", True), ("aarch64", "armv7l-linux", True), ("armv7l", "aarch64-linux", False),
        ("armv6l", "armv6l-linux", True), ("loongarch64", "loongarch64-linux", True),
    ],
)  # fmt: skip
def test_kernel_may_run_smaller_systems(machine: str, system: str, runs: bool) -> None:  # noqa: FBT001
    assert (preflight.errors(host(system=system), facts(machine=machine)) == ()) is runs


async def test_host_is_asked_once() -> None:
    machine = FakeMachine((asks("facts"), Output(status=0, stdout=f"running={OLD}\nmachine=x86_64\n")))
    assert (await preflight.preflight(machine, host())).running == OLD
    assert len(machine.ran) == 1

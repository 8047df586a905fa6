"""What a boot on trial does not take for granted. Functions of the host program, where the host cannot do its part.

WholePaths reboots are in test_reboot_at_risk.py, test_reboot_by_grub.py and tests/reboots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.containers.test_transaction_boots_once import SHELLS, calls, on

if TYPE_CHECKING:
    from tests.containers.hostprogram import Subject

ASKED = 'if can_go_back_by_reboot; then echo yes; else printf "%s\\n" "$why"; fi'
SYSTEMS = "old=/mnt/old new=/mnt/new; read_boot() { default=$old doubt=; }; boots_once() { :; }"
OVERLAY, WRITES = "only one of both has its /etc in an overlay", "/etc cannot be written"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("images", "attached", "answer"),
    [
        ((), "/var/attached", "yes"),
        (("old", "new"), "/var/attached", "yes"),
        (("old",), "/var/attached", OVERLAY),
        (("new",), "/var/attached", OVERLAY),
        ((), "/proc/attached", WRITES),
        ((), "/mnt/attached", WRITES),  # a tmpfs
    ],
)
def test_what_would_not_be_there_after_the_boot_is_no_way_back(
    host_program: Subject, shell: str, images: tuple[str, ...], attached: str, answer: str
) -> None:
    files = {f"/mnt/{system}/etc-metadata-image": "" for system in images}
    told = on(host_program, files, "", calls(host_program, shell, SYSTEMS, f"attached={attached}", ASKED))
    assert told.startswith(answer), told


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("state", "wanted", "fragment", "is_known"),
    [
        ("loaded", "sysinit.target", "/mnt/units/fleet-wake.service", "yes"),
        ("masked", "sysinit.target", "/mnt/units/fleet-wake.service", "no"),
        ("loaded", "", "/mnt/units/fleet-wake.service", "no"),
        ("loaded", "sysinit.target", "/etc/systemd/system/fleet-wake.service", "no"),
    ],
)
def test_a_unit_that_systemd_would_not_start_wakes_nobody(
    host_program: Subject, shell: str, state: str, wanted: str, fragment: str, is_known: str
) -> None:
    says = f"LoadState={state}\\nWantedBy={wanted}\\nFragmentPath={fragment}\\n"
    fakes = f"attached=/mnt/units; run=r; program=/p; retry() {{ :; }}; systemctl() {{ printf '{says}'; }}; cd /mnt"
    asked = "if install_waker; then echo yes; else echo no; fi"
    files = {"/mnt/path": "/bin\\n"}
    assert on(host_program, files, "", calls(host_program, shell, fakes, asked)) == f"{is_known}\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("marks", "record", "boots"),
    [
        ({"rebooting": "once"}, "/mnt/record", "old"),
        ({"rebooting": "once"}, "/proc/none", "old"),  # a disk that takes nothing
        ({"rebooting": "default"}, "/mnt/record", ""),  # what boots is not what ran
        ({"rebooting": "once", "commit": "yes"}, "/mnt/record", ""),
        ({"rebooting": "once", "returning": "another boot"}, "/mnt/record", ""),  # no loop
    ],
)
def test_the_way_back_needs_what_was_read_before_and_no_more(
    host_program: Subject, shell: str, marks: dict[str, str], record: str, boots: str
) -> None:
    files = {f"/mnt/run/{mark}": f"{text}\\n" for mark, text in marks.items()}
    files |= {"/mnt/run/blame": "found\\n", "/mnt/run/reason": "bad\\n", "/mnt/record/open/run": "r\\n"}
    fakes = "boot_default() { :; }; boot_id() { echo this boot; }; reboot_host() { echo old; }"
    words = calls(host_program, shell, fakes, f"record={record}; cd /mnt/run", "reboot_to_old 2>/dev/null || :")
    assert on(host_program, files, "", words).strip() == boots


@pytest.mark.parametrize("shell", SHELLS)
def test_who_wakes_up_forgets_a_run_of_which_nothing_is_on_record(host_program: Subject, shell: str) -> None:
    roots = {f"/mnt/roots/{root}": "" for root in ("r-new", "r-program", "r-old", "s-new", "live")}
    fakes = "roots=/mnt/roots record=/mnt/record; recover() { :; }; remove_waker() { echo asleep; }"
    words = calls(host_program, shell, fakes, "wake r")
    assert on(host_program, roots, "", words, "ls /mnt/roots").split() == ["asleep", "live", "s-new"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("place", "storage", "answer"),
    [("none", "tmpfs", "not yet"), ("there", "tmpfs", "blamed"), ("none", "disk", "blamed")],
)
def test_a_trial_whose_secrets_are_not_filled_yet_is_not_judged(
    host_program: Subject, shell: str, place: str, storage: str, answer: str
) -> None:
    files = {"/mnt/secret": f"token /mnt/{place} root root 400 {storage} before -\\n", "/mnt/there": ""}
    fakes = "systemctl() { echo degraded; }; judge_units() { echo bad=it; }; blame() { echo blamed; }; cd /mnt"
    words = calls(host_program, shell, fakes, "trial_has_failed || echo not yet")
    assert on(host_program, files, "", words).strip() == answer

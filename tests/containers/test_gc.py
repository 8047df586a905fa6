"""`fleet gc` and `services.fleet.gc` on a lab host: what goes, what stays, and what happens beside a deployment."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from fleet.host.program import source
from tests.containers.driver import WEB, Stage, boot_default, new_version, profile, running, wait_until, web
from tests.containers.files import put, shell
from tests.containers.module_units import install_units, is_there

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
PROFILE = "/nix/var/nix/profiles/system"
ROOTS = "/nix/var/nix/gcroots/fleet"
UNSYNCED = "/nix/var/fleet/unsynced"
LOCK = "/run/nixos/switch-to-configuration.lock"
PUSHED = "20261120T000000-abcdef"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("small")


def generations(host: LabHost) -> list[int]:
    return sorted(int(number) for number in re.findall(r"system-(\d+)-link", shell(host, f"ls {PROFILE}-*-link")))


def generation(host: LabHost, number: int) -> str:
    return shell(host, f"readlink -f {PROFILE}-{number}-link")


def live_number(host: LabHost) -> int:
    return int(re.findall(r"system-(\d+)-link", shell(host, f"readlink {PROFILE}"))[0])


def menu(host: LabHost) -> list[int]:
    """The generations that the boot menu offers."""
    return sorted(int(number) for number in re.findall(r"generation-(\d+)", shell(host, "ls /boot/loader/entries")))


@pytest.fixture
def eight(stage: Stage) -> Iterator[LabHost]:
    """A host that was deployed to twice or more, and has six generations since then. A rollback goes to one before.

    Of the six, one is staged, one was pushed by a run that has not begun, and four are of no use.
    """
    host = stage.host("small")
    is_new = host.exec("test", "-L", f"{ROOTS}/previous", check=False).status != 0
    stage.settle("small")
    stage.toml({"small": {"checks": [WEB], "keep_generations": 1}})
    if is_new:
        stage.write("small", web(new_version(), more='preSwitchChecks.picky = "test $2 != boot";'))
        assert stage.deploy("small").outcomes == {"small": "kept"}
    live = live_number(host)
    for name in "abcdef":
        made = f"d=$(mktemp -d)/nixos-system-{name}; cp -a /run/current-system/. $d; date +%s%N >$d/nixos-version"
        shell(host, f"{made}; chmod -R u+w $d; nix-env -p {PROFILE} --set $(nix-store --add $d)")
    shell(host, f"nix-env -p {PROFILE} --switch-generation {live}")
    ours = useless(host)
    for root, number in (("staged", ours[1]), (f"{PUSHED}-new", ours[3])):
        shell(host, f"ln -sfn {generation(host, number)} {ROOTS}/{root}")
    shell(host, f"NIXOS_NO_CHECK=1 {PROFILE}/bin/switch-to-configuration boot")
    yield host
    shell(host, f"rm -rf {ROOTS}/{PUSHED}-new {ROOTS}/staged {UNSYNCED}/{PUSHED} /run/fleet/open")
    shell(
        host, f"nix-env -p {PROFILE} --delete-generations {' '.join(map(str, useless(host)))}; systemctl reset-failed"
    )


def useless(host: LabHost) -> list[int]:
    """The generations that tests have made after the one that runs."""
    return [number for number in generations(host) if number > live_number(host)]


def only(document: Any) -> dict[str, Any]:
    (host,) = document["hosts"]
    return dict(host)


def test_gc_frees_what_its_dry_run_says_and_nothing_that_a_rollback_needs(eight: LabHost, stage: Stage) -> None:
    live, path, back = live_number(eight), running(eight), shell(eight, f"readlink {ROOTS}/previous")
    before, (a, staged, c, pushed, e, newest) = generations(eight), useless(eight)
    dropped = shell(eight, "echo junk >/tmp/junk; nix-store --add /tmp/junk")

    said = only(stage.document("gc", "small", "--dry-run"))
    goes = [one["number"] for one in said["goes"]]
    gone = {one["closure"] for one in said["goes"]}
    assert goes[:3] == [e, c, a]
    why = {one["number"]: one["why"] for one in said["stays"]}
    assert (why[newest], why[live]) == (["newest"], ["running", "profile", "boots_next", "proven"])
    assert (why[staged], why[pushed]) == (["staged"], ["pending"])
    reasons = {one["closure"]: one["why"] for one in said["stays"]}
    assert reasons[back] == ["previous"]
    assert "booted" in reasons[shell(eight, "readlink -f /run/booted-system")]
    assert {one["path"] for one in said["largest"]} >= {dropped, *gone}
    assert (said["freed"], said["error"], generations(eight)) == (None, None, before)
    assert all(is_there(eight, one) for one in (dropped, *gone))

    done = only(stage.document("gc", "small", "--yes"))
    assert (done["error"], done["freed"]["generations"], done["freed"]["stopped"]) == (None, goes, "")
    assert (done["freed"]["paths"], done["freed"]["bytes"] > 0) == (said["paths"], True)
    assert not any(is_there(eight, one) for one in (dropped, *gone))
    kept = [number for number in before if number not in goes]
    assert (generations(eight), menu(eight)) == (kept, kept)
    assert all(is_there(eight, generation(eight, number)) for number in kept)
    assert (running(eight), profile(eight), boot_default(eight)) == (path, path, path)

    again = only(stage.document("gc", "small", "--yes"))
    assert (again["goes"], again["paths"], again["freed"]) == ([], 0, None)
    went = stage.fleet("rollback", "small", "--json", "--yes")
    assert (went.outcomes, running(eight)) == ({"small": "kept"}, back)


def refused(stage: Stage, *flags: str) -> str:
    """Why nothing is collected: another run is at work."""
    run = stage.fleet("gc", "small", "--yes", "--json", *flags)
    assert run.code == 5, run
    error = only(json.loads(run.stdout))["error"]
    assert error["kind"] == "locked"
    return str(error["message"])


def test_gc_leaves_a_host_alone_that_somebody_deploys_or_pushes_to(eight: LabHost, stage: Stage) -> None:
    before = generations(eight)
    run = stage.begin("small", confirm=30)
    try:
        open_run = run.wait_for("host_switched")["run"]
        assert re.search(rf"a transaction is open: run {open_run} of \S+ from \S+, switched", refused(stage))
        assert open_run in refused(stage, "--dry-run")
    finally:
        shell(eight, "rm -f /run/busy")
        run.end()
    assert run.outcomes == {"small": "kept"}
    shell(eight, f"mkdir -p {UNSYNCED}; systemd-run -q --unit=pusher flock -s {UNSYNCED}/{PUSHED} /usr/bin/sleep inf")
    wait_until(lambda: eight.exec("flock", "-n", f"{UNSYNCED}/{PUSHED}", "true", check=False).status, "it is held")
    assert refused(stage) == f"run {PUSHED} is pushing to this host"
    shell(eight, "systemctl stop pusher")
    shell(eight, f"ln -sfn /nix/store/{'a' * 32}-not-there-yet {ROOTS}/{PUSHED}-new")
    assert refused(stage) == f"run {PUSHED} is pushing to this host"
    shell(eight, f"touch -h -d '11 minutes ago' {ROOTS}/{PUSHED}-new")  # whoever said that has died
    assert before == [number for number in generations(eight) if number in before]
    assert only(stage.document("gc", "small", "--dry-run"))["error"] is None


def test_a_push_loses_nothing_however_often_garbage_is_collected_meanwhile(eight: LabHost, stage: Stage) -> None:
    """Before it, in the midst of it, and when it has ended and nothing was switched."""
    stage.toml({"small": {"bandwidth": "100kB/s", "keep_generations": 1}})
    big = base64.b64encode(os.urandom(600_000)).decode()
    stage.write("small", web(new_version(), more=f'files."etc/big" = "{big}";'))
    push = stage.start("push", "small", "--json")
    codes = []
    while push.process.poll() is None:
        codes.append(stage.fleet("gc", "small", "--yes").code)
    assert push.end().outcomes == {"small": "staged"}
    assert 5 in codes  # beside the push itself
    assert set(codes) <= {0, 5}
    assert stage.fleet("gc", "small", "--yes").code == 0
    closure = push.hosts["small"]["closure"]
    shell(eight, f"nix-store --verify-path $(nix-store -qR {closure})")
    assert stage.deploy("small").outcomes == {"small": "kept"}


SLOW = """#!/bin/sh
case "$*" in --gc) ;; *) exec /usr/bin/nix-store "$@" ;; esac
trap 'echo "error: interrupted by the user" >&2; exit 1' TERM INT
echo "deleting '/nix/store/zero'" >&2
n=0; while [ $n -lt 60 ]; do n=$((n + 1)); echo "deleting '/nix/store/$n'" >&2; done
touch /run/slow-gc
while :; do sleep 0.1; done
"""
"""A collection that does not end by itself. Everything else is Nix's."""


@pytest.fixture
def endless(eight: LabHost) -> Iterator[LabHost]:
    put(eight, "/usr/local/sbin/nix-store", SLOW, mode="755")  # which sshd has before others
    yield eight
    shell(eight, "rm -f /usr/local/sbin/nix-store /run/slow-gc")


def collectors(host: LabHost) -> str:
    return host.exec("pgrep", "-f", "^/bin/sh .*nix-store --gc", check=False).stdout.strip()


def test_collection_gives_way_to_a_deployment_and_ends_in_time(endless: LabHost, stage: Stage) -> None:
    run = stage.start("gc", "small", "--yes", "--json")
    wait_until(lambda: endless.exec("test", "-e", "/run/slow-gc", check=False).status == 0, "it collects")
    assert "garbage is collected here already" in refused(stage)
    shell(endless, f"ln -sfn /nix/store/{'a' * 32}-not-there-yet {ROOTS}/{PUSHED}-new")
    freed = only(json.loads(run.end().stdout))["freed"]
    assert (run.code, freed["stopped"], freed["paths"]) == (0, "push", 61)
    shell(endless, f"rm {ROOTS}/{PUSHED}-new; rm /run/slow-gc; echo junk >/tmp/junk; nix-store --add /tmp/junk")
    late = stage.fleet("gc", "small", "--yes", "--within", "2s")
    assert late.code == 0
    assert late.stdout.startswith("small: freed 61 store paths")
    assert "; not all, since its time is over: fleet gc again takes the rest\n" in late.stdout
    assert collectors(endless) == ""


def test_interrupt_ends_the_collection_and_leaves_the_host_whole(endless: LabHost, stage: Stage) -> None:
    path = running(endless)
    run = stage.start("gc", "small", "--yes")
    wait_until(lambda: endless.exec("test", "-e", "/run/slow-gc", check=False).status == 0, "it collects")
    run.interrupt()
    assert run.end().code == 130
    assert "interrupted: what is gone was not needed, and the next fleet gc goes on" in run.stderr
    wait_until(lambda: collectors(endless) == "", "nothing of it is left")
    assert menu(endless) == generations(endless)
    assert (running(endless), profile(endless), boot_default(endless)) == (path, path, path)


def test_nothing_is_collected_while_the_boot_menu_names_it(eight: LabHost, stage: Stage) -> None:
    superfluous = useless(eight)[0]
    path = generation(eight, superfluous)
    shell(eight, f"systemd-run -q --unit=busy /usr/bin/flock {LOCK} /usr/bin/sleep inf")
    wait_until(lambda: eight.exec("flock", "-n", LOCK, "true", check=False).status, "the lock is taken")
    failed = stage.fleet("gc", "small", "--yes")
    assert failed.code == 1
    assert "the boot menu cannot be written, and nothing is collected before it is" in failed.stderr
    assert superfluous not in generations(eight)
    assert is_there(eight, path)
    assert superfluous in menu(eight)
    shell(eight, "systemctl stop busy.service")
    assert stage.fleet("gc", "small", "--yes").code == 0
    assert not is_there(eight, path)
    assert menu(eight) == generations(eight)


def test_no_generation_goes_where_the_host_boots_another_system_than_its_profile(eight: LabHost, stage: Stage) -> None:
    before = generations(eight)
    other = useless(eight)[2]
    shell(eight, f"sed -i 's/^default .*/default nixos-generation-{other}.conf/' /boot/loader/loader.conf")
    try:
        said = only(stage.document("gc", "small", "--yes"))
        assert f"this host boots {generation(eight, other)} next, and its profile is {profile(eight)}" in said["held"]
        assert (said["goes"], generations(eight)) == ([], before)
        assert {one["number"] for one in said["stays"]} == set(before)
    finally:
        shell(eight, f"NIXOS_NO_CHECK=1 {PROFILE}/bin/switch-to-configuration boot")


# --- the same rule, on the host alone ---

MODULE = '{ services.fleet.gc = { enable = true; keep = 1; program = "/opt/fleet-host"; }; }'


@pytest.fixture
def scheduled(eight: LabHost) -> LabHost:
    """The host collects by itself."""
    keep = "cat >/opt/fleet-host && chmod 755 /opt/fleet-host"  # it is too long for an argument
    run = ["docker", "exec", "-i", eight.container.name, "sh", "-c", keep]
    subprocess.run(run, input=source().encode(), check=True)
    install_units(eight, ("gc",), MODULE)
    return eight


def collect(host: LabHost) -> str:
    """`fleet-gc` ran, and said this."""
    begun = shell(host, "date +%s.%N")
    host.exec("systemctl", "start", "fleet-gc.service")
    return shell(host, f"journalctl --sync; journalctl -q -o cat --since=@{begun} _SYSTEMD_UNIT=fleet-gc.service")


def test_service_keeps_what_fleet_gc_keeps_and_waits_for_a_deployment_to_end(scheduled: LabHost, stage: Stage) -> None:
    run = stage.begin("small", confirm=30)
    try:
        run.wait_for("host_switched")
        before = generations(scheduled)
        assert "refused=locked" in collect(scheduled)
        assert generations(scheduled) == before
    finally:
        shell(scheduled, "rm -f /run/busy")
        run.end()
    assert run.outcomes == {"small": "kept"}
    wanted = only(stage.document("gc", "small", "--dry-run", "--keep", "1"))
    newest = max(generations(scheduled))
    said = collect(scheduled)
    assert generations(scheduled) == sorted(one["number"] for one in wanted["stays"])
    assert menu(scheduled) == generations(scheduled)
    assert f"keeps generation {newest}: newest" in said
    assert not any(is_there(scheduled, one["closure"]) for one in wanted["goes"])


def test_service_does_nothing_where_there_is_room_and_has_a_timer(scheduled: LabHost) -> None:
    before = generations(scheduled)
    names = install_units(scheduled, ("gc",), MODULE.replace("keep = 1;", "keep = 1; startBelow = 1;"))
    assert "1 GiB are free, which is enough" in collect(scheduled)
    assert generations(scheduled) == before
    assert "fleet-gc.timer" in names
    scheduled.exec("systemctl", "enable", "--now", "fleet-gc.timer")
    timer = shell(scheduled, "systemctl show -P TimersCalendar -P RandomizedDelayUSec -P Persistent fleet-gc.timer")
    assert ("OnCalendar=Mon" in timer, "45min" in timer, "yes" in timer) == (True, True, True)

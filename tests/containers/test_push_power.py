"""A host that loses power amid a push: its Nix calls paths valid whose files never reached the disk.

Here the damage is done by hand. What a real power cut does is in tests/reboots.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet.host.program import bringing
from fleet.machine import Command
from fleet.model import RunId
from tests.containers.driver import WEB, Stage, new_version, running, stands_on, web
from tests.containers.hostprogram import NEW, RECORD, Subject, run_id
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

MARKS = f"{RECORD}/unsynced"
MARK = f"{MARKS}/20260101T000000-aaaaaa"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("cut")


def pushed(stage: Stage) -> str:
    """A closure has come to the host by a run that a power cut ended, as far as the host can tell."""
    host = stage.host("cut")
    host.exec("sh", "-c", f"mkdir -p {MARKS} && echo 'another boot' >{MARK}")
    stage.write("cut", web(new_version()))
    stage.toml({"cut": {"checks": [WEB]}})
    host.exec("mv", MARK, "/mnt/mark")
    closure = str(stage.fleet("push", "cut", "--json").hosts["cut"]["closure"])
    host.exec("mv", "/mnt/mark", MARK)
    return closure


def own(host: LabHost, closure: str) -> list[str]:
    """The store paths that came with the closure, the first ones first: its units, /etc and itself."""
    links = host.exec("readlink", "-f", f"{closure}/etc/systemd/system", f"{closure}/etc").stdout.split()
    return [*("/".join(link.split("/")[:4]) for link in links), closure]


def empty(host: LabHost, closure: str) -> None:
    """As ext4 leaves files: there, and empty."""
    for path in own(host, closure):
        host.exec("sh", "-c", f"find {path}/ -type f -exec sh -c 'chmod u+w \"$1\"; : >\"$1\"' sh '{{}}' ';'")
        host.exec("touch", "-h", path)


def vanish_in_part(host: LabHost, closure: str) -> None:
    """What has vanished is needed by something that has not."""
    units, etc, _ = own(host, closure)
    host.exec("rm", "-rf", units, closure)
    host.exec("test", "-e", etc)


def vanish(host: LabHost, closure: str) -> None:
    """As btrfs and ZFS leave them: as if the last of it had never been written."""
    host.exec("rm", "-rf", *own(host, closure))


@pytest.mark.parametrize("damage", [empty, vanish, vanish_in_part])
def test_what_is_damaged_is_found_and_sent_again(stage: Stage, damage: Callable[[LabHost, str], None]) -> None:
    host, closure = stage.host("cut"), pushed(stage)
    damage(host, closure)
    run = stage.deploy("cut")
    assert (run.code, run.outcomes) == (0, {"cut": "kept"}), run
    before, after = run.told("finding_reported", kind="damaged")
    assert (before["severity"], after["severity"]) == ("note", "note")
    assert run.told("push_finished")[0]["paths"] >= 2
    assert stands_on(host, closure)
    host.exec("sh", "-c", f"nix-store --verify-path $(nix-store --query --requisites {closure})")
    assert host.exec("ls", MARKS).stdout == ""


def test_a_plan_tells_of_it_and_leaves_it_to_those_who_may_change_the_host(stage: Stage) -> None:
    host, closure = stage.host("cut"), pushed(stage)
    empty(host, closure)
    plan = stage.document("plan", "cut")
    assert "damaged" in [finding["kind"] for finding in plan["findings"]]
    assert host.exec("ls", MARKS).stdout.strip() == MARK.rpartition("/")[2]
    assert host.exec("nix-store", "--check-validity", closure).status == 0
    assert stage.deploy("cut").outcomes == {"cut": "kept"}


def test_where_all_had_reached_the_disk_nothing_is_sent_again(stage: Stage) -> None:
    host, closure = stage.host("cut"), pushed(stage)
    run = stage.deploy("cut")
    assert (run.code, run.outcomes) == (0, {"cut": "kept"}), run
    assert "nothing was damaged" in run.told("finding_reported", kind="damaged")[1]["message"]
    assert run.told("host_planned")[0]["missing_paths"] == 0
    assert stands_on(host, closure)


def test_what_something_else_needs_is_left_to_people(stage: Stage) -> None:
    host, old = stage.host("cut"), running(stage.host("cut"))
    file = f"{old}/nixos-version"
    pushed(stage)
    host.exec("sh", "-c", f"cp -a {file} /mnt/kept; chmod u+w {file} {old}; echo more >>{file}; chmod u-w {old}")
    try:
        run = stage.deploy("cut")
        _, told = run.told("finding_reported", kind="damaged")
        assert (run.code, run.outcomes) == (0, {"cut": "kept"}), run  # it is not what was deployed
        assert old in told["message"]
        back = stage.fleet("rollback", "cut", "--json")
        assert back.outcomes == {"cut": "failed"}, back
        assert old in back.failure("cut")["message"]
    finally:
        host.exec("sh", "-c", f"cat /mnt/kept >{file}; chmod u-w {file}")
    assert stage.fleet("rollback", "cut", "--json").outcomes == {"cut": "kept"}
    assert stands_on(host, old)


def test_nothing_begins_before_that_is_known(subject: Subject) -> None:
    new = subject.closure(NEW)
    subject.sh(f"mkdir -p {MARKS} && echo 'another boot' >{MARK}")
    answer = subject.tell(subject.order(new))
    assert answer["refused"] == ["stale"]
    assert subject.running == subject.old
    assert "damaged" not in subject.call("verify")
    subject.confirm(subject.switched(new))
    assert subject.leftovers() == ""


def test_a_mark_is_there_before_anything_comes_and_until_the_switch_is_on_the_disk(subject: Subject) -> None:
    run = run_id()
    mark = f"{MARKS}/{run}"
    once = bringing(Command(argv=("test", "-s", mark)), RunId(run)).argv
    subject.host.exec(*once)
    subject.host.exec(*once)
    subject.switched(subject.closure(NEW), run=run)
    assert not subject.succeeds(f"test -e {mark}")
    subject.abandon(run)
    assert subject.leftovers() == ""


def test_a_mark_of_a_run_that_was_given_up_is_gone_too(subject: Subject) -> None:
    run = run_id()
    subject.host.exec(*bringing(Command(argv=("true",)), RunId(run)).argv)
    subject.call("unroot", run)
    assert subject.leftovers() == ""


FAILS = """
    mkdir -p {marks}; echo 'another boot' >{mark}; touch -d '1 day ago' {mark}
    mv /usr/bin/nix-store /usr/bin/nix-store.was
    printf '#!/bin/sh\ncase "$*" in *{word}*) exit 1 ;; esac\nexec /usr/bin/nix-store.was "$@"\n' >/usr/bin/nix-store
    chmod 755 /usr/bin/nix-store
"""


@pytest.mark.parametrize("word", ["--verify", "--check-validity"])
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash --posix"])
def test_a_look_that_fails_has_found_nothing_out(subject: Subject, word: str, shell: str) -> None:
    subject.use(shell)
    subject.closure(NEW)
    real = subject.sh("readlink -f /usr/bin/nix-store")
    subject.sh(FAILS.format(marks=MARKS, mark=MARK, word=word))
    try:
        assert subject.sh(f"{subject.asks} verify").startswith("refused=broken")
        assert subject.succeeds(f"test -e {MARK}")
    finally:
        subject.sh("mv /usr/bin/nix-store.was /usr/bin/nix-store")
    assert subject.sh("readlink -f /usr/bin/nix-store") == real
    assert "refused" not in subject.call("verify")
    assert not subject.succeeds(f"test -e {MARK}")


def test_only_one_looks_at_a_time(subject: Subject) -> None:
    """The one before may be of a controller that is gone."""
    subject.sh(f"mkdir -p {MARKS} /run/fleet && echo 'another boot' >{MARK}")
    assert subject.sh(f"flock /run/fleet/.verifying {subject.asks} verify").startswith("refused=broken")
    assert subject.succeeds(f"test -e {MARK}")
    assert "refused" not in subject.call("verify")
    assert subject.leftovers() == ""


def test_a_mark_of_an_earlier_boot_is_taken_away_by_nobody_who_has_not_looked(subject: Subject) -> None:
    subject.sh(f"mkdir -p {MARKS} && echo 'another boot' >{MARK}")
    other = run_id()
    subject.host.exec(*bringing(Command(argv=("true",)), RunId(other)).argv)
    subject.call("unroot", other)
    until(lambda: not subject.succeeds(f"test -e {MARKS}/{other}"), what="what is of this boot is gone")
    assert subject.succeeds(f"test -e {MARK}")
    subject.call("verify")


def test_a_mark_stays_for_as_long_as_something_may_come(subject: Subject) -> None:
    run, other = run_id(), run_id()
    hold = bringing(Command(argv=("sleep", "600")), RunId(run)).argv
    with subprocess.Popen(["docker", "exec", subject.host.container.name, *hold]):
        try:
            until(lambda: subject.succeeds(f"test -s {MARKS}/{run}"), what="the mark")
            subject.host.exec(*bringing(Command(argv=("true",)), RunId(other)).argv)
            subject.call("unroot", other)
            until(lambda: not subject.succeeds(f"test -e {MARKS}/{other}"), what="the other mark is gone")
            assert subject.succeeds(f"test -e {MARKS}/{run}")
        finally:
            subject.sh("pkill -x sleep")
    subject.call("unroot", other)
    assert subject.leftovers() == ""


@pytest.mark.parametrize(("before", "status"), [(f"mkdir -p {MARKS}; echo x >{MARKS}/r", 75), (f": >{RECORD}", 74)])
def test_without_a_mark_nothing_comes(subject: Subject, before: str, status: int) -> None:
    subject.sh(f"rm -rf {RECORD}; {before}")
    output = subject.host.exec(*bringing(Command(argv=("touch", "/mnt/came")), RunId("r")).argv, check=False)
    subject.sh(f"rm -rf {RECORD}")
    assert (output.status, output.stderr.startswith("error: ")) == (status, True)
    assert not subject.succeeds("test -e /mnt/came")

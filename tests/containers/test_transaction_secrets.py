"""Secrets in a transaction: written when it switches, and when it goes back, what was there is there to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.host import answers
from tests.containers import planted
from tests.containers.hostprogram import NEW, OLD, OPEN, RECORD
from tests.containers.orders import run_id
from tests.containers.planted import DISK, MEMORY, NEW_VALUE, OLD_VALUE, ask, line, put, staged, value
from tests.waiting import until

if TYPE_CHECKING:
    from tests.containers.hostprogram import Subject

PLACES = {"tmpfs": f"{MEMORY}/token", "disk": f"{DISK}/token"}


def starts(subject: Subject, *units: str) -> list[str]:
    """Which start of each unit this is."""
    return [subject.sh(f"systemctl show --property=InvocationID --value {unit}") for unit in units]


def leftovers(subject: Subject) -> str:
    """What is beside secrets, and what is staged."""
    return subject.sh(f"find {MEMORY} {DISK} -name '.*.fleet-*' -o -path '{MEMORY}/.staged/*'", check=False)


def begun(subject: Subject, values: dict[str, bytes], new: str = NEW, **changes: object) -> str:
    """A run with these secrets, which has begun."""
    run = staged(subject, values)
    return subject.begin(subject.closure(new), run=run, secret=tuple(values), **changes)


def asked_state(subject: Subject, secret: str) -> str:
    """What the host answers of this secret to `fleet secrets status`."""
    said = subject.feed(
        f"key {0:064}\nsecret {secret}\nend\n".encode(), *subject.asks.split(), "secrets", "compare", "secrets"
    )
    return answers.parse(said)["secret"][0]


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("storage", "when"),
    [
        ("tmpfs", "before"),
        ("disk", "after"),
        pytest.param("tmpfs", "after", marks=LONG),
        pytest.param("disk", "before", marks=LONG),
    ],
)
def test_kept_secret_is_written_and_its_units_run_with_it(subject: Subject, storage: str, when: str) -> None:
    secret, path = line(storage=storage, when=when, units="steady.service"), PLACES[storage]
    put(subject, {secret: OLD_VALUE})
    was = starts(subject, "steady")
    run = begun(subject, {secret: NEW_VALUE})
    subject.follow(run, "switched")
    subject.confirm(run)
    assert value(subject, path) == NEW_VALUE
    assert starts(subject, "steady") != was
    assert subject.sh(f"stat -c %U:%G:%a {path}") == f"root:root:{'400' if storage == 'tmpfs' else '600'}"
    assert leftovers(subject) == ""


@pytest.mark.parametrize(
    ("storage", "was_there"),
    [("disk", True), ("disk", False), ("tmpfs", True), pytest.param("tmpfs", False, marks=LONG)],
)
def test_secret_comes_back_as_it_was(subject: Subject, storage: str, *, was_there: bool) -> None:
    secret, path = line(storage=storage, units="steady.service"), PLACES[storage]
    if was_there:
        put(subject, {secret: OLD_VALUE})
    of_file = f"stat -c '%i %U %G %a %Y' {path}"
    before = subject.sh(of_file, check=False)
    run = begun(subject, {secret: NEW_VALUE})
    subject.follow(run, "switched")
    assert value(subject, path) == NEW_VALUE
    was = starts(subject, "steady")
    view = subject.abandon(run, "found its check fails")
    assert value(subject, path) == (OLD_VALUE if was_there else None)
    assert subject.sh(of_file, check=False) == before
    assert starts(subject, "steady") != was
    assert (view.blame, "a secret has changed" in view.reason) == ("silent", True)
    assert leftovers(subject) == ""


def test_same_secret_is_not_written_and_nothing_is_started_anew(subject: Subject) -> None:
    secret = line(units="steady.service")
    put(subject, {secret: OLD_VALUE})
    was, number = starts(subject, "steady"), subject.sh(f"stat -c %i {MEMORY}/token")
    run = begun(subject, {secret: OLD_VALUE}, OLD)
    subject.follow(run, "switched")
    subject.confirm(run)
    assert (starts(subject, "steady"), subject.sh(f"stat -c %i {MEMORY}/token")) == (was, number)
    assert not subject.succeeds(f"test -e /run/fleet/last/changed || test -e {RECORD}/last/changed")


def test_only_units_of_changed_secrets_are_started_anew(subject: Subject) -> None:
    token, other = line(units="steady.service"), line("other", units="web.service")
    put(subject, {token: OLD_VALUE, other: OLD_VALUE})
    was = starts(subject, "steady", "web")
    run = begun(subject, {token: NEW_VALUE, other: OLD_VALUE}, OLD)
    subject.follow(run, "switched")
    subject.confirm(run)
    is_now = starts(subject, "steady", "web")
    assert (is_now[0] != was[0], is_now[1] == was[1]) == (True, True)


def test_power_cut_takes_what_is_in_memory_and_nothing_that_was_on_the_disk(subject: Subject) -> None:
    memory, disk = line(units="steady.service"), line("kept", storage="disk", units="web.service")
    put(subject, {memory: OLD_VALUE, disk: OLD_VALUE})
    run = begun(subject, {memory: NEW_VALUE, disk: NEW_VALUE})
    subject.follow(run, "switched")
    assert value(subject, f"{DISK}/kept") == NEW_VALUE
    subject.host.power_off()
    subject.host.power_on()
    view = subject.follow(run, "reverted", within=90)
    assert (view.rebooted, view.missing_secrets) == (True, ("token",))
    assert value(subject, f"{DISK}/kept") == OLD_VALUE
    assert value(subject, f"{MEMORY}/token") is None
    put(subject, {memory: NEW_VALUE, disk: OLD_VALUE})
    assert subject.show(run).missing_secrets == ()


def test_values_that_have_not_come_are_asked_for_again(subject: Subject) -> None:
    secret = line()
    order = subject.order(subject.closure(NEW), secret=(secret,))
    assert subject.tell(order)["refused"] == ["incomplete"]
    assert subject.leftovers() == ""


@LONG
def test_keeper_that_dies_while_it_writes_goes_on(subject: Subject) -> None:
    secret = line(storage="disk", units="steady.service")
    put(subject, {secret: OLD_VALUE})
    slow = NEW + 'switchScript = "while test -e /run/busy; do sleep 0.05; done";'
    subject.sh("touch /run/busy")
    run = begun(subject, {secret: NEW_VALUE}, slow)
    until(lambda: value(subject, f"{DISK}/token") == NEW_VALUE, what="the secret is written")
    subject.sh(f"kill -9 {subject.keeper(run)}; rm /run/busy")
    subject.follow(run, "switched")
    subject.abandon(run)
    assert value(subject, f"{DISK}/token") == OLD_VALUE
    assert not subject.succeeds(f"test -e {OPEN}")


def test_no_secret_is_in_the_record(subject: Subject) -> None:
    secret = line(storage="disk")
    marker = b"marker-of-a-planted-value"
    run = begun(subject, {secret: marker})
    subject.follow(run, "switched")
    assert not subject.succeeds(f"grep -rlaF {marker.decode()} /run/fleet {RECORD}")
    subject.confirm(run)
    assert planted.value(subject, f"{DISK}/token") == marker


# --- places that others decide about ---

TRICKS = {
    "a link in its place": "ln -s /etc/passwd /run/lab/token",
    "a link above it": "ln -s /run/lab/real /run/lab/linked; mkdir /run/lab/real",
    "a folder of somebody": "mkdir /run/lab/theirs; chown operator /run/lab/theirs",
    "a folder that a group may write": "mkdir /run/lab/theirs; chmod 775 /run/lab/theirs",
    "a folder that all may write": "mkdir /run/lab/theirs; chmod 1777 /run/lab/theirs",
    "a pipe in its place": "mkfifo /run/lab/token",
    "a folder in its place": "mkdir /run/lab/token",
}


def test_place_that_others_than_root_decide_about_is_refused(subject: Subject) -> None:
    for trick in TRICKS:
        is_refused(subject, trick)


def is_refused(subject: Subject, trick: str) -> None:
    subject.sh(f"rm -rf /run/lab; mkdir -m 755 /run/lab; {TRICKS[trick]}")
    folder = "linked/" if "linked" in TRICKS[trick] else "theirs/" if "theirs" in TRICKS[trick] else ""
    secret = line(path=f"/run/lab/{folder}token")
    before = subject.sh("ls -lR /run/lab; sha256sum /etc/passwd")
    for verb in ("stage", "put", "fill"):
        assert ask(subject, verb, {secret: NEW_VALUE})["refused"] == ["unfit"], trick
    assert subject.sh("ls -lR /run/lab; sha256sum /etc/passwd") == before
    assert subject.sh(f"ls -A {MEMORY}/.staged") == ""
    subject.sh("rm -rf /run/lab")


BAD = (
    line(path="/run/../etc/x"), line(path="/nix/store/x", storage="disk"), line(path="/run/fleet/open/word"),
    line(mode="444"), line(mode="4400"), line(name="../x"), line(owner="-R"), line(units="--now"),
    line(path="/run/lab/.x.fleet-old"), line(storage="disk", mode="640"), line(path=f"{MEMORY}/.staged/x"),
    line(when="soon"), line(path="/run/$(id)"),
)  # fmt: skip


def test_line_that_no_controller_of_ours_writes_is_refused(subject: Subject) -> None:
    for bad in BAD:
        assert ask(subject, "put", {bad: NEW_VALUE})["refused"] == ["usage"], bad


def test_storage_that_does_not_fit_the_place_is_refused(subject: Subject) -> None:
    for secret in (line(path="/var/lib/x/token"), line(path="/run/lab/token", storage="disk")):
        assert ask(subject, "put", {secret: NEW_VALUE})["refused"] == ["unfit"]
        assert not subject.succeeds("test -e /var/lib/x || test -e /run/lab")


def test_unprivileged_user_reads_no_value_that_is_not_for_them(subject: Subject) -> None:
    theirs = line("theirs", owner="operator")
    put(subject, {line(): OLD_VALUE, theirs: OLD_VALUE})
    staged(subject, {line(): NEW_VALUE})
    look = f"ls {MEMORY}; cat {MEMORY}/token; ls {MEMORY}/.staged; cat {MEMORY}/.staged/*/values/*; echo x >{MEMORY}/x"
    done = subject.host.exec("runuser", "-u", "operator", "--", "sh", "-c", look, check=False)
    assert done.stdout == ""
    assert subject.succeeds(f"runuser -u operator -- cat {MEMORY}/theirs >/dev/null")
    assert subject.sh(f"stat -f -c %T {MEMORY}") == "ramfs"


def test_owner_that_is_not_there_yet_is_waited_for_or_refused(subject: Subject) -> None:
    for when, answer in (("before", {"refused": ["unfit"]}), ("after", {"compared": ["token yes"]})):
        said = ask(subject, "stage", {line(owner="nobody-yet", when=when): NEW_VALUE})
        assert answer.items() <= said.items()


@LONG
def test_the_shell_of_nixos_takes_the_same_bytes(subject: Subject) -> None:
    subject.use("/bin/bash --posix")
    value_of_all_bytes = bytes(range(256)) * 16
    put(subject, {line(): value_of_all_bytes})
    assert value(subject, f"{MEMORY}/token") == value_of_all_bytes
    run = begun(subject, {line(): NEW_VALUE}, OLD)
    subject.follow(run, "switched")
    subject.abandon(run)
    assert value(subject, f"{MEMORY}/token") == value_of_all_bytes


def test_put_that_was_cut_short_is_taken_back_so_that_the_next_one_is_whole(subject: Subject) -> None:
    """Else the value would be the same already, and its unit would go on with the old one."""
    secret = line(units="steady.service")
    put(subject, {secret: OLD_VALUE})
    was = starts(subject, "steady")
    written = "printf new >.token.fleet-new && chmod 400 .token.fleet-new && mv .token.fleet-new token"
    subject.sh(f"cd {MEMORY} && ln token .token.fleet-old && {written}")
    put(subject, {secret: b"new"})
    assert (value(subject, f"{MEMORY}/token"), leftovers(subject)) == (b"new", "")
    assert starts(subject, "steady") != was


def test_put_that_was_cut_short_differs_until_something_ends_it(subject: Subject) -> None:
    """Else a deployment would find nothing to do: the unit would go on with the old value, and a later way back too."""
    secret = line(storage="disk", units="steady.service")
    put(subject, {secret: OLD_VALUE})
    written = "printf new >.token.fleet-new && chmod 600 .token.fleet-new && mv .token.fleet-new token"
    subject.sh(f"cd {DISK} && ln token .token.fleet-old && {written}")
    assert asked_state(subject, secret) == "token unfinished"
    was = starts(subject, "steady")
    run = run_id()
    assert ask(subject, "stage", {secret: b"new"}, run)["compared"] == ["token yes"]
    subject.begin(subject.closure(OLD), run=run, secret=(secret,))
    subject.follow(run, "switched")
    subject.confirm(run)
    assert starts(subject, "steady") != was
    assert (asked_state(subject, secret) != "token unfinished", leftovers(subject)) == (True, "")


def test_secret_that_cannot_be_filled_keeps_no_other_away(subject: Subject) -> None:
    bad, good = line("bad", owner="nobody-yet", when="after"), line(units="steady.service")
    was = starts(subject, "steady")
    assert ask(subject, "fill", {bad: OLD_VALUE, good: NEW_VALUE})["refused"] == ["unfit"]
    assert (value(subject, f"{MEMORY}/token"), value(subject, f"{MEMORY}/bad")) == (NEW_VALUE, None)
    assert (starts(subject, "steady") != was, leftovers(subject)) == (True, "")


def test_full_run_keeps_no_unit_from_the_old_secret(subject: Subject) -> None:
    """Which units are to be started anew is written down there."""
    secret = line(storage="disk", units="steady.service")
    put(subject, {secret: OLD_VALUE})
    run = begun(subject, {secret: NEW_VALUE}, OLD, confirm=5)
    subject.follow(run, "switched")
    was = starts(subject, "steady")
    full = "mount -o remount,size=$(df -k --output=used /run | tail -n 1 | tr -d ' ')k /run"
    subject.sh(f"{full}; dd if=/dev/zero of=/run/fill bs=1k count=4096 2>/dev/null; ! echo x >/run/fleet/full")
    subject.follow(run, "reverted")
    subject.sh("mount -o remount,size=50% /run; rm -f /run/fill")
    assert (value(subject, f"{DISK}/token"), starts(subject, "steady") != was) == (OLD_VALUE, True)


def test_secret_that_could_not_be_written_starts_nothing_anew(subject: Subject) -> None:
    secret = line(storage="disk", units="steady.service")
    put(subject, {secret: OLD_VALUE})
    was = starts(subject, "steady")
    subject.sh(f"mkdir {DISK}/.token.fleet-new")  # what is to be renamed cannot be
    assert ask(subject, "put", {secret: NEW_VALUE})["refused"] == ["unfit"]
    assert value(subject, f"{DISK}/token") == OLD_VALUE
    subject.sh(f"rm -r {DISK}/.token.fleet-new")
    assert (starts(subject, "steady"), leftovers(subject)) == (was, "")


def test_what_is_not_declared_any_more_is_removed(subject: Subject) -> None:
    put(subject, {line(): OLD_VALUE, line("other", storage="disk"): OLD_VALUE})
    subject.sh(f"touch {DISK}/.other.fleet-old")  # of a `secrets put` that was cut short
    run = begun(subject, {line(): OLD_VALUE}, OLD)
    subject.follow(run, "switched")
    assert value(subject, f"{DISK}/other") == OLD_VALUE
    subject.confirm(run)
    assert (value(subject, f"{DISK}/other"), value(subject, f"{MEMORY}/token")) == (None, OLD_VALUE)
    assert leftovers(subject) == ""

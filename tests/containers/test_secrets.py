"""Secrets by the `fleet` that people run: to the host, compared, proven, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.driver import FLEET, Stage, is_open, new_version, running, stands_on, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

HOST = "keeper"
PLACE = "/run/fleet-secrets/token"


def reader(script: str) -> str:
    """A service that reads the secret as this shell script says, and another one that does not."""
    run = f"/bin/sh -c '${{busybox}} {script} exec ${{busybox}} sleep inf'"
    return f'services.reader.exec = "{run}"; services.other.exec = "${{busybox}} sleep inf";'


READER = reader(f"cat {PLACE} >/run/read;")
PICKY = reader(f"grep -q good {PLACE} &&")
FRESH = {"name": "fresh", "command": "grep -q good /run/read", "within": "2s", "interval": "200ms"}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(HOST)


@pytest.fixture
def host(stage: Stage) -> Iterator[LabHost]:
    """The host, up, without a secret."""
    host = stage.host(HOST)
    host.power_on()
    wait_until(lambda: not is_open(host), "no transaction is open")
    host.exec("sh", "-c", "rm -rf /run/fleet-secrets/* /run/read /var/lib/fleet-secrets /nix/var/fleet/secrets")
    yield host
    host.power_on()


def declare(stage: Stage, secret: dict[str, Any], **more: Any) -> None:
    """fleet.toml has this secret, named token."""
    stage.toml({HOST: {"secrets": {"token": {"restart": ["reader"], **secret}}, **more}})


def set_value(stage: Stage, text: str) -> Path:
    path = stage.folder / "token"
    path.write_text(text)
    return path


def system(stage: Stage) -> str:
    """The host is to run a new system with a reader of the secret. Its version."""
    version = new_version()
    stage.write(HOST, f'{{ busybox }}: {{ version = "{version}"; {READER} }}')
    return version


def starts(host: LabHost) -> list[str]:
    script = "for unit in reader other; do systemctl show --property=InvocationID --value $unit; done"
    return host.exec("sh", "-c", script).stdout.split()


def read(host: LabHost, path: str = PLACE) -> str:
    return host.exec("cat", path, check=False).stdout


def test_secret_comes_with_the_system_and_only_its_units_follow_its_changes(stage: Stage, host: LabHost) -> None:
    system(stage)
    declare(stage, {"file": str(set_value(stage, "bad 0"))}, checks=[FRESH])
    run = stage.deploy(HOST)
    assert (run.outcomes, read(host), run.told("secrets_filled")) == ({HOST: "rolled_back"}, "", [])
    set_value(stage, "good 1")
    run = stage.deploy(HOST)
    assert (run.outcomes, read(host)) == ({HOST: "kept"}, "good 1")
    assert run.told("secrets_compared")[0]["changed"] == ["token"]
    began, stood = starts(host), running(host)

    run = stage.deploy(HOST)  # the same: nothing begins
    assert (run.outcomes, starts(host)) == ({HOST: "unchanged"}, began)
    assert run.told("secrets_compared")[0]["same"] == ["token"]
    assert not run.told("host_switched")

    set_value(stage, "good 2")
    run = stage.deploy(HOST)
    assert (run.outcomes, read(host), read(host, "/run/read")) == ({HOST: "kept"}, "good 2", "good 2")
    assert (starts(host)[0] != began[0], starts(host)[1]) == (True, began[1])
    ledger = stage.fleet("ledger", "show").stdout
    assert [line.count("token") for line in ledger.splitlines() if "secret changed" in line] == [1, 1]
    assert run.told("host_planned")[0]["action"] == "secrets"

    set_value(stage, "bad 3")
    run = stage.deploy(HOST)
    assert run.outcomes == {HOST: "rolled_back"}
    assert run.failure(HOST)["kind"] == "silent"
    assert (read(host), read(host, "/run/read")) == ("good 2", "good 2")
    assert (stands_on(host, stood), starts(host)[1]) == (True, began[1])
    assert not stage.document("status", HOST)["hosts"][0]["quarantined"]


def test_plan_and_check_run_no_command_of_a_secret(stage: Stage, host: LabHost) -> None:
    system(stage)
    mark = stage.folder / "ran"
    declare(stage, {"command": ["sh", "-c", f"touch {mark}; printf good"]})
    assert stage.fleet("plan", HOST).code == 0
    stage.fleet("check")
    assert not mark.exists()
    assert stage.deploy(HOST).outcomes == {HOST: "kept"}
    assert mark.exists()


def test_value_that_cannot_be_had_leaves_the_host_as_it_was(stage: Stage, host: LabHost) -> None:
    system(stage)
    stood = running(host)
    declare(stage, {"command": ["sh", "-c", "echo the-value-itself >&2; exit 3"]})
    run = stage.deploy(HOST)
    assert (run.outcomes, run.failure(HOST)["kind"], running(host)) == ({HOST: "failed"}, "secret", stood)
    assert "the-value-itself" not in run.stdout + run.stderr


def test_status_tells_what_differs_and_push_mends_it(stage: Stage, host: LabHost) -> None:
    system(stage)
    stage.deploy(HOST)
    declare(stage, {"file": str(set_value(stage, "good 1"))})

    def state() -> str:
        return str(stage.document("secrets", "status", HOST, code=None)["hosts"][0]["secrets"][0]["state"])

    assert state() == "absent"
    pushed = stage.document("secrets", "push", HOST)["hosts"][0]
    assert (pushed["changed"], state(), read(host)) == (["token"], "same", "good 1")
    began = starts(host)
    assert stage.document("secrets", "push", HOST)["hosts"][0]["changed"] == []
    assert starts(host) == began
    host.exec("sh", "-c", f"chmod 440 {PLACE}")
    assert state() == "differs"
    stage.fleet("secrets", "push", HOST)
    assert state() == "same"
    stage.toml({HOST: {}})
    assert stage.document("secrets", "status", HOST, code=1)["hosts"][0]["left"] == ["token"]
    stage.fleet("secrets", "push", HOST)
    assert read(host) == ""


@pytest.mark.long
def test_secret_that_no_unit_starts_with_is_taken_back(stage: Stage, host: LabHost) -> None:
    version = new_version()
    declare(stage, {"file": str(set_value(stage, "good 1"))})
    stage.write(HOST, f'{{ busybox }}: {{ version = "{version}"; {PICKY} }}')
    assert stage.deploy(HOST).outcomes == {HOST: "kept"}
    set_value(stage, "bad")
    run = stage.fleet("secrets", "push", HOST)
    assert (run.code, read(host)) == (1, "good 1")
    assert "reader.service" in run.stderr
    assert host.exec("systemctl", "is-active", "reader").stdout.strip() == "active"


def test_service_fills_what_a_reboot_has_taken(stage: Stage, host: LabHost) -> None:
    system(stage)
    declare(stage, {"file": str(set_value(stage, "good 1"))})
    assert stage.deploy(HOST).outcomes == {HOST: "kept"}
    host.power_off()
    host.power_on()
    assert read(host) == ""
    assert stage.document("status", HOST, code=None)["hosts"][0]["missing_secrets"] == ["token"]
    service = stage.start("deliver", "--watch")
    wait_until(lambda: read(host) == "good 1", "the secret is there again")
    wait_until(lambda: read(host, "/run/read") == "good 1", "its unit runs with it")
    service.interrupt()
    service.process.wait(20)


# --- a value is nowhere else ---

MARKER = "planted-7e1f0c-value"


PATTERN = f"{MARKER[:8]}[{MARKER[8]}]{MARKER[9:]}"
"""Finds the marker, and not whoever looks for it."""


def everything_that_runs(host: LabHost, found: set[str], over: threading.Event) -> None:
    """Look for the marker among the arguments and environments of all processes, here and there, until it is over."""
    while not over.is_set():
        script = f"grep -la '{PATTERN}' /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
        found |= {f"there: {line}" for line in host.exec("sh", "-c", script, check=False).stdout.split()}
        found |= {f"here: {line}" for process in Path("/proc").glob("[0-9]*") if (line := has_it(process))}


def has_it(process: Path) -> str:
    """The command line of a process of this machine that has the marker; nothing for others, and for `fleet` itself.

    `fleet` was started with it, which cannot be taken back. So was its fork, which has the command line of `fleet`
    until it becomes another program. Who does that while it is looked at is looked at the next time.
    """
    with contextlib.suppress(OSError):
        before, environment, after = ((process / name).read_bytes() for name in ("cmdline", "environ", "cmdline"))
        is_fleet = FLEET.encode() in before.split(b"\0")
        if MARKER.encode() in before or (MARKER.encode() in environment and before == after and not is_fleet):
            return before.replace(b"\0", b" ").decode(errors="replace")
    return ""


def is_seen(host: LabHost) -> bool:
    """Whether a process with the marker would be found: one is started, here and there, and looked for."""
    over, found = threading.Event(), set[str]()
    # In two, so that the unit's own file does not have it; the path, since no PATH of a unit here has it.
    script = f"X='{MARKER[:9]}''{MARKER[9:]}' exec /usr/bin/sleep 60"
    unit = ("systemd-run", "--quiet", "--unit=planted", "sh", "-c", script)
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "X": MARKER}) as here:
        host.exec(*unit)
        watching = threading.Thread(target=everything_that_runs, args=(host, found, over), daemon=True)
        watching.start()
        wait_until(lambda: {line[:5] for line in found} >= {"here:", "there"}, "both are seen")
        over.set()
        watching.join()
        here.kill()
    host.exec("systemctl", "stop", "planted")
    return not host.exec("sh", "-c", f"grep -la '{PATTERN}' /proc/[0-9]*/environ", check=False).stdout


def test_value_is_nowhere_but_in_its_place(stage: Stage, host: LabHost, tmp_path: Path) -> None:
    system(stage)
    seen = tmp_path / "inherited"
    hook = {"when": "before_push", "on": "controller", "command": f"env >>{seen}"}
    secrets = {
        "token": {"env": "PLANTED", "restart": ["reader"]},
        "kept": {"command": [sys.executable, "-c", f"print('{MARKER[:9]}' + '{MARKER[9:]}')"], "storage": "disk"},
    }
    stage.toml({HOST: {"secrets": secrets, "hooks": [hook], "checks": [FRESH]}})
    assert is_seen(host)
    found: set[str] = set()
    over = threading.Event()
    watching = threading.Thread(target=everything_that_runs, args=(host, found, over), daemon=True)
    watching.start()
    given = {"PLANTED": f"good {MARKER}"}
    runs = [
        stage.deploy("-v", HOST, env=given),
        stage.fleet("secrets", "status", "--json", HOST, env=given),
        stage.deploy(HOST, env={"PLANTED": f"bad {MARKER}"}),
        stage.fleet("secrets", "push", HOST, env=given),
    ]
    over.set()
    watching.join()
    assert [run.code for run in runs] == [0, 0, 1, 0]
    assert read(host) == f"good {MARKER}"
    assert found == set()
    assert all(MARKER not in run.stdout + run.stderr for run in runs)
    assert MARKER not in seen.read_text()
    there = host.exec(
        "sh", "-c",
        f"grep -rla '{PATTERN}' / --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev 2>/dev/null;"
        f"journalctl --no-pager -o export | grep -ac '{PATTERN}'",
        check=False,
    ).stdout.split()  # fmt: skip
    assert sorted(there) == ["/run/fleet-secrets/token", "/run/read", "/var/lib/fleet-secrets/kept", "0"]
    files = [path for path in stage.home.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]
    assert files == []

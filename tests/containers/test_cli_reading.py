"""Commands that only look: their JSON is what scripts build on, and they change nothing."""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING

import pytest

from fleet.host.program import HostProgram, sent_along, source
from tests.containers.driver import WEB, Stage, new_version, running, stands_on, web

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

HOSTS = ("left", "right")
AGENT = 'files."etc/fleet/agents/claude" = "fleet-agent v1\\nhome /srv/work\\npackage claude-code {}\\n";'
MORE = f'packages.hello = "1.0"; packages.old = "3"; files."etc/motd.lab" = "hello\\n"; {AGENT.format("2.1.60")}'


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(*HOSTS)


@pytest.fixture(scope="module")
def _deployed() -> dict[str, str]:
    return {}


@pytest.fixture
def deployed(stage: Stage, _deployed: dict[str, str]) -> str:
    """The version that both hosts run: the second that was deployed there."""
    stage.toml({name: {"checks": [WEB]} for name in HOSTS})
    if not _deployed:
        for _ in range(2):
            _deployed["version"] = new_version()
            for name in HOSTS:
                stage.write(name, web(_deployed["version"], more=MORE))
            assert stage.deploy("--all").code == 0
    return _deployed["version"]


def test_status_tells_what_runs_is_kept_and_boots(stage: Stage, deployed: str) -> None:
    rows = stage.document("status")["hosts"]
    assert [row["name"] for row in rows] == list(HOSTS)
    keys = "name reachable running profile boot_default booted generation reboot_pending transaction quarantined"
    keys += " failed_units missing_secrets since staged nix_free boot_free gpu_jobs agents power read_only last_seen"
    keys += " error behind"
    for row in rows:
        assert list(row) == keys.split()
        closure = running(stage.host(row["name"]))
        assert (row["running"], row["profile"], row["boot_default"]) == (closure, closure, closure)
        assert (row["reachable"], row["generation"], row["reboot_pending"]) == (True, 3, False)
        assert (row["transaction"], row["quarantined"], row["failed_units"], row["error"]) == (None, [], [], None)
        assert abs(row["since"] - int(stage.host(row["name"]).exec("date", "+%s").stdout)) < 600
        assert row["nix_free"] > 1 << 20
    text = stage.fleet("status").stdout
    *lines, blank, agents = text.splitlines()[1:]
    assert (blank, agents) == ("", f"agent claude: claude-code 2.1.60 (on {', '.join(HOSTS)})")
    rows = [line.split() for line in lines]
    assert [[row[0], row[1], row[4], row[5]] for row in rows] == [[name, deployed, "3", "ok"] for name in HOSTS]


def test_program_is_sent_to_a_host_once_and_kept_by_its_hash(stage: Stage, deployed: str) -> None:
    host = stage.host("left")
    folder = "/run/fleet/programs"
    name = hashlib.sha256(source().encode()).hexdigest()
    look = f"stat -c '%a %U' {folder} {folder}/*; cd {folder} && sha256sum -- * && stat -c %Y-%i -- *"
    host.exec("sh", "-c", f"mkdir -p -m 700 {folder}; rm -f {folder}/*; echo old >{folder}/other")
    assert stage.document("status", "left")["hosts"][0]["error"] is None
    sent = host.exec("sh", "-c", look).stdout
    assert sent.splitlines()[:3] == ["700 root", "600 root", f"{name}  {name}"]
    assert stage.document("status", "left")["hosts"][0]["error"] is None
    assert host.exec("sh", "-c", look).stdout == sent


def test_program_that_cannot_be_kept_is_sent_each_time(stage: Stage, deployed: str) -> None:
    host = stage.host("left")
    host.exec("sh", "-c", "rm -rf /run/fleet/programs && touch /run/fleet/programs")
    try:
        assert [stage.document("status", "left")["hosts"][0]["error"] for _ in range(2)] == [None, None]
    finally:
        host.exec("rm", "/run/fleet/programs")


def test_program_that_was_cut_on_its_way_neither_runs_nor_stays(stage: Stage, deployed: str) -> None:
    host = stage.host("left")
    assert stage.document("status", "left")["hosts"][0]["error"] is None
    sent = shlex.join(sent_along(HostProgram().call("facts")).argv)
    keep = "mv /run/fleet/programs/* /run/lab-program"
    done = host.exec("sh", "-c", f"{keep} && head -c 50000 /run/lab-program | {sent}", check=False)
    assert (done.status, done.stdout) == (70, "")
    assert host.exec("ls", "-A", "/run/fleet/programs").stdout == ""
    whole = host.exec("sh", "-c", f"cat /run/lab-program | {sent} | head -n 1; rm /run/lab-program")
    assert whole.stdout == "format=2\n"


def test_generations_tell_where_a_rollback_goes(stage: Stage, deployed: str) -> None:
    host = stage.document("generations", "left")["hosts"][0]
    there = host["generations"]
    assert [one["number"] for one in there] == [1, 2, 3]
    assert [one["running"] for one in there] == [one["current"] for one in there] == [False, False, True]
    assert [one["previous"] for one in there] == [False, True, False]
    assert set(there[0]) == {"number", "created", "closure", "current", "running", "previous"}
    assert "(current, running)" in stage.fleet("generations", "left").stdout


def test_health_asks_the_checks_and_fails_for_a_failed_unit(stage: Stage, deployed: str) -> None:
    well = stage.document("health")["hosts"]
    assert [host["healthy"] for host in well] == [True, True]
    assert set(well[0]) == {"name", "healthy", "checks", "failed_units", "error"}
    host = stage.host("right")
    host.exec("systemd-run", "-q", "--unit=rotten", "--wait", "false", check=False)
    host.exec("systemd-run", "-q", "--unit=rotten2", "--property=Type=oneshot", "false", check=False)
    try:
        assert stage.document("status", "right", code=1)["hosts"][0]["reachable"]
        ill = stage.document("health", "right", code=1)["hosts"][0]
        assert (ill["healthy"], "rotten2.service" in ill["failed_units"]) == (False, True)
        text = stage.fleet("health")
        assert (text.code, "right: not healthy" in text.stdout, "left: healthy" in text.stdout) == (1, True, True)
    finally:
        host.exec("systemctl", "reset-failed")


def test_plan_tells_what_would_happen_and_nothing_does(stage: Stage, deployed: str) -> None:
    old = running(stage.host("left"))
    stage.write("left", web(new_version(), more='kernel = "6.13.1"; kernelParams = [ "quiet" ];'))
    plan = stage.document("plan")
    assert set(plan) == {"plan", "hosts", "findings", "error"}
    actions = {host["host"]: host["action"] for host in plan["hosts"]}
    assert actions == {"left": "switch", "right": "unchanged"}
    left = next(host for host in plan["hosts"] if host["host"] == "left")
    parts = ["kernel", "initrd", "kernel-modules", "kernel-params"]
    assert (left["running"], left["wave"], left["reboot"]) == (old, 1, parts)
    assert left["missing_paths"] > 0 < left["missing_bytes"]
    assert [finding["kind"] for finding in plan["findings"]] == ["needs_reboot"]
    assert plan["error"] is None
    assert stands_on(stage.host("left"), old)
    assert stage.host("left").exec("nix-store", "--check-validity", left["closure"], check=False).status != 0


def test_diff_tells_packages_units_files_and_reboot(stage: Stage, deployed: str) -> None:
    more = """packages.hello = "1.1"; packages.new = "7"; kernel = "6.13.1";
      services.fresh.exec = "${busybox} sleep inf"; files."etc/motd.lab" = "welcome\\n";"""
    more += AGENT.format("2.1.63")
    old = running(stage.host("left"))
    for name in HOSTS:
        stage.write(name, web(new_version(), more=more))
    found = stage.document("diff", "left")["hosts"]
    assert [set(host) for host in found] == [
        {"name", "from", "to", "packages", "size", "agents", "units", "etc", "reboot"}
    ]
    (host,) = found
    assert (host["name"], host["from"]) == ("left", old)
    package = {"name": "claude-code", "old": "2.1.60", "new": "2.1.63"}
    assert host["agents"] == [{"name": "claude", "kind": "changed", "packages": [package]}]
    told = str(host)
    for word in (
        "hello",
        "1.0",
        "1.1",
        "new",
        "fresh.service",
        "web.service",
        "motd.lab",
        "-hello",
        "+welcome",
        "kernel",
    ):
        assert word in told, host
    text = stage.fleet("diff").stdout
    assert "    claude     claude-code 2.1.60 → 2.1.63" in text.splitlines()
    rows = [line.split() for line in text.splitlines() if line.startswith("hello ")]
    assert rows == [["hello", "1.0", "→", "1.1", "left,", "right"]]  # folded: both change alike
    assert "reboot" in text
    assert running(stage.host("left")) == old


def test_build_names_the_closures_and_asks_no_host(stage: Stage, deployed: str) -> None:
    stage.host("right").power_off()
    try:
        found = stage.document("build")["hosts"]
    finally:
        stage.host("right").power_on()
    assert [host["name"] for host in found] == list(HOSTS)
    assert all(host["closure"].startswith("/nix/store/") for host in found)


def test_host_that_cannot_be_read_is_told_and_the_others_answer(stage: Stage, deployed: str) -> None:
    stage.host("right").power_off()
    try:
        for verb in ("status", "health", "generations"):
            rows = stage.document(verb, code=1)["hosts"]
            assert [row["error"] and row["error"]["kind"] for row in rows] == [None, "unreachable"], verb
        diff = stage.fleet("diff", "--json")
        assert (diff.code, "right" in diff.stderr) == (1, True)
    finally:
        stage.host("right").power_on()

"""What make bench counts, and how it is shown. The cases themselves are measured, not tested."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, cast

import pytest

from fleet.host import answers
from fleet.host.facts import host_facts
from fleet.model import Closure
from tests.bench import flake, measure, peers, report
from tests.bench.cases import CASES
from tests.bench.hosts import Hosts
from tests.bench.measure import Taken
from tests.bench.report import Row
from tests.bench.simulate import facts
from tests.bench.tree import family, resident

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.lab import Lab

OURS = Row("push", "fleet", Taken(1.0, 2.0, 64 << 20), 3, 2, nar_bytes=10**9, relayed_bytes=10**6)
FAST = Row("push", "fast", Taken(0.5, 4.0, 32 << 20), 3, 2, nar_bytes=10**9, relayed_bytes=4 * 10**6)
CHEAP = Row("push", "cheap", Taken(2.0, 1.0), 3, 2, nar_bytes=10**9)
ALONE = Row("other", "fleet", Taken(0.25), 3, 0)


def words(line: str) -> str:
    return " ".join(line.split())


def test_each_ratio_is_to_the_best_peer_in_its_column() -> None:
    head, *lines = report.table([OURS, FAST, CHEAP, ALONE])
    assert words(head) == "case tool wall ratio CPU ratio CPU/GB/host peak wire ratio"
    assert [words(line) for line in lines] == [
        "push fleet 1.00 s 2.00 2.00 s 2.00 1.00 s 64 MiB 1.00 MB 0.25",
        "push fast 500 ms 1.00 4.00 s 4.00 2.00 s 32 MiB 4.00 MB 1.00",
        "push cheap 2.00 s 4.00 1.00 s 1.00 500 ms",
        "other fleet 250 ms",
    ]


def test_columns_that_nobody_filled_are_left_out() -> None:
    assert words(report.table([ALONE])[0]) == "case tool wall"


def test_rows_are_kept_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DIR", str(tmp_path / "bench"))
    assert '"cpu_seconds_per_gb_and_host": 1.0' in report.keep([OURS]).read_text()


def test_peers_are_commands_for_each_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERS", "one=push {closure} {host}; two = x={host} y;")
    hosts = cast("Hosts", type("Two", (), {"names": ("a", "b")}))
    found = {name: commands(hosts, "/c") for name, commands in peers.peers().items()}
    assert found == {
        "one": [["sh", "-c", "push /c a"], ["sh", "-c", "push /c b"]],
        "two": [["sh", "-c", " x=a y"], ["sh", "-c", " x=b y"]],
    }


def test_peer_that_deploys_to_all_hosts_is_run_once_and_only_in_whole_deployments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PEERS", "one=push {closure} {host};all=deploy {flake}#all")
    monkeypatch.setattr(flake, "written", lambda hosts, closure: f"/{'-'.join(hosts.names)}{closure}")
    hosts = cast("Hosts", type("Two", (), {"names": ("a", "b")}))
    assert set(peers.peers()) == {"one"}
    assert peers.peers(whole=True)["all"](hosts, "/c") == [["sh", "-c", "deploy /a-b/c#all"]]


@pytest.mark.parametrize("wrong", ["deploy {host}", "name", "name=deploy {closure}", "name=deploy {host} {flake}"])
def test_peer_that_is_none_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERS", wrong)
    with pytest.raises(SystemExit, match="is not name=command"):
        peers.peers()


def test_memory_of_what_a_command_starts_is_counted() -> None:
    grown = "import time; data = bytearray(80 << 20); time.sleep(0.3)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grown!r}], check=True)"
    alone, tree = (measure.run([[sys.executable, "-c", code]]) for code in ("import time; time.sleep(0.1)", start))
    assert tree.memory - alone.memory > 80 << 20
    assert alone.memory < 20 << 20


def test_command_that_fails_ends_the_bench() -> None:
    with pytest.raises(SystemExit, match="ended with 3:\nno"):
        measure.run([["sh", "-c", "echo no >&2; exit 3"]])


def test_family_is_everybody_that_lives() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        there = dict(family(process.pid, 0))
        assert (len(there), set(there.values())) == (2, {0, process.pid})
        assert resident(process.pid) > 0
        subprocess.run(["kill", *map(str, there)], check=True)
    assert resident(process.pid) == 0


def test_simulated_host_stands_on_its_closure() -> None:
    found = host_facts(answers.parse(facts("/nix/store/x")))
    assert found.stands_on(Closure("/nix/store/x"))
    assert (found.reboot_pending, found.transaction, found.store_writable) == ((), None, True)


def test_case_that_there_is_not_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert all(name in done.stderr for name in ("nonsense", *CASES))


def test_what_a_host_took_is_the_difference_of_two_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looks = iter([(1.0, 100, 1000, 7), (3.5, 161, 5000, 9)])
    hosts = Hosts(cast("Lab", None), ("a", "b"), tmp_path)
    monkeypatch.setattr(Hosts, "_counted", lambda _: next(looks))
    with hosts.metered() as metered:
        taken = metered(Taken(1.0))
    # Each look starts a process on each host: 61 new ones on both are 29 for each besides.
    assert (taken.hosts_cpu, taken.processes, taken.wire, taken.connections) == (2.5, 29, 4000, 2)

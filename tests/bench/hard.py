"""Deployments under hard conditions: a host far away, one that does not answer, one that is as weak as a Pi Zero."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from fleet.lab import faults
from tests.bench import whole
from tests.bench.hosts import Hosts
from tests.bench.measure import Taken, median
from tests.bench.push import FLEET
from tests.bench.report import Row
from tests.pushes import relay

if TYPE_CHECKING:
    from tests.bench.bench import Bench
    from tests.bench.closures import Closure

PI_CPUS, PI_MEMORY = 0.2, 512 << 20
SWITCH = ("sh", "-c", '"$1"/bin/switch-to-configuration test 2>/dev/null', "sh")


def far(bench: Bench) -> list[Row]:
    """One host at a round trip of 50 ms."""
    lab = bench.lab("whole-0")
    old, new = (whole.built(bench, version) for version in ("old", "new"))
    with relay(lab, "whole-0", "--delay", "25ms") as port:
        hosts = Hosts.of(lab, ["whole-0"], bench.folder / "far-away", {"whole-0": port})
        whole.write_hasty(hosts)
        return whole.compare("deployment at 50 ms", hosts, old, new, bench.runs)


def dead(bench: Bench) -> list[Row]:
    """Two good hosts: alone, and beside a third one to which all packets are dropped. It counts when they are done."""
    names = ["whole-0", "whole-1", "whole-2"]
    lab = bench.lab(*names)
    old, new = (whole.built(bench, version) for version in ("old", "new"))
    good = Hosts.of(lab, names[:2], bench.folder / "two")
    every = Hosts.of(lab, names, bench.folder / "three")
    for hosts in (good, every):
        whole.write_hasty(hosts)
    whole.put(every, old)
    rows = []
    for case, hosts in (("two good hosts", good), ("two good hosts and a dead one", every)):
        taken = []
        try:
            if hosts is every:
                faults.cut(lab.host(names[2]))
            for number in range(bench.runs + 1):
                seconds = _until_kept(hosts, new, names[:2])
                whole.put(good, old)
                good.forget(new, old)
                print(f"  {case}: fleet: {seconds:.2f} s", file=sys.stderr, flush=True)
                taken += [Taken(seconds)] if number else []
        finally:
            faults.restore(lab.host(names[2]))
        rows.append(Row(case, "fleet", median(taken), bench.runs, len(hosts.names)))
    return rows


def _until_kept(hosts: Hosts, closure: Closure, names: list[str]) -> float:
    """Seconds from the start of the command until the last of these hosts has ended well."""
    inventory = str(hosts.folder / "hasty/fleet.toml")
    argv = [FLEET, "deploy", "--all", "--yes", "--json", "-f", inventory, "--closure", closure.top]
    started, left, seconds = time.perf_counter(), set(names), 0.0
    with subprocess.Popen(argv, env=whole.environment(hosts), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "host_finished" and event["result"]["outcome"] == "kept":
                left.discard(event["host"])
                if not left:
                    seconds = time.perf_counter() - started
    if left:
        raise SystemExit(f"{', '.join(left)} did not keep the system")
    return seconds


def pi(bench: Bench) -> list[Row]:
    """One host with a fifth of a processor and 512 MiB: a deployment, beside the system's own switch alone."""
    lab = bench.lab("whole-0", "weak")  # of its own: Docker takes no limit of memory away again
    old, new = (whole.built(bench, version) for version in ("old", "new"))
    hosts = Hosts.of(lab, ["weak"], bench.folder / "pi")
    whole.write_hasty(hosts)
    host = lab.host("weak")
    whole.put(hosts, new)
    whole.put(hosts, old)
    host.container.update(cpu_period=100_000, cpu_quota=int(PI_CPUS * 100_000), mem_limit=PI_MEMORY, memswap_limit=-1)
    own = []
    for _ in range(bench.runs):
        with hosts.metered() as metered:
            started = time.perf_counter()
            host.exec(*SWITCH, new.top)
            own.append(metered(Taken(time.perf_counter() - started)))
        host.exec(*SWITCH, old.top)
        print(f"  as weak as a Pi: its own switch: {own[-1].wall:.2f} s", file=sys.stderr, flush=True)
    rows = whole.compare("deployment to a Pi", hosts, old, new, bench.runs)
    return [*rows, Row("deployment to a Pi", "its own switch alone", median(own), bench.runs, 1)]

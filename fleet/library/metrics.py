"""Write what this machine knows of the fleet as metrics, to a file that Prometheus' node_exporter reads.

The format is Prometheus' text format 0.0.4, the names follow prometheus.io/docs/practices/naming. Labels are names of
fleet.toml and words of ours, so that there are never more series than hosts allow. Nothing is asked of any host.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from fleet import __version__
from fleet.errors import StateError
from fleet.files import replace_file
from fleet.library.seen import remembered
from fleet.model import Outcome, Verb
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fleet.inventory import Inventory
    from fleet.library.seen import LastSeen
    from fleet.library.tools import Tools
    from fleet.model import HostName, HostResult
    from fleet.state import Delivery, RunRecord

HELP = {
    "fleet_build_info": "The version of fleet that wrote this, as a label.",
    "fleet_hosts": "Hosts in fleet.toml.",
    "fleet_runs_under_way": "Runs that are under way on this machine.",
    "fleet_run_finished_timestamp_seconds": "When the last run of this command ended.",
    "fleet_run_duration_seconds": "How long the last run of this command took.",
    "fleet_run_exit_code": "The exit code of the last run of this command; 4 means that a host needs a human.",
    "fleet_host_outcome": "How the host ended in the last run that began there, as a label; the value is always 1.",
    "fleet_host_outcome_timestamp_seconds": "When that run ended.",
    "fleet_host_seen_timestamp_seconds": "When fleet status reached the host last.",
    "fleet_host_system_timestamp_seconds": "When the running system became the system profile.",
    "fleet_host_failed_units": "Failed units of systemd, when the host was seen last; 20 at most.",
    "fleet_host_reboot_pending": "Whether only a reboot makes the whole system live, when the host was seen last.",
    "fleet_host_nix_free_bytes": "Free space on the disk of /nix, when the host was seen last.",
    "fleet_host_boot_free_bytes": "Free space on the boot partition, when the host was seen last.",
    "fleet_host_delivery_waiting": "Whether something waits for the host, which was away when it was deployed to.",
}
"""Every metric, with what it is. All are gauges."""


class Sample(NamedTuple):
    """One value of one metric."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Known(NamedTuple):
    """What this machine knows of a fleet."""

    inventory: Inventory
    runs: Sequence[tuple[RunRecord, bool]]
    """The runs, newest first, each with whether it is under way."""
    seen: Mapping[HostName, LastSeen]
    waiting: Sequence[Delivery]


async def write(tools: Tools) -> str:
    """Replace the file of metrics, if fleet.toml names one, at once and as a whole.

    Return why that failed; nothing if it did not. Never raises, except when it is cancelled.
    """
    path = tools.inventory.metrics.textfile
    if path is None:
        return ""
    try:
        seen = await remembered(tools.state)
        known = await in_state(_read, tools, seen)
        await asyncio.to_thread(replace_file, path, text(samples(known)).encode(), mode=0o644)
    except OSError as error:
        return f"the metrics were not written: {path}: {error.strerror}"
    except StateError as error:
        return f"the metrics were not written: {error.message}"
    return ""


def _read(tools: Tools, seen: Mapping[HostName, LastSeen]) -> Known:
    state = tools.state
    records = state.runs()
    under_way = state.under_way([record.id for record in records])
    return Known(tools.inventory, [(one, one.id in under_way) for one in records], seen, state.deliveries())


def samples(known: Known) -> Iterator[Sample]:
    """Yield every value, those of one metric after another."""
    fleet = ("fleet", known.inventory.name)
    yield Sample("fleet_build_info", (fleet, ("version", __version__)), 1)
    yield Sample("fleet_hosts", (fleet,), len(known.inventory.hosts))
    yield Sample("fleet_runs_under_way", (fleet,), sum(is_under_way for _, is_under_way in known.runs))
    for metric, command, value in _of_runs(known.runs):
        yield Sample(metric, (fleet, ("command", command)), value)
    for name, (ended, at) in _outcomes(known).items():
        host = ("host", str(name))
        yield Sample("fleet_host_outcome", (fleet, host, ("outcome", ended.outcome.value)), 1)
        yield Sample("fleet_host_outcome_timestamp_seconds", (fleet, host), at)
    for name, last in known.seen.items():
        if name in known.inventory.hosts:
            for metric, value in _of_host(last):
                yield Sample(metric, (fleet, ("host", str(name))), value)
    late = {delivery.host for delivery in known.waiting if delivery.expires > time.time()}
    for name in known.inventory.hosts:
        yield Sample("fleet_host_delivery_waiting", (fleet, ("host", str(name))), name in late)


def _of_runs(runs: Iterable[tuple[RunRecord, bool]]) -> Iterator[tuple[str, str, float]]:
    """Yield a metric, a command and the value, for the last run of each command."""
    told: set[str] = set()
    for run, _ in runs:
        if run.verb not in tuple(Verb) or run.verb in told or run.finished is None:
            continue
        told.add(run.verb)
        yield "fleet_run_finished_timestamp_seconds", run.verb, run.finished
        if run.started is not None:
            yield "fleet_run_duration_seconds", run.verb, max(0.0, run.finished - run.started)
        if run.exit_code is not None:
            yield "fleet_run_exit_code", run.verb, run.exit_code


def _outcomes(known: Known) -> dict[HostName, tuple[HostResult, float]]:
    """Return how each host ended in the last run that began there, and when."""
    found: dict[HostName, tuple[HostResult, float]] = {}
    for run, _ in known.runs:
        for name, host in run.hosts.items():
            ended = host.result
            if name not in found and ended and ended.outcome is not Outcome.SKIPPED:
                found[name] = ended, run.finished or run.started or 0.0
    return {name: found[name] for name in known.inventory.hosts if name in found}


def _of_host(last: LastSeen) -> Iterator[tuple[str, float]]:
    yield "fleet_host_seen_timestamp_seconds", last.at
    if last.since > 0:
        yield "fleet_host_system_timestamp_seconds", last.since
    yield "fleet_host_failed_units", len(last.failed_units)
    yield "fleet_host_reboot_pending", bool(last.reboot_pending)
    yield "fleet_host_nix_free_bytes", last.nix_free
    if last.boot_free is not None:
        yield "fleet_host_boot_free_bytes", last.boot_free


def text(found: Iterable[Sample]) -> str:
    """Return the samples in Prometheus' text format, all of a metric together."""
    lines: dict[str, list[str]] = {metric: [] for metric in HELP}
    for metric, labels, value in found:
        shown = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels)
        lines[metric].append(f"{metric}{{{shown}}} {float(value):.17g}")
    return "".join(
        f"# HELP {metric} {HELP[metric]}\n# TYPE {metric} gauge\n" + "".join(f"{line}\n" for line in those)
        for metric, those in lines.items()
        if those
    )


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""The cases of `make bench`, each in a file of its own. A new one is a line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench import bump, hard, idle, model, push, revert, scale, slow_link, start, whole, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.bench.bench import Bench
    from tests.bench.report import Row


@dataclass(frozen=True)
class Case:
    """Something that people wait for."""

    about: str
    """One line for `--help`."""
    measure: Callable[[Bench], Sequence[Row]]
    """Gives a row for each tool."""


CASES: Mapping[str, Case] = {
    "start": Case("start-up of the command line, beside import click", start.measure),
    "revert": Case("from a failing verdict to the proven old system, beside its own switch", revert.measure),
    "cold": Case("push of 300 MB in 150 paths to 1, 4 and 8 hosts", push.cold),
    "deploy": Case("whole deployments to 3 and 8 hosts, beside nix-copy-closure and a switch by hand", whole.measure),
    "first": Case("whole deployments of 311 paths to hosts that have none of them, beside PEERS", bump.first),
    "bump": Case("whole deployments of 10 new paths of 311, and of none, beside PEERS", bump.bump),
    "far": Case("a whole deployment at a round trip of 50 ms", hard.far),
    "dead": Case("whole deployments beside a host to which all packets are dropped", hard.dead),
    "pi": Case("a whole deployment to a host with a fifth of a processor and 512 MiB", hard.pi),
    "noop": Case("deployments with nothing to do, to 100 lab hosts and 1,000 simulated ones", idle.measure),
    "scale": Case("deployments to 1,000 and 10,000 simulated hosts, without and with a switch", scale.measure),
    "workers": Case(
        "10,000 simulated hosts by 4 workers, two of them in trouble; beside none, and the queue alone", workers.measure
    ),
    "security": Case("security updates of Debian packages over 10 Mbit/s and 50 ms", slow_link.security),
    "rebuild": Case("1,000 paths in which only hashes changed, over 10 Mbit/s and 50 ms", slow_link.rebuild),
    "model": Case("a model of 2 GB for 3 hosts of a site, once; beside nix copy to each of them", model.measure),
    "update": Case("push of 5 paths out of 1,000 at a round trip of 50 ms", push.update),
}

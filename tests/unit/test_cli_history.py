"""`fleet history`: what hosts remember, for people and for scripts."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from fleet.errors import UnreachableError
from fleet.host.answers import State
from fleet.host.history import PastTransaction
from fleet.model import Closure, HostName, RunId, Serial
from tests.fakes import asks, said
from tests.unit.builders import NEW, OLD
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import CommandLine


def line(number: int, state: str, *, source: str = "git+file:///x rev 1f3c9ab0 dirty", reason: str = "-") -> str:
    """A transaction as a host tells it."""
    run = f"20261120T0511{number:02}-b7f230"
    times = (str(1795946400 + 60 * number), str(1795946430 + 60 * number))
    values = (f"{number}-a", run, "ann", "desk", *times, OLD, NEW, state, "-", "-", "-", source, "update", reason)
    return "\t".join(values)


def test_transactions_of_all_hosts_are_listed_newest_first(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b", "c", "d")
    world.on("a", (asks("history"), said(history=[line(1, "committed"), line(3, "reverted", reason="check web: 503")])))
    world.on("b", (asks("history"), said(history=[line(2, "stuck", source="-"), "no entry"])))
    world.on("c", (asks("history"), said()))
    world.on("d", (asks("history"), UnreachableError(HostName("d"), "no connection: gone")))
    said_ = command_line(world, "history")
    header, *rows = said_.out.splitlines()
    assert header.split() == ["host", "ended", "run", "by", "system", "revision", "outcome", "why"]
    assert [row.split()[0] for row in rows] == ["a", "b", "a"]
    assert ["ann@desk" in row for row in rows] == [True, True, True]
    assert "1f3c9ab-dirty  rolled back  update; check web: 503" in rows[0]
    assert "needs human  update" in rows[1]
    assert "kept         update" in rows[2]
    assert "c: remembers no transaction" in said_.err
    assert "error: d: no connection: gone" in said_.err
    assert said_.code == 1


def test_document_has_the_newest_of_each_host(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("history"), said(history=[line(number, "committed") for number in range(20)])))
    (host,) = json.loads(command_line(world, "history", "--json").out)["hosts"]
    assert [one["serial"] for one in host["transactions"]] == [f"{number}-a" for number in range(19, 9, -1)]
    (host,) = json.loads(command_line(world, "history", "--json", "-n", "1").out)["hosts"]
    (newest,) = host["transactions"]
    assert (host["name"], host["error"], set(newest)) == (
        "a",
        None,
        {field.name for field in dataclasses.fields(PastTransaction)},
    )
    assert (newest["by"], newest["origin"], newest["state"], newest["old"]) == ("ann", "desk", "committed", OLD)
    assert newest["ended"] - newest["began"] == 30


@pytest.mark.parametrize(
    ("source", "revision"),
    [
        ("git+file:///x rev 1f3c9ab0 clean", "1f3c9ab0"),
        ("git+file:///x rev 1f3c9ab0 dirty", "1f3c9ab0-dirty"),
        ("path:/x rev - dirty", ""),
        ("git+file:///x rev 1f3c9ab0 cl", ""),  # cut off by the host
        ("", ""),
    ],
)
def test_revision_is_read_from_the_source(source: str, revision: str) -> None:
    entry = PastTransaction(
        serial=Serial("1-a"), run=RunId("r"), by="", origin="", began=0, ended=0, old=Closure(OLD), new=Closure(NEW),
        state=State.COMMITTED, blame="", part="", plan="", source=source, intent="", reason="",
    )  # fmt: skip
    assert entry.revision == revision

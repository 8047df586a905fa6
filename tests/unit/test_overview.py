"""`fleet describe`: the whole fleet in a document that is short, and has no secret."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from fleet.library.seen import LastSeen
from fleet.model import HostName
from tests.fakes import asks
from tests.unit import builders
from tests.unit.builders import NEW
from tests.unit.test_docs import fields_of
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import CommandLine

SECRET = "hunter2"
FULL = f"""
tags = ["prod", "europe", "rack-17", "inference"]
checks = [
  {{ name = "shop", http = "http://127.0.0.1:8080/health", headers = {{ Authorization = "Bearer {SECRET}" }} }},
  {{ http = "http://127.0.0.1:8081/health?token={SECRET}" }},
  {{ command = "curl -u ann:{SECRET} http://x/" }},
  {{ unit = "nginx.service" }},
]
hooks = [{{ when = "after_commit", command = "notify --token {SECRET}" }}]
window = ["Mon-Fri 22:00-04:00 Europe/Berlin"]
"""


def full(tmp_path: Path, count: int) -> World:
    """A fleet of hosts about which there is much to be told; each was seen."""
    names = [f"machine-{number:03}" for number in range(count)]
    world = World(tmp_path, *names, more=FULL)
    units = tuple(f"unit-{number}.service" for number in range(9))
    seen = LastSeen.of(builders.facts(running=NEW, failed_units=units), 1_795_946_400.123).record()
    world.state.remember_seen(dict.fromkeys(map(HostName, names), seen), known=list(map(HostName, names)))
    return world


def test_a_fleet_of_50_hosts_is_told_in_less_than_20_kb_without_a_secret(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = full(tmp_path, 50)
    said = command_line(world, "describe", "--json")
    assert said.code == 0
    assert len(said.out.encode()) < 20_000
    assert SECRET not in said.out
    document = json.loads(said.out)
    assert document["kinds"] == {"server": 50}
    first = document["hosts"][0]
    assert fields_of("`describe`") == set(document)
    assert fields_of("a described host") == set(first)
    assert first["checks"] == ["shop", "http://127.0.0.1:8081/health", "command", "unit nginx.service"]
    assert (first["running"], first["failed_units"], first["seen"]) == (NEW, 9, 1_795_946_400)
    assert not any(asks("facts")(one) for link in world.links.values() for one in link.ran)


def test_people_read_it_as_a_table(tmp_path: Path, command_line: CommandLine) -> None:
    said = command_line(full(tmp_path, 2), "describe")
    assert said.code == 0
    assert said.out.startswith("home: 2 hosts (2 server), from ")
    assert re.search(r"^machine-000  server  prod, europe, rack-17, inference ", said.out, re.MULTILINE)
    assert SECRET not in said.out

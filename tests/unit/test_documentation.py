"""The fleet.toml examples in the documentation are true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fleet.inventory import Check, Host, RolloutTable, parse
from fleet.inventory.schema import FleetTable
from fleet.inventory.telling import MetricsTable, Notify
from fleet.model import HostName
from fleet.policy import principals, schema

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "fleet-toml.md"
BLOCK = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{file.name}-{number}")
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if file.exists()
    for number, block in enumerate(BLOCK.findall(file.read_text()), 1)
    if not block.startswith("# excerpt")
]


INVENTORY = """
[hosts.web]
tags = ["prod"]
[hosts.gpu-01]
kind = "gpu"
"""


@pytest.mark.parametrize("block", BLOCKS)
def test_every_toml_block_is_valid(block: str, tmp_path: Path) -> None:
    title, *_ = block.splitlines()
    if title not in ("# policy.toml", "# principals.toml"):
        parse(Path("/etc/home/fleet.toml"), block)
        return
    (tmp_path / title.removeprefix("# ")).write_text(block)
    people = principals.load(tmp_path)
    assert people is not None or schema.load(parse(tmp_path / "fleet.toml", INVENTORY), people) is not None


def test_the_policy_that_is_shown_has_every_key() -> None:
    text = (ROOT / "docs" / "policy.md").read_text()
    people, rules = (tomllib.loads(block) for block in BLOCK.findall(text))
    assert set().union(*people["principals"].values()) == set(principals.PrincipalTable.toml_keys())
    models = {kind.kind: kind for kind in schema.RULES}
    assert {kind: set(rules[kind][0]) for kind in models} == {
        kind: set(model.toml_keys()) for kind, model in models.items()
    }
    assert set(rules["approval"]) == set(schema.ApprovalTable.toml_keys())
    assert set(rules["protected"]) == set(schema.Protected.toml_keys())


def reference_tables() -> dict[str, set[str]]:
    block, *others = BLOCK.findall(REFERENCE.read_text())
    document = tomllib.loads(block)
    checks = [key for check in document["hosts"]["gpu-01"]["checks"] for key in check]
    return {
        # Keys that exclude each other are in blocks of their own.
        "fleet": set(document["fleet"]).union(*(tomllib.loads(other)["fleet"] for other in others)),
        "host": set(document["hosts"]["gpu-01"]),
        "check": set(checks),
        "rollout": set(document["rollout"]),
    }


def test_the_reference_has_every_key() -> None:
    assert reference_tables() == {
        "fleet": set(FleetTable.toml_keys()),
        "host": set(Host.toml_keys()) - {"name"},
        "check": set(Check.toml_keys()),
        "rollout": set(RolloutTable.toml_keys()),
    }


def test_the_page_of_notifications_has_every_key() -> None:
    block, *_ = BLOCK.findall((ROOT / "docs" / "notifications.md").read_text())
    document = tomllib.loads(block)
    assert {key for table in document["notify"] for key in table} == set(Notify.toml_keys()) - {"ntfy_file"}
    assert set(document["metrics"]) == set(MetricsTable.toml_keys())


def test_the_reference_shows_the_defaults() -> None:
    block, *_ = BLOCK.findall(REFERENCE.read_text())
    shown = parse(Path("/etc/home/fleet.toml"), block)
    bare = parse(Path("/etc/home/fleet.toml"), "[hosts.gpu-01]\nchecks = [{ http = 'http://x/' }]")
    host, default = (fleet.hosts[HostName("gpu-01")] for fleet in (shown, bare))
    check, default_check = (each.checks[0] for each in (host, default))
    examples = {
        "kind",
        "address",
        "port",
        "user",
        "jump",
        "flake",
        "tags",
        "after",
        "window",
        "host_key",
        "identity_file",
        "bandwidth",
        "site_address",
        "connect_timeout",
        "last_resort",
        "ignore_units",
        "ignore_drift",
        "ignore_snippets",
        "checks",
        "hooks",
        "secrets",
    }
    assert host.model_dump(exclude=examples) == default.model_dump(exclude=examples)
    examples = {"http", "name", "body", "headers"}
    assert check.model_dump(exclude=examples) == default_check.model_dump(exclude=examples)
    examples = {"push_at_once", "bandwidth", "waves"}
    assert shown.rollout.model_dump(exclude=examples) == bare.rollout.model_dump(exclude=examples)

"""An agent changes a real host over MCP: it plans, is told to ask a person, and goes on after the approval.

The client is that of the official SDK, and the server is the real `fleet mcp` over pipes.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.containers.driver import BUSY, FLEET, GATE, WEB, Stage, answer, new_version, web
from tests.containers.test_signed_plans import set_up
from tests.tools import git

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

POLICY = '[[agents]]\nname = "agents"\nhosts = "*"\nintent = true\n'


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


@asynccontextmanager
async def serving(stage: Stage, key: Path) -> AsyncIterator[Client]:
    """An agent's client, and the server that it has started."""
    words = ["mcp", "--as", "agent-3", "--key", str(key), "--file", str(stage.folder / "fleet.toml")]
    server = stdio_client(StdioServerParameters(command=FLEET, args=words, env=stage.environment, cwd=stage.folder))
    async with Client(server) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The document that the tool answers."""
    result = await client.call_tool(tool, arguments)
    document: dict[str, Any] = json.loads(getattr(result.content[0], "text", ""))
    assert not result.is_error, document
    return document


async def ended(client: Client, told: dict[str, Any]) -> dict[str, Any]:
    """The same when it does not run any more."""
    while told["state"] == "running":
        told = await call(client, "run", run=told["run"], wait=50)
    return told


async def test_agent_plans_asks_a_person_and_goes_on_and_what_it_began_outlives_its_server(stage: Stage) -> None:
    host = stage.settle("one")
    before, version = answer(host), new_version()
    key = set_up(stage)
    stage.toml({"one": {"checks": [WEB, GATE]}})
    (stage.folder / "flake" / "hosts" / "one.nix").write_text(web(version))
    git(stage.folder / "flake", "add", "--all")
    git(stage.folder / "flake", "commit", "-qm", f"version {version}")

    async with serving(stage, key) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"plan", "deploy", "rollback", "withdraw"} <= names
        (seen,) = (await call(client, "status", hosts=["one"]))["hosts"]
        assert seen["reachable"]
        made = await ended(client, await call(client, "plan", hosts=["one"], intent="update the shop", wait=1))
        assert (made["state"], made["count"], made["committed"]) == ("needs_approval", 1, True), made
        told = await call(client, "deploy", plan=made["plan"])
        assert told["state"] == "needs_approval"
        assert answer(host) == before
        asked = told["human"]["command"]

        approved = await asyncio.to_thread(stage.fleet, *asked.split()[1:], "--yes")
        assert approved.code == 0, approved
        host.exec("touch", BUSY)
        begun = await call(client, "deploy", plan=made["plan"], wait=0)
        assert begun["state"] == "running", begun
        again = await call(client, "deploy", plan=made["plan"], wait=0)
        assert again["run"] == begun["run"]

    async with serving(stage, key) as client:  # the first server has ended
        told = await call(client, "run", run=begun["run"])
        assert told["state"] == "running", told
        host.exec("rm", BUSY)
        told = await ended(client, told)
        assert (told["state"], told["exit_code"], told["outcomes"]) == ("finished", 0, {"kept": 1}), told
        assert answer(host) == f"version {version}"
        steps = (await call(client, "run", run=begun["run"], host="one"))["steps"]
        assert "switch" in [step.get("phase") for step in steps]
        (past,) = (await call(client, "history", hosts=["one"], newest=1))["hosts"]
        assert past["transactions"][0]["foreign"]["by"] == "agent-3"
        assert past["transactions"][0]["foreign"]["intent"] == "update the shop"

        told = await ended(client, await call(client, "rollback", hosts=["one"], intent="not what I meant"))
        assert (told["exit_code"], told["error"]["kind"]) == (2, "policy"), told
        assert told["human"]["command"].startswith("fleet rollback one --file ")
        assert answer(host) == f"version {version}"

        made = await ended(client, await call(client, "plan", hosts=["one"], intent="nothing new", wait=50))
        assert (made["state"], made["left_out"]["outcomes"]) == ("nothing_to_do", {"unchanged": 1})
        (stage.folder / "policy.toml").write_text(POLICY.replace("intent = true", 'verbs = ["deploy"]'))
        told = await ended(client, await call(client, "rollback", hosts=["one"], intent="not what I meant", wait=50))
        assert (told["state"], told["outcomes"]) == ("finished", {"kept": 1}), told
        assert answer(host) == before

"""What programs get of `fleet serve` with a token: the tools of `fleet mcp`, and metrics."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from prometheus_client.parser import text_string_to_metric_families

from fleet.errors import ConfigError
from fleet.policy import principals, tokens
from tests.unit import served
from tests.unit.served import OURS, browser, come_in, site_of
from tests.unit.test_mcp import CHANGING
from tests.unit.test_serve_live import serving
from tests.waiting import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.serve.site import Site
    from tests.unit.world import Applying

NAMES = ("ann", "agent-3", "agent-4", "ci")


@pytest.fixture
def world(tmp_path: Path) -> Applying:
    made = served.fleet_of(tmp_path, 14)
    asyncio.run(served.with_past(made))
    return made


@pytest.fixture
def held(world: Applying) -> dict[str, str]:
    """A token of each principal."""
    made = {name: tokens.new_token(int(time.time()) + 600) for name in NAMES}
    kinds = {"ann": '"person"', "agent-3": '"agent"\nmay_request = true', "agent-4": '"agent"', "ci": '"ci"'}
    (world.file.parent / "principals.toml").write_text(
        "".join(
            f'[principals.{name}]\nkind = {kinds[name]}\ntokens = ["{tokens.digest_of(token)}"]\n'
            for name, token in made.items()
        )
    )
    return made


@pytest.fixture
def site(world: Applying, held: dict[str, str]) -> Site:
    return site_of(world, listen=f"127.0.0.1:{free_port()}")


async def asked(site: Site, token: str, tool: str = "", **arguments: Any) -> tuple[set[str], dict[str, Any]]:
    """The tools that there are for somebody, and what one of them answers."""
    said = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=said, timeout=20) as http,
        Client(streamable_http_client(f"{site.settings.url}/mcp", http_client=http)) as client,
    ):
        names = {one.name for one in (await client.list_tools()).tools}
        if not tool:
            return names, {}
        (content,) = (await client.call_tool(tool, arguments)).content
        text = str(getattr(content, "text", ""))
        return names, json.loads(text) if text.startswith("{") else {"said": text}


async def test_each_principal_has_the_tools_that_it_may_use_at_the_same_time(site: Site, held: dict[str, str]) -> None:
    async with serving(site):
        found = await asyncio.gather(*(asked(site, held[name], "inventory") for name in NAMES))
    tools = {name: names for name, (names, _) in zip(NAMES, found, strict=True)}
    assert tools["agent-3"] >= CHANGING
    for name in ("ann", "agent-4", "ci"):
        assert tools[name]
        assert not tools[name] & CHANGING
    assert [document["acts_as"] for _, document in found] == ["ann", "agent-3", "ann", "ann"]
    assert [document["count"] for _, document in found] == [14] * 4


async def test_a_request_is_made_in_the_name_of_the_agent(
    site: Site, held: dict[str, str], world: Applying, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Any]] = []

    def begin(_: object, words: Any, **about: Any) -> Any:
        begun.append({"words": words(world.file.parent), **about})
        raise ConfigError("not here")

    monkeypatch.setattr("fleet.mcp.requests.Requests.begin", begin)
    async with serving(site):
        await asked(site, held["agent-3"], "rollback", hosts=["web-01"], intent="it is slow")
        _, refused = await asked(site, held["agent-4"], "rollback", hosts=["web-01"], intent="it is slow")
    assert "Unknown tool" in refused["said"]
    assert [(one["verb"], one["by"]) for one in begun] == [("rollback", "agent-3")]


async def test_a_cookie_is_no_token(site: Site) -> None:
    async with serving(site), httpx2.AsyncClient(base_url=site.settings.url, follow_redirects=True) as client:
        assert (await client.get(f"/enter?link={site.visitors.new_link()}")).status_code == 200
        said = {"sec-fetch-site": "same-origin", "origin": site.settings.url}
        answer = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=said)
        assert answer.status_code == 401
        client.cookies.clear()
        answer = await client.post("/mcp", json={}, headers={"Authorization": "Bearer guess"})
        assert answer.status_code == 401


def test_only_an_agent_may_request(tmp_path: Path) -> None:
    (tmp_path / "principals.toml").write_text('[principals.ann]\nkind = "person"\nmay_request = true\n')
    with pytest.raises(ConfigError, match="may_request is for agents"):
        principals.load(tmp_path)


def test_metrics_are_those_of_the_file_for_whoever_brings_a_token(world: Applying, held: dict[str, str]) -> None:
    site = site_of(world)
    with browser(site) as someone:
        assert someone.get("/metrics").status_code == 401
        answer = someone.get("/metrics", headers={"authorization": f"Bearer {held['ci']}"})
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {one.name: one for one in text_string_to_metric_families(answer.text)}
        assert families["fleet_hosts"].samples[0].value == 14
        outcomes = {one.labels["host"]: one.labels["outcome"] for one in families["fleet_host_outcome"].samples}
        assert (outcomes["db-01"], outcomes["build-01"]) == ("rolled_back", "needs_human")
        come_in(someone, site)
        assert someone.get("/metrics", headers=OURS).status_code == 200

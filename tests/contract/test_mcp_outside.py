"""Programs that are not ours talk to `fleet mcp`: the MCP project's inspector and its conformance suite.

FLEET_MCP_NPM names a folder in which npm has installed both, and node 22: docs/mcp.md says how.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fleet
from fleet.policy import tokens
from tests.unit import builders
from tests.waiting import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NPM = os.environ.get("FLEET_MCP_NPM", "")
OURS = str(Path(fleet.__file__).parent.parent)
SCENARIOS = {
    "server-initialize": 0,
    "server-session-lifecycle": 0,
    "server-stateless": 2,  # two checks need a tool that the suite's own server has
    "ping": 0,
    "tools-list": 0,
    "resources-list": 0,
    "prompts-list": 0,
    "dns-rebinding-protection": 0,
    "caching": 0,
    "http-header-validation": 0,
    "sep-2164-resource-not-found": 0,
    "server-sse-multiple-streams": 0,
    "input-required-result-unsupported-methods": 0,
}
"""Those of the suite that fit any server, and how many of their checks fail: the others need tools of certain names."""
OVER_HTTP = """
import sys
from pathlib import Path
from fleet.mcp.desk import Desk
from fleet.mcp.server import server
desk = Desk(file=Path(sys.argv[1]))
server(lambda: desk).run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
"""
pytestmark = [pytest.mark.long, pytest.mark.skipif(not NPM, reason="FLEET_MCP_NPM names no folder of npm")]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "fleet.toml").write_text(builders.toml("web-1", "web-2"))
    path = f"{NPM}/node_modules/node/bin:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": OURS}


def tool(name: str, *words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What a program of theirs says."""
    argv = [f"{NPM}/node_modules/.bin/{name}", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=environment)


def test_the_inspector_lists_calls_and_reads(tmp_path: Path, environment: dict[str, str]) -> None:
    starter = tmp_path / "serve"
    starter.write_text(
        f"#!/bin/sh\nPYTHONPATH={OURS} exec {sys.executable} -m fleet mcp --file {tmp_path}/fleet.toml\n"
    )
    starter.chmod(0o755)

    def inspect(*words: str, code: int = 0) -> Any:
        ran = tool("inspector", "--cli", str(starter), *words, environment=environment)
        assert ran.returncode == code, ran
        return json.loads(ran.stdout)

    assert len(inspect("--method", "tools/list")["tools"]) == 15
    called = inspect("--method", "tools/call", "--tool-name", "inventory")
    assert json.loads(called["content"][0]["text"])["count"] == 2
    inspect("--method", "tools/call", "--tool-name", "status", "--tool-arg", 'hosts=["x"]', code=5)
    assert (
        inspect("--method", "resources/read", "--uri", "fleet://plans")["contents"][0]["mimeType"] == "application/json"
    )


def test_the_inspector_has_what_its_token_may_have_over_http(tmp_path: Path, environment: dict[str, str]) -> None:
    token, port = tokens.new_token(4_000_000_000), free_port()
    (tmp_path / "principals.toml").write_text(
        f'[principals.ann]\nkind = "person"\ntokens = ["{tokens.digest_of(token)}"]\n'
    )
    listen = f"127.0.0.1:{port}"
    argv = [sys.executable, "-m", "fleet", "serve", "--no-ask", "--listen", listen, "--file", f"{tmp_path}/fleet.toml"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: answers(port) or process.poll() is not None, within=60, what="the server answers")

            def inspect(bearer: str, *words: str) -> subprocess.CompletedProcess[str]:
                there = (f"http://{listen}/mcp", "--transport", "http", "--header", f"Authorization: Bearer {bearer}")
                return tool("inspector", "--cli", *there, *words, environment=environment)

            listed = json.loads(inspect(token, "--method", "tools/list").stdout)
            assert len(listed["tools"]) == 11
            called = json.loads(inspect(token, "--method", "tools/call", "--tool-name", "inventory").stdout)
            assert json.loads(called["content"][0]["text"])["count"] == 2
            assert inspect("wrong", "--method", "tools/list").returncode == 3
        finally:
            process.terminate()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def over_http(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of the same server over HTTP, which the suite needs, while inside."""
    port = free_port()
    argv = [sys.executable, "-c", OVER_HTTP, str(tmp_path / "fleet.toml"), str(port)]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: answers(port) or process.poll() is not None, within=60, what="the server answers")
            assert process.poll() is None
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.terminate()


def test_the_conformance_suite_passes(tmp_path: Path, environment: dict[str, str]) -> None:
    with over_http(tmp_path, environment) as url:
        for scenario, failing in SCENARIOS.items():
            ran = tool("conformance", "server", "--url", url, "--scenario", scenario, environment=environment)
            found = re.search(r"Passed: (\d+)/(\d+), (\d+) failed", ran.stdout)
            assert found, ran.stdout
            assert (int(found[3]), int(found[1]) > 0) == (failing, True), ran.stdout

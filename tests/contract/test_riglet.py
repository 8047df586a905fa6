"""The riglet for rigup.nix: what agents learn is true, and what they may not do is denied to them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fleet import __version__, cli
from fleet.cli.parse import complaint
from fleet.mcp.tools import all_tools
from fleet.model import Outcome
from fleet.source.commands import shown
from tests.nixos_modules import value_of

RIGLET = Path(__file__).parent.parent.parent / "riglets" / "fleet"
SKILL = (RIGLET / "SKILL.md").read_text()
READING = {
    *("check", "plan", "show", "policy", "build", "diff", "describe", "status", "doctor"),
    *("runs", "health", "generations", "history", "ledger", "changes", "who", "logs", "workers"),
}
"""The commands that an agent may run: none of them changes a host, or speaks for a person, whatever its flags are."""


def commands() -> list[str]:
    return [command for _, command in shown(SKILL, cli.COMMANDS)]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_skill_parses_and_is_not_denied(command: str) -> None:
    assert complaint(command) is None
    assert command.split()[1] in READING


def test_the_skill_shows_commands_and_names_every_tool_and_outcome_that_agents_meet() -> None:
    assert len(commands()) >= 9
    named = set(re.findall(r"`(\w+)`", SKILL))
    tools = {tool.name for tool in all_tools(lambda: pytest.fail("nobody asks"))}
    assert {
        "inventory",
        "status",
        "plan",
        "diff_plan",
        "deploy",
        "run",
        "runs",
        "withdraw",
        "rollback",
    } <= named & tools
    assert {outcome.value for outcome in Outcome} - named == {"staged"}


def test_the_skill_begins_with_what_harnesses_read() -> None:
    found = re.match(r"---\nname: fleet\ndescription: (.{50,400})\n---\n", SKILL)
    assert found


def riglet(settings: str = "") -> Any:
    """What the module is with these settings, with packages that are none."""
    text = f"""
      let
        package = {{
          version = "{__version__}"; dependencies = [ ]; optional-dependencies.serve = [ ];
          overridePythonAttrs = change: package // change package;
          meta.mainProgram = "fleet"; outPath = "/fleet"; type = "derivation"; name = "fleet";
        }};
        any = lib.mkOption {{ type = lib.types.anything; }};
        made = lib.evalModules {{
          specialArgs = {{
            system = "x86_64-linux";
            pkgs.writeShellScriptBin = name: text: {{ inherit name text; }};
            pkgs.socat = package // {{ meta.mainProgram = "socat"; outPath = "/socat"; }};
          }};
          modules = [
            (import {RIGLET} {{ packages.x86_64-linux.fleet = package; }})
            {{ options = {{ riglets = any; mcpServers = any; }}; }}
            {{ fleet.principal = "agent-3"; fleet.file = "/etc/a fleet/fleet.toml"; {settings} }}
          ];
        }};
      in
      {{
        inherit (made.config.riglets.fleet) denyRules meta;
        inherit (made.config.mcpServers.fleet) command;
        docs = builtins.readDir made.config.riglets.fleet.docs;
      }}
    """
    return value_of(text)


def test_all_that_changes_something_is_denied_as_a_command() -> None:
    rules = re.search(
        r"denyRules = \{\s*fleet = \[(.*?)\];", (RIGLET / "default.nix").read_text(encoding="utf-8"), re.DOTALL
    )
    assert rules
    denied = set(re.findall(r'"([^"]*)"', rules[1]))
    assert denied - {"--debug"} == set(cli.COMMANDS) - READING
    assert all(" " not in rule for rule in denied), "a flag may stand before a second word"
    assert "--debug" in denied


def test_the_riglet_is_of_this_version_and_brings_its_skill() -> None:
    made = riglet()
    assert "--debug" in made["denyRules"]["fleet"]
    assert made["meta"]["version"] == __version__
    assert "SKILL.md" in made["docs"]


def test_the_server_of_the_riglet_acts_as_the_agent() -> None:
    text = riglet()["command"]["text"]
    words = text.split("exec /fleet/bin/", 1)[1].replace('"$@"', "").strip()
    assert "--as agent-3" in words
    assert complaint(words) is None


def test_the_server_of_the_riglet_may_be_one_that_runs_elsewhere() -> None:
    text = riglet('fleet.socket = "/run/fleet-mcp/a/socket";')["command"]["text"]
    assert text == "exec /socat/bin/socat - UNIX-CONNECT:/run/fleet-mcp/a/socket\n"

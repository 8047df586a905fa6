"""What modules/agents.nix makes of agents, and what it refuses to let them be."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.nixos_modules import complaints, configured

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
TOOL = '{ type = "derivation"; name = "claude-code-2.1.9"; outPath = "/opt/claude"; }'
FLEET = '{ type = "derivation"; name = "fleet"; outPath = "/opt/fleet"; }'
DESK = 'mcp = { enable = true; user = "deployments"; file = "/srv/fleet.toml"; };'


def having(agents: str, more: str = "") -> str:
    ours = f"services.fleet.agents = {{ enable = true; package = {FLEET}; agents = {{ {agents} }}; }};"
    programs = 'services.fleet.sandbox = { program = "/nix/store/x-program"; probe = "/nix/store/x-probe"; };'
    return f"{{ imports = [ {{ {ours} {programs} }} ({more or '{ }'}) ]; }}"


def made(agents: str, wanted: str) -> Any:
    assert complaints(("agents", "sandbox"), having(agents)) == []
    return configured(("agents", "sandbox"), having(agents), wanted)


def test_an_agent_is_a_user_who_can_become_nobody_else() -> None:
    user = made(f"a = {{ packages = [ {TOOL} ]; }};", "config.users.users.a")
    assert (user["isNormalUser"], user["group"], user["extraGroups"], user["hashedPassword"]) == (True, "a", [], "!")
    assert user["home"] == "/var/lib/fleet-agents/a"
    assert 30000 <= user["uid"] < 50000
    assert user["uid"] == made('a = { memory = "1G"; };', "config.users.users.a.uid")
    assert user["uid"] != made("b = { };", "config.users.users.b.uid")


def test_versions_are_in_the_closure_and_in_a_file_that_is_compared() -> None:
    agent = f'a = {{ packages = [ {TOOL} ]; workspace = "/srv/site"; }};'
    text = made(agent, 'config.environment.etc."fleet/agents/a".text')
    assert text.splitlines() == ["fleet-agent v1", "home /srv/site", "package claude-code 2.1.9"]
    assert made(agent, "map toString config.users.users.a.packages") == ["/opt/claude"]


def test_its_sandbox_has_its_tools_and_its_limits() -> None:
    wanted = """let it = config.services.fleet.sandbox.sandboxes.a; in removeAttrs it [ "packages" ]
      // { packages = map toString it.packages; on = config.services.fleet.sandbox.enable; }"""
    agent = f"""a = {{ packages = [ {TOOL} ]; rig = {TOOL} // {{ outPath = "/opt/rig"; }}; memory = "3G"; cpus = 4;
      command = [ "claude" ]; sandbox = {{ egress = [ "api.anthropic.com" ]; credentials.t = "/run/t"; ttl = "2h"; }};
      {DESK} }};"""
    box = made(agent, wanted)
    assert (box["user"], box["memory"], box["cpus"], box["ttl"], box["on"]) == ("a", "3G", 4, "2h", True)
    assert (box["egress"], box["credentials"], box["command"]) == (["api.anthropic.com"], {"t": "/run/t"}, ["claude"])
    assert box["packages"] == ["/opt/claude", "/opt/rig", "/opt/fleet-mcp"]
    assert (box["environment"], box["sockets"]) == ({"RIG": "/opt/rig"}, ["/run/fleet-mcp/a/socket"])
    assert (box["workspace"], box["nixDaemon"], box["autostart"]) == ("/var/lib/fleet-agents/a", True, False)
    assert not made("a = { nix = false; };", "config.services.fleet.sandbox.sandboxes.a.nixDaemon")


def test_logins_of_an_agent_are_limited_together() -> None:
    wanted = "{ uid = config.users.users.a.uid; slices = config.systemd.slices; }"
    found = made('a = { memory = "3G"; cpus = 4; tasks = 999; };', wanted)
    slice_ = found["slices"][f"user-{found['uid']}"]
    assert slice_["sliceConfig"] == {"MemoryMax": "3G", "CPUQuota": "400%", "TasksMax": 999}
    assert slice_["overrideStrategy"] == "asDropin"


def test_it_asks_for_deployments_at_a_socket_of_its_own_and_has_no_key() -> None:
    wanted = """{ inherit (config.systemd) sockets; service = config.systemd.services."fleet-mcp-a@".serviceConfig;
      client = (lib.last config.users.users.a.packages).text; }"""
    found = made(f'a = {{ {DESK} mcp.principal = "agent-3"; mcp.readOnly = true; }};', wanted)
    socket = found["sockets"]["fleet-mcp-a"]["socketConfig"]
    assert (socket["SocketUser"], socket["SocketMode"], socket["Accept"]) == ("a", "0600", True)
    assert found["service"]["User"] == "deployments"
    assert found["service"]["ExecStart"] == "/opt/fleet/bin/fleet mcp --as agent-3 --file /srv/fleet.toml --read-only"
    assert found["client"].endswith(f"UNIX-CONNECT:{socket['ListenStream']}")
    assert made("a = { };", "config.systemd.sockets") == {}


@pytest.mark.parametrize(
    ("agents", "more", "words"),
    [
        ("a-name-that-no-account-of-linux-may-have = { };", "", "small letters"),
        ("a = { uid = 4000; }; b = { uid = 4000; };", "", "lead to the same number: a b"),
        ("a = { };", '{ users.users.a.extraGroups = [ "wheel" ]; }', "a of services.fleet.agents is in wheel"),
        ("a = { };", '{ users.groups.docker.members = [ "a" ]; }', "a of services.fleet.agents is in docker"),
        (
            "a = { };",
            '{ security.sudo.extraRules = [ { users = [ "a" ]; commands = [ "ALL" ]; } ]; }',
            "agents have no sudo",
        ),
        ("a = { };", '{ nix.settings.trusted-users = [ "@a" ]; }', "whom Nix trusts"),
        ("a = { };", '{ nix.settings.allowed-users = [ "@wheel" ]; }', "agents have Nix: add the agent"),
        ("a = { mcp.enable = true; };", "", "mcp needs user, and file"),
        (f"a = {{ {DESK.replace('deployments', 'b')} }}; b = {{ }};", "", "is an agent, which would have the keys"),
    ],
)
def test_what_would_be_more_than_an_agent_is_refused(agents: str, more: str, words: str) -> None:
    said = complaints(("agents", "sandbox"), having(agents, more))
    assert any(words in message for message in said), said


def test_without_the_module_of_sandboxes_an_agent_has_to_say_that_it_has_none() -> None:
    alone = "{ services.fleet.agents = { enable = true; agents.a = { }; }; }"
    (message,) = complaints(("agents",), alone)
    assert "import nixosModules.sandbox too, or set sandbox.enable = false" in message
    assert complaints(("agents",), alone.replace("a = { };", "a.sandbox.enable = false;")) == []

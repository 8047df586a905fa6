"""Sandboxes on a lab host: what runs in one comes out nowhere, or `fleet sandbox prove` says that it would."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import Stage, wait_until
from tests.containers.files import put, shell
from tests.containers.sandboxes import DEBIAN, answer, broken, inside, install, ways_out
from tests.nixos_modules import configured

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

needs_nix = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
pytestmark = needs_nix
SEEN = "203.0.113.5"
"""An address of the neighbour that is not of a private network."""


CLAUDE = """services.fleet.agents = { enable = true;
  package = { type = "derivation"; name = "fleet"; outPath = "/opt/fleet"; };
  agents.claude = { packages = [ { type = "derivation"; name = "claude-code-2.1.9"; outPath = "/usr"; } ];
    mcp = { enable = true; user = "deploy"; file = "/srv/fleet.toml"; }; }; };"""
"""An agent with Nix and without logins, whom the user `deploy` serves."""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("box", "lan")


@pytest.fixture(scope="module")
def lan(lab: Lab) -> str:
    """The address of a neighbour who listens on the ports 8098 and 8099, also at `SEEN`."""
    host = lab.host("lan")
    shell(
        host,
        f"""
        ip address add {SEEN}/32 dev lo
        mkdir -p /srv/www; echo neighbour >/srv/www/index.html
        for port in 8098 8099; do systemd-run -q --unit=www-$port busybox httpd -f -p $port -h /srv/www; done
        """,
    )
    return shell(host, "ip -4 -o address show dev eth0 | sed -E 's#.* inet ([0-9.]+)/.*#\\1#'")


@pytest.fixture(scope="module")
def box(lab: Lab, lan: str) -> LabHost:
    """A host with sandboxes."""
    host = lab.host("box")
    shell(
        host,
        f"""
        mount --make-rshared /  # as systemd does it where it is in no container; else credentials come nowhere
        ip route add {SEEN} via {lan}
        printf '{SEEN} seen.example\\n{lan} private.example\\n' >>/etc/hosts
        mknod /dev/lab-disk b 7 7
        echo its-token >/etc/token
        echo secret >/dev/shm/of-the-host
        echo other >/etc/other-token
        mkdir -p /srv/site /srv/weak
        chmod 777 /srv/site /srv/weak
        """,
    )
    seen = shell(host, "readlink -f /run/current-system")
    uid = configured(("agents",), f"{{ {CLAUDE} }}", "config.users.users.claude.uid")
    shell(host, f"groupadd -g {uid} claude; useradd -u {uid} -g {uid} -m -d /var/lib/fleet-agents/claude claude")
    put(host, "/opt/fleet/bin/fleet", '#!/bin/sh\necho "$(id -un): $*"\n', mode="755")
    install(
        host,
        f"""{{ {CLAUDE} services.fleet.sandbox.sandboxes = {{
          claude = {{ {DEBIAN} }};
          agent = {{ {DEBIAN} ttl = "1h"; credentials.token = "/etc/token"; workspace = "/srv/site"; }};
          other = {{ {DEBIAN} credentials.secret = "/etc/other-token"; }};
          net = {{ {DEBIAN} egress = [ "{lan}:8099" "seen.example:8099" "private.example:8098" ]; }};
          short = {{ {DEBIAN} ttl = "3s"; }};
          kept = {{ {DEBIAN} ephemeral = false; }};
          weak = {{ {DEBIAN} workspace = "/srv/weak"; credentials.token = "/etc/token";
            command = [ "touch" "/work/ran" ]; }};
          limited = {{ readOnly = [ "/usr" "/bin" "/lib" "/lib64" ]; }};
        }}; }}""",
        store=f"{seen}\n",
        modules=("agents", "sandbox"),
    )
    shell(host, "systemctl start fleet-mcp-claude.socket")
    return host


@pytest.fixture
def up(box: LabHost, stage: Stage) -> Stage:
    """`fleet sandbox` for the host, on which the sandbox `agent` is up."""
    stage.toml({"box": {}, "lan": {}})
    if box.exec("systemctl", "is-active", "fleet-sandbox-agent.service", check=False).status:
        report = stage.document("sandbox", "up", "box/agent")["hosts"][0]
        assert (report["state"], report["holds"]) == ("active", True)
    return stage


def test_a_sandbox_comes_up_proven_and_leaves_nothing(up: Stage, box: LabHost) -> None:
    listed = up.document("sandbox", "list")["hosts"]
    assert [host["name"] for host in listed] == ["box"]  # the other one has none, and was not asked for
    states = {one["name"]: one["state"] for one in listed[0]["sandboxes"]}
    packages = {one["name"]: one["packages"] for one in listed[0]["sandboxes"] if one["packages"]}
    assert packages == {"claude": "claude-code 2.1.9"}
    assert states == {
        "agent": "active",
        **dict.fromkeys(("claude", "kept", "limited", "net", "other", "short", "weak"), "inactive"),
    }
    report = up.document("sandbox", "prove", "box/agent")["hosts"][0]
    assert report["holds"]
    assert {probe["held"] for probe in report["probes"]} == {"held", "weak", "unseen"}
    assert {"time", "running-rights", "running"} < {probe["name"] for probe in report["probes"]}
    said = up.fleet("sandbox", "ssh", "box/agent", "--", "sh", "-c", "id -un; pwd; cat $CREDENTIALS_DIRECTORY/token")
    assert (said.code, said.stdout.split()) == (0, ["agent", "/work", "its-token"])
    assert up.fleet("sandbox", "ssh", "box/agent", "--", "sh", "-c", "exit 7").code == 7
    assert up.fleet("sandbox", "down", "box/agent").stdout == "box/agent: down\n"
    places = "find /run/netns /run/fleet-sandboxes -mindepth 1; nft list tables; mount; ip -o link"
    left = f"{{ {places}; }} 2>/dev/null | grep -E 'fleet|fs-' || :"
    wait_until(lambda: not shell(box, left), "nothing is left")


def test_ten_ways_out_are_closed(up: Stage, box: LabHost, lan: str) -> None:
    here = shell(box, "ip -4 -o address show dev eth0 | sed -E 's#.* inet ([0-9.]+)/.*#\\1#'")
    victim = shell(box, "systemd-run -q --unit=victim sleep 1000; systemctl show -P MainPID victim")
    answer(box, "up", "other")
    ways = ways_out(here, f"{lan}:8099", victim)
    came_out = {
        way: said for way, command in ways.items() for status, said in [inside(box, "agent", command)] if not status
    }
    assert came_out == {}
    assert shell(box, "systemctl is-active victim; systemctl stop victim") == "active"
    assert answer(box, "down", "other")["state"] == "inactive"


WEAK = {
    "NetworkNamespacePath=": {"namespace-net", "interfaces", "reach"},  # as PrivateNetwork= that does nothing
    "User=root\nDynamicUser=no": {"root"},
    "BindReadOnlyPaths=/root /home\nProtectHome=no": {"homes"},
    "BindReadOnlyPaths=/nix/store": {"store"},
    "BindReadOnlyPaths=/run/dbus /nix/var/nix/daemon-socket": {"sockets"},
    "BindReadOnlyPaths=/run/fleet-sandboxes -/nix/var/fleet": {"folders"},
    "BindReadOnlyPaths=/etc/ssh": {"folders", "ssh-keys"},
    "PrivatePIDs=no\nProtectProc=default\nProcSubset=all": {"namespace-pid", "processes"},
    "CapabilityBoundingSet=CAP_NET_RAW\nAmbientCapabilities=CAP_NET_RAW\nRestrictAddressFamilies=": {
        "capabilities",
        "rights",
        "raw-sockets",
    },
    "PrivateDevices=no\nDevicePolicy=auto": {"devices"},
    "SystemCallFilter=\nRestrictNamespaces=no": {"kernel"},
    "User=operator\nDynamicUser=no\nRestrictSUIDSGID=no": {"setuid"},
    "LoadCredential=": {"credentials"},
    "TemporaryFileSystem=": {"shared"},
}
"""What somebody may have changed of the units, and the probes that say so."""


AT_ONCE = 4
"""How many of them every run of the tests looks at."""


@pytest.mark.parametrize(
    "weakness",
    [pytest.param(one, marks=[pytest.mark.long] if at >= AT_ONCE else []) for at, one in enumerate(WEAK)],
    ids=lambda text: text.replace("\n", " ")[:40],
)
def test_a_sandbox_that_would_not_hold_runs_nothing(box: LabHost, weakness: str) -> None:
    drop_ins = [f"/run/systemd/system/fleet-sandbox-weak{unit}.service.d/weak.conf" for unit in ("", "-prove")]
    for path in drop_ins:
        put(box, path, f"[Service]\n{weakness}\n")
    shell(box, "systemctl daemon-reload")
    found = answer(box, "up", "weak")
    assert (found["proof"], found["state"]) == ("broken", "inactive")
    assert WEAK[weakness] <= broken(found), found
    # Whoever starts the unit itself starts no more than the probe.
    shell(box, "systemctl start fleet-sandbox-weak.service || :")
    wait_until(lambda: shell(box, "systemctl is-active fleet-sandbox-weak || :") in ("failed", "inactive"), "it ends")
    assert shell(box, "ls /srv/weak") == ""
    shell(box, f"rm {' '.join(drop_ins)}; systemctl daemon-reload; systemctl reset-failed")


def test_only_what_is_named_is_reached_and_names_lead_into_no_private_network(box: LabHost, lan: str) -> None:
    found = answer(box, "up", "net")
    assert (found["proof"], broken(found)) == ("held", set())
    get = "busybox wget -T 2 -q -O- http://{}/"
    assert inside(box, "net", get.format(f"{lan}:8099")) == (0, "neighbour")
    assert inside(box, "net", get.format("seen.example:8099")) == (0, "neighbour")
    for place in (f"{lan}:8098", "private.example:8098", f"{SEEN}:8098", f"{lan}:22"):
        assert inside(box, "net", get.format(place))[0] != 0, place
    assert "private.example" not in inside(box, "net", "cat /etc/hosts")[1]
    tables = "nft list tables | grep -o 'fleet_fs_.*'"
    table = shell(box, f"for one in $({tables}); do ! nft list table inet $one | grep -q {lan} || echo $one; done")
    shell(box, f"nft delete table inet {table}")
    found = answer(box, "prove", "net")
    assert (found["proof"], "rules" in broken(found)) == ("broken", True)
    answer(box, "down", "net")


def test_its_time_is_over_and_what_it_wrote_is_gone(box: LabHost) -> None:
    assert answer(box, "up", "short")["proof"] == "held"
    assert inside(box, "short", "echo x >/work/file")[0] == 0
    wait_until(lambda: shell(box, "systemctl is-active fleet-sandbox-short || :") == "inactive", "it has ended")
    assert shell(box, "systemctl list-units --failed --plain --no-legend 'fleet-sandbox-*'") == ""
    answer(box, "up", "kept")
    assert inside(box, "kept", "echo x >/work/file")[0] == 0
    answer(box, "down", "kept")
    assert answer(box, "up", "kept")["state"] == "active"
    assert inside(box, "kept", "cat /work/file") == (0, "x")
    assert answer(box, "reset", "kept")["state"] == "active"
    assert inside(box, "kept", "ls -A /work") == (0, "")
    answer(box, "down", "kept")


def test_where_nothing_limits_memory_it_does_not_start_unless_that_is_said(box: LabHost, stage: Stage) -> None:
    stage.toml({"box": {}, "lan": {}})
    run = stage.fleet("sandbox", "up", "box/limited")
    assert run.code == 1
    assert "DOES NOT HOLD" in run.stdout
    assert "limits neither memory" in run.stdout


def test_what_is_not_there_is_said(stage: Stage, box: LabHost) -> None:
    assert box.name == "box"
    stage.toml({"box": {}, "lan": {}})
    run = stage.fleet("sandbox", "up", "box/nothing")
    assert (run.code, "declares no sandbox nothing" in run.stderr) == (1, True)
    run = stage.fleet("sandbox", "prove", "lan/agent")
    assert (run.code, "it has no sandboxes" in run.stderr) == (1, True)
    assert stage.fleet("sandbox", "ssh", "box/nothing").code != 0


def test_an_agent_has_nix_and_a_desk_and_no_way_to_more(box: LabHost) -> None:
    found = answer(box, "up", "claude")
    assert (found["proof"], found["state"], broken(found)) == ("held", "active", set())
    opened = {name for name, (held, _) in found["probes"].items() if held == "open"}
    assert opened == {"nix-daemon", "open-socket", "store"}
    assert inside(box, "claude", "id -un; touch /work/file; nix-store --add /work/file")[0] == 0
    assert shell(box, "stat -c %U /var/lib/fleet-agents/claude/file") == "claude"
    for way in (
        "sudo -n id",
        "nix-store --repair-path $(ls -d /nix/store/*-lab-host-1 | head -n 1)",
        "ls /home/deploy",
    ):
        assert inside(box, "claude", way)[0] != 0, way
    ask = "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un(shift)) or die; print <S>"
    said = inside(box, "claude", f"perl -e '{ask}' /run/fleet-mcp/claude/socket")
    assert said == (0, "deploy: mcp --as claude --file /srv/fleet.toml")
    assert box.exec(
        "runuser", "-u", "operator", "--", "perl", "-e", ask, "/run/fleet-mcp/claude/socket", check=False
    ).status
    answer(box, "down", "claude")


def test_what_an_agent_has_left_is_drift_of_that_agent(box: LabHost, stage: Stage) -> None:
    stage.toml({"box": {}})
    stage.document("drift", "box", "--accept", code=None)
    home = "/var/lib/fleet-agents/claude"
    shell(box, f"runuser -u claude -- mkdir -p {home}/.cargo/bin && runuser -u claude -- touch {home}/.cargo/bin/rg")
    findings = stage.document("drift", "box", code=1)["hosts"][0]["findings"]
    (left,) = (one for one in findings if one["class"] == "packages")
    assert (left["path"], left["owner"]) == (f"{home}/.cargo/bin", "claude")
    assert left["cause"].endswith("the agent claude has left it")

"""WireGuard itself, on a kernel that has it: keys, what mesh.nix makes of them, and a host that is reached by it.

The other end is a network namespace of the same VM, which stands for a laptop.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import socketserver
import subprocess
import threading
import tomllib
from typing import TYPE_CHECKING

import pytest
import tomli_w

from fleet.inventory.mesh import address_of
from tests.containers.driver import Stage
from tests.containers.files import shell
from tests.containers.module_units import install_units
from tests.nixos_modules import configured
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.lab import Lab, VmHost

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives this machine an address of a mesh"),
]
OUTSIDE, INSIDE = "10.9.0.1", "10.9.0.2"
"""Where the VM and the laptop reach each other without the mesh."""
NOBODY = "127.0.0.9"
"""Where the VM's port is closed."""
LAPTOP_KEY = "/var/lib/laptop-mesh"
NETWORK = f"""
    ip netns add laptop
    ip link add outside type veth peer name inside netns laptop
    ip address add {OUTSIDE}/24 dev outside
    ip link set outside up
    ip -n laptop address add {INSIDE}/24 dev inside
    ip -n laptop link set inside up
"""


class Door(socketserver.ThreadingTCPServer):
    """An address of this machine, which is in no mesh, that leads to what the laptop reaches at the same address."""

    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    leads: tuple[str, ...] = ()

    class Visitor(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            assert isinstance(self.server, Door)
            subprocess.run(self.server.leads, stdin=self.request, stdout=self.request, check=False)

    def __init__(self, address: str, port: int, *leads: str) -> None:
        super().__init__((address, port), self.Visitor)
        self.leads = leads


@contextlib.contextmanager
def door(stage: Stage, vm: VmHost, address: str, *own: str) -> Iterator[None]:
    """While inside, this machine has the addresses, and what connects to the first comes from the laptop."""
    key = stage.lab.folder.path / "keys/id_ed25519"
    known = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
    into = ("ssh", *known, "-i", str(key), "-p", str(vm.port), "-S", str(stage.folder / "control"), "root@127.0.0.1")
    with contextlib.ExitStack() as stack:
        for one in (address, *own):
            subprocess.run(["ip", "-6", "address", "add", f"{one}/128", "dev", "lo"], check=True)
            stack.callback(subprocess.run, ["ip", "-6", "address", "del", f"{one}/128", "dev", "lo"], check=False)
        subprocess.run(
            [*into, "-fNM"], check=True, stdin=subprocess.DEVNULL
        )  # a login there takes an emulated CPU long
        stack.callback(subprocess.run, [*into, "-O", "exit"], check=False, capture_output=True)
        served = stack.enter_context(Door(address, vm.port, *into, f"ip netns exec laptop busybox nc {address} 22"))
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield
        served.shutdown()


def brought_up(mesh: Path, name: str) -> str:
    """What NixOS's networking.wireguard does with the interface that the module declares, in its order."""
    settings = f'{{ networking.hostName = "{name}"; services.fleet.mesh = {{ enable = true; file = {mesh}; }}; }}'
    ((link, found),) = configured(("mesh",), settings, "config.networking.wireguard.interfaces").items()
    lines = [f"ip link add dev {link} type wireguard"]
    lines += [f"ip address add {address} dev {link}" for address in found["ips"]]
    lines += [f"wg set {link} private-key {found['privateKeyFile']} listen-port {found['listenPort']}"]
    lines += [f"ip link set up dev {link}"]
    for peer in found["peers"]:
        endpoint = f"endpoint {peer['endpoint']}" if peer["endpoint"] else ""
        keepalive = f"persistent-keepalive {peer['persistentKeepalive']}"
        allowed = peer["allowedIPs"]
        lines += [f"wg set {link} peer {peer['publicKey']} {endpoint} {keepalive} allowed-ips {','.join(allowed)}"]
        lines += [f"ip route replace {one} dev {link}" for one in allowed]
    return "\n".join(lines)


def digest(vm: VmHost) -> str:
    return shell(vm, "sha256sum /var/lib/fleet-mesh/key /var/lib/fleet-mesh/public; stat -c %a /var/lib/fleet-mesh/key")


def reaches(vm: VmHost, address: str) -> bool:
    """Whether sshd says who it is to the laptop, at this address."""
    script = f"timeout 10 ip netns exec laptop busybox nc {address} 22 </dev/null | head -c 4"
    return vm.exec("sh", "-c", script, check=False).stdout == "SSH-"


def test_hosts_reach_each_other_by_a_mesh_that_keeps_others_out(vm_lab: Lab, vm: VmHost, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    stage = Stage(vm_lab, tmp_path, home)
    inventory = stage.toml({"vm": {"mesh": True}, "laptop": {"address": "laptop.invalid", "kind": "laptop"}})

    # The key is whole after a power cut, and the same.
    alone = 'networking.hostName = "vm"; services.fleet.mesh = { enable = true; file = /nowhere; };'
    install_units(vm, ("mesh",), f"{{ {alone} }}")
    shell(vm, "systemctl -q enable fleet-mesh-key && sync")
    shell(vm, "systemctl start fleet-mesh-key")
    made = digest(vm)
    vm.power_off()
    vm.power_on()
    active = ("systemctl", "is-active", "-q", "fleet-mesh-key")
    until(lambda: vm.exec(*active, check=False).status == 0, within=300, what="the key")
    assert digest(vm) == made
    assert made.endswith("600")

    # `fleet` asks for the public half, and writes mesh.toml.
    asked = stage.fleet("mesh", "keys", "vm", "--yes")
    assert asked.code == 0, asked
    file = inventory.with_name("mesh.toml")
    mesh = tomllib.loads(file.read_text())
    assert mesh["hosts"]["vm"]["public_key"] == shell(vm, "wg pubkey </var/lib/fleet-mesh/key")
    laptop, own = address_of(mesh["prefix"], "laptop"), mesh["hosts"]["vm"]["address"]
    shell(vm, f"mkdir -p {LAPTOP_KEY} && STATE_DIRECTORY={LAPTOP_KEY} sh -e /opt/fleet-mesh-key")
    mesh["hosts"]["vm"]["endpoint"] = f"{OUTSIDE}:51820"
    mesh["hosts"]["laptop"] = {"public_key": shell(vm, f"cat {LAPTOP_KEY}/public"), "address": laptop}
    file.write_text(tomli_w.dumps(mesh))

    # Both ends come up, and reach each other.
    shell(vm, NETWORK)
    shell(vm, brought_up(file, "vm"))
    assert not reaches(vm, own)
    there = brought_up(file, "laptop").replace("/var/lib/fleet-mesh", LAPTOP_KEY)
    shell(vm, f"ip netns exec laptop sh -ec {shlex.quote(there)}")
    until(lambda: reaches(vm, own), within=60, what="sshd of the VM, by the mesh")
    assert shell(vm, "wg show fleet-mesh latest-handshakes").split()[1] != "0"

    # Where nothing else answers, that is how the host is reached.
    text = tomllib.loads(inventory.read_text())
    text["hosts"]["vm"]["address"] = NOBODY
    inventory.write_text(tomli_w.dumps(text))
    assert stage.document("status", "vm", code=None)["hosts"][0]["reachable"] is False
    with door(stage, vm, own, laptop):
        told = stage.document("status", "vm", code=None)["hosts"][0]
    assert told["reachable"] is True, told
    assert told["running"] == shell(vm, "readlink -f /run/current-system")
    accepted = f"journalctl -q -o cat -t sshd -t sshd-session | grep -c '^Accepted publickey for root from {laptop} '"
    assert int(shell(vm, accepted)) > 0

    # An address of the mesh is no way in for whoever is not its owner, nor is a key that mesh.toml has not.
    other = address_of(mesh["prefix"], "other")
    shell(vm, f"ip -n laptop address add {other}/128 dev fleet-mesh")
    shell(vm, f"ip -n laptop route replace {own}/128 dev fleet-mesh src {other}")
    assert not reaches(vm, own)
    shell(vm, f"ip -n laptop route replace {own}/128 dev fleet-mesh src {laptop}")
    assert reaches(vm, own)
    shell(vm, "wg genkey >/root/another && ip netns exec laptop wg set fleet-mesh private-key /root/another")
    assert not reaches(vm, own)
    shell(vm, f"ip netns exec laptop wg set fleet-mesh private-key {LAPTOP_KEY}/key")
    until(lambda: reaches(vm, own), within=60, what="the laptop again")

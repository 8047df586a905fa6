"""A sandbox on a kernel of its own: what containers cannot show is limited, seen and put back there."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.containers.files import shell
from tests.containers.sandboxes import answer, inside, install, ways_out

if TYPE_CHECKING:
    from fleet.lab import VmHost

needs_nix = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
pytestmark = [pytest.mark.long, needs_nix]
DEBIAN = 'readOnly = [ "/usr" "/bin" "/lib" "/lib64" ];'


def test_on_a_kernel_with_limits_every_probe_is_refused_and_nothing_is_left(vm: VmHost) -> None:
    shell(
        vm,
        "echo its-token >/etc/token; echo secret >/dev/shm/of-the-host; cat /proc/sys/net/ipv4/ip_forward >/run/before",
    )
    install(
        vm,
        f"""{{ services.fleet.sandbox.sandboxes = {{
          agent = {{ {DEBIAN} credentials.token = "/etc/token"; }};
          net = {{ {DEBIAN} egress = [ "192.0.2.7" ]; memory = "64M"; }};
        }}; }}""",
    )
    assert answer(vm, "up", "agent")["proof"] == "held"
    found = answer(vm, "prove", "agent")
    assert {held for held, _ in found["probes"].values()} == {"held"}
    assert {"limits", "running-apart", "running-rights", "time"} < set(found["probes"])
    assert inside(vm, "agent", "cat $CREDENTIALS_DIRECTORY/token") == (0, "its-token")

    victim = shell(vm, "systemd-run -q --unit=victim sleep 1000; systemctl show -P MainPID victim")
    here = shell(vm, "ip -4 -o address show scope global | sed -E 's#.* inet ([0-9.]+)/.*#\\1#' | head -n 1")
    ways = ways_out(here, "10.0.2.2:22", victim)
    assert {way for way, command in ways.items() if inside(vm, "agent", command)[0] == 0} == set()
    assert shell(vm, "systemctl is-active victim; systemctl stop victim") == "active"

    assert answer(vm, "up", "net")["proof"] == "held"
    assert shell(vm, "cat /proc/sys/net/ipv4/ip_forward") == "1"
    too_much = "busybox head -c 200000000 /dev/zero | busybox tail -c 150000000 | busybox wc -c"
    assert inside(vm, "net", too_much)[1] != "150000000"
    for name in ("agent", "net"):
        answer(vm, "down", name)
    assert shell(vm, "cat /proc/sys/net/ipv4/ip_forward") == shell(vm, "cat /run/before")
    left = "find /run/netns /run/fleet-sandboxes -mindepth 1; nft list tables; mount; ip -o link"
    assert shell(vm, f"{{ {left}; }} 2>/dev/null | grep -E 'fleet|fs-' || :") == ""

"""Orders for lab hosts, as fleet writes them now and as it wrote them before."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from fleet.host.program import Order
from fleet.inventory import SecretPlace
from fleet.model import Closure, HostName, RunId, Serial
from fleet.plans import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

AS_PLANNED = """
exec 2>/dev/null
readlink -f /run/current-system
link=/nix/var/nix/profiles/system
if [ -L $link ]; then echo $(readlink $link)@$(stat -c %.9Z $link); else echo -; fi
disk=$(cut -d ' ' -f 1 /nix/var/fleet/serial)
for there in /run/fleet/open /run/fleet/last /nix/var/fleet/last; do
    its=$(cat $there/serial) && break
    its=$(cat $there/run) && its=$((${disk%%-*} + 1))-$its && break
done
printf '%s\n' 0-none $disk $its | sort -n | tail -n 1
"""
"""What a plan that is made now says of the host: its system, its profile's link and its newest transaction."""


LISTS = ("ignore", "secret", "snippet")
"""The keys of an order that may repeat."""


def order(host: HostName, planned: str, new: str, format: int, changes: Mapping[str, object]) -> str:
    """An order for a host of which `AS_PLANNED` has said this. The changes are of its lines."""
    running, link, serial = planned.splitlines()
    ignore, secrets, snippets = (changes.get(key, ()) for key in LISTS)
    assert isinstance(ignore, tuple)
    assert isinstance(secrets, tuple)
    assert isinstance(snippets, tuple)
    part = Part(
        host=host, closure=Closure(new), expected=Closure(running), link=link, serial=Serial(serial),
        activation_timeout=30, confirm_timeout=30, ignore_units=ignore, ignore_snippets=snippets,
        secrets=tuple(map(SecretPlace.parse, secrets)),
    )  # fmt: skip
    usual = Order(run=RunId(run_id()), part=part, by="alice", origin="desk").text()
    lines = [line.partition(" ") for line in usual.splitlines()]
    assert changes.keys() <= {*LISTS, *(key for key, _, _ in lines)}
    changed = [(key, space, value if key in LISTS else changes.get(key, value)) for key, space, value in lines]
    if format == 1:
        return in_format_1({key: str(value) for key, _, value in changed}, ignore)
    return "".join(f"{key}{space}{value}\n" for key, space, value in changed)


def in_format_1(lines: Mapping[str, str], ignore: tuple[str, ...]) -> str:
    """The same order as fleet wrote it when its host program had no number yet."""
    names = {"who": "by", **{key: key for key in ("run", "new", "expected", "goal", "from")}}
    limits = {key: key for key in ("activation", "confirm", "boot")}
    flags = {key: "" if lines[key] in ("no", "-") else lines[key] for key in ("risk", "last_resort", "retry")}
    values = {**{name: lines[key] for name, key in (names | limits).items()}, **flags}
    rows = [*values.items(), *(("ignore", pattern) for pattern in ignore)]
    return "".join(f"{key}={value}\n" for key, value in rows) + "end\n"


def run_id() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"

"""Faults of declared checks."""

from __future__ import annotations

from tests.containers.driver import WEB
from tests.faults.activation import bad
from tests.faults.table import NEW, Fault, Row

SHORT = {"within": "2s", "interval": "200ms", "timeout": "1s"}
FLAPS = {"name": "flaps", "command": "[ $(($(date +%s) % 2)) = 0 ]", **SHORT}
HANGS = {"name": "hangs", "command": "[ ! -e /etc/new ] || exec sleep 60", **SHORT}
FAILED = {"name": "never", "tcp": "127.0.0.1:1", "tolerate_existing": True, **SHORT}

FAULTS = (
    Fault(name="check fails", status=503, rows={"switching": bad("check web: 503")}),
    Fault(
        name="check flaps",
        slow=True,
        checks=(WEB, FLAPS),
        defaults={"settle": "1500ms"},
        rows={"switching": bad("flaps", kind="")},
    ),
    Fault(name="check hangs", nix='files."etc/new" = "";', checks=(WEB, HANGS), rows={"switching": bad("check hangs")}),
    Fault(
        name="check failed already",
        checks=(WEB, FAILED),
        rows={"switching": Row(outcome="kept", code=0, on=NEW, says="check never was failing before")},
    ),
)

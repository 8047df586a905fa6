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
    Fault(
        name="check fails",
        shown_by="test_deploy.py::test_unhealthy_host_is_rolled_back_and_the_others_kept",
        status=503,
        rows={"switching": bad("check web: 503")},
    ),
    Fault(
        name="check flaps",
        slow=True,
        checks=(WEB, FLAPS),
        defaults={"settle": "1500ms"},
        rows={"switching": bad("flaps", kind="")},
    ),
    Fault(name="check hangs", nix='files."etc/new" = "";', checks=(WEB, HANGS), rows={"switching": bad("check hangs")}),
    Fault(
        name="own check of a gate fails",
        slow=True,
        nix='files."etc/fleet/gate/checks/shop" = "echo closed; exit 1";',
        rows={"committing": bad("own check shop failed: closed")},
    ),
    Fault(
        name="check failed already",
        shown_by="test_checks_on_hosts.py::test_check_that_failed_before_still_counts_unless_it_is_tolerated",
        checks=(WEB, FAILED),
        rows={"switching": Row(outcome="kept", code=0, on=NEW, says="check never was failing before")},
    ),
)

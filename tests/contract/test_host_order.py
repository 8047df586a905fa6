"""The order as the host program's own functions read it: what is not exactly as fleet writes it opens nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.host.answers import one, parse
from fleet.host.program import Order
from fleet.inventory import Check
from fleet.model import Goal
from fleet.plans import Source
from tests.contract.host_functions import SHELLS, call
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.host.answers import Lines

CHECK = Check.model_validate({"name": "web", "http": "http://127.0.0.1:8080/"})
PART = builders.part(
    ignore_units=("a-*.service", r"mnt-x\x2dy.mount", "a-*.service"),
    checks=(CHECK, CHECK),
    goal=Goal.TEST,
    ignore_snippets=("specialfs", "a.b"),
)
PLAN = builders.plan(("web-1",), intent="update nginx", source=Source(reference="git+ssh://x", revision="1f3c"))
ORDER = Order(run=RUN, part=PART, by="ann", origin="desk", plan=PLAN).text()
LINES = ORDER.splitlines()
PART_TITLE = PART.text.splitlines()[0]
LISTS = {"check", "ignore", "snippet"}
READ = """
order=$(cat)
write_draft
set +f
for file in *; do printf '%s\\n' "$file=$(paste -sd '|' "$file")"; done
"""


def key_of(line: str) -> str:
    return line.partition(" ")[0]


def read(folder: Path, order: str, shell: str = "sh") -> Lines:
    """The files of the draft by their names; or the refusal, after which there is no draft."""
    lines = parse(call(folder, READ, shell=shell, stdin=order))
    assert ("refused" in lines) == (not (folder / "run" / "draft").exists()), lines
    return lines


@pytest.mark.parametrize("shell", SHELLS)
def test_what_the_transaction_needs_is_kept_with_the_digest_of_the_part(tmp_path: Path, shell: str) -> None:
    kept = {key: one(lines, key) for lines in [read(tmp_path, ORDER, shell)] for key in lines}
    assert kept == {
        "run": RUN, "who": "ann", "from": "desk", "intent": "update nginx", "source": "git+ssh://x rev 1f3c dirty",
        "plan": PLAN.digest, "part": PART.digest, "new": NEW, "expected": OLD, "goal": "test", "activation": "600",
        "confirm": "60", "boot": "600", "ignore": r"a-*.service|mnt-x\\x2dy.mount|a-*.service",
        "snippet": "specialfs|a.b", "trial": str(5 * (60 + 5 + 3 * 60) + 600),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "proof"),
    [({}, 0), ({"watch": 90.4}, 90), ({"checks": (CHECK,), "watch": 7.0}, 60),
     ({"checks": (CHECK, CHECK.model_copy(update={"within": 3600.5})), "watch": 90.0}, 3600)],
)  # fmt: skip
def test_trial_lasts_for_five_times_what_its_proof_takes_at_most(
    tmp_path: Path, changes: dict[str, Any], proof: int
) -> None:
    part = builders.part(settle=2.5, confirm_timeout=20, boot_timeout=100, **changes)
    kept = read(tmp_path, Order(run=RUN, part=part, by="ann", origin="desk").text())
    assert one(kept, "trial") == str(5 * (proof + 2 + 3 * 20) + 100)


def test_trial_without_a_signature_lasts_for_six_hours_at_most(tmp_path: Path) -> None:
    part = builders.part(watch=9e8, confirm_timeout=999_999)
    order = Order(run=RUN, part=part, by="ann", origin="desk").text()
    assert one(parse(call(tmp_path, f"admitted=unsigned\n{READ}", stdin=order)), "trial") == "21600"


def test_what_people_allow_is_kept(tmp_path: Path) -> None:
    part = builders.part(accept_boot_risk=True, last_resort="reboot", retry_quarantined=True)
    kept = read(tmp_path, Order(run=RUN, part=part, by="ann", origin="desk").text())
    assert [one(kept, key) for key in ("risk", "last_resort", "retry")] == ["yes", "reboot", "yes"]


def refusal(folder: Path, order: str) -> tuple[str, str]:
    """The kind of the refusal, and what it says."""
    lines = read(folder, order)
    return one(lines, "refused"), one(lines, "message")


@pytest.mark.parametrize("line", [line for line in LINES[:-1] if key_of(line) not in LISTS], ids=key_of)
def test_line_that_is_missing_or_doubled_is_refused_by_name(tmp_path: Path, line: str) -> None:
    kind, says = refusal(tmp_path, ORDER.replace(f"{line}\n", "", 1))
    assert (kind, key_of(line) in says) == ("usage", True) or line in (LINES[0], PART_TITLE)
    assert refusal(tmp_path, ORDER.replace(f"{line}\n", f"{line}\n{line}\n", 1)) == (
        "usage", f"the order has '{key_of(line)}' twice",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "kind", "says"),
    [
        (LINES[0], "fleet-order v3", "format", "says 'fleet-order v3', and this program reads 'fleet-order v1'"),
        (PART_TITLE, "fleet-part v2", "format", "says 'fleet-part v2', and this program reads"),
        (f"{LINES[0]}\n", "", "format", "has no title"),
        (f"{PART_TITLE}\n", "", "usage", "does not know: host web-1 -"),
        ("by ann", "by ann\nwho bob", "usage", "does not know: who bob"),
        ("by ann", "by ann\n", "usage", "does not know: "),
        ("by ann", "by ann\ngoal switch", "usage", "does not know: goal switch"),
        ("settle 5", "settle 5\nby bob", "usage", "does not know: by bob"),
        ("settle 5", "settle 5\nend", "usage", "does not know: end"),
        ("settle 5", "settle 5\nguarded report", "usage", "does not know: guarded report"),
        ("by ann", "by \u00e4nn", "usage", "printable ASCII"),
        ("by ann", "by ann\x1b[2J", "usage", "printable ASCII"),
        ("by ann", "by ann\t", "usage", "printable ASCII"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, old: str, new: str, kind: str, says: str) -> None:
    assert old in ORDER
    told = refusal(tmp_path, ORDER.replace(old, new, 1))
    assert (told[0], says in told[1]) == (kind, True), told


def test_guarded_switch_has_an_order_of_its_own(tmp_path: Path) -> None:
    order = (
        "fleet-guard v1\nrun r\nnew /n\ngoal test\nactivation 9\nconfirm 9\nguarded report\nignore a\nignore b\nend\n"
    )
    kept = read(tmp_path, order)
    assert (one(kept, "guarded"), one(kept, "ignore"), "part" in kept) == ("report", "a|b", False)
    assert refusal(tmp_path, order.replace("guarded report\n", "")) == ("usage", "the order has no line 'guarded'")
    assert refusal(tmp_path, order.replace("goal test", "goal test\nserial 1-a"))[0] == "usage"

"""Hosts with a gate: what fleet.toml may ask of them, what they tell of themselves, and what does not go there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError, GateError, PolicyError, UnfitError, UnreachableError
from fleet.host.answers import parse as answer
from fleet.host.gate import GateReport, Signer, gate_report
from fleet.host.program import refusal
from fleet.inventory import parse
from fleet.inventory.gated import forwarded
from fleet.library.gates import as_json, described, findings_on
from fleet.library.governed import NOTHING, require_signed
from fleet.library.judging import Plea
from fleet.machine import Output
from fleet.model import Closure, Goal, HostName, Severity, Verb
from fleet.policy.principals import Principals, PrincipalTable
from fleet.signing import APPROVAL
from fleet.steps.gated import change_of_gate, compare_contents, require_way_back
from fleet.steps.load import Contents, load_of
from tests.fakes import FakeMachine, runs
from tests.signer import Device
from tests.unit import builders
from tests.unit.builders import NEW, OLD

if TYPE_CHECKING:
    from fleet.inventory import Inventory
    from fleet.plans import Plan

ONE = HostName("one")
ANN, BOB = Device(), Device()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
HOST = """
[fleet]
id = "0123456789abcdef"
[hosts.one]
gate = true
user = "fleet"
"""


def fleet(more: str = "") -> Inventory:
    return parse(Path("/fleet/fleet.toml"), HOST + more)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("sudo = true", "[hosts.one] sudo: a login to a gate runs nothing else than the gate"),
        (f'address = "local"\nhost_key = "{KEY}"', "a gate is a login by SSH"),
        (
            'hooks = [{ when = "before_switch", command = "true", name = "warm" }]',
            "warm) on: a gate runs no commands from",
        ),
        ('secrets.token.env = "TOKEN"', "[hosts.one] secrets: a gate takes no files from elsewhere"),
        ('checks = [{ command = "test -e /x" }]', "name: a gate runs the check of this name"),
        ('checks = [{ command = "true", name = "../x" }]', "name: a gate runs the check of this name"),
        ('[hosts.two]\njump = "one"', "[hosts.two] jump: one has a gate, which forwards to its own checks only"),
    ],
)
def test_what_a_gate_refuses_anyhow_is_said_of_fleet_toml(more: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fleet(more)
    assert says in caught.value.message


def test_what_a_gate_does_is_no_problem() -> None:
    host = fleet(
        'hooks = [{ when = "before_switch", command = "true", on = "controller" }]\n'
        'checks = [{ command = "true", name = "shop" }, { tcp = "127.0.0.1:5432" }]\n[hosts.two]\njump = "a@b"'
    ).hosts[ONE]
    assert host.gate


def test_places_that_checks_ask_from_the_host_are_what_it_has_to_forward_to() -> None:
    checks = (
        '[{ http = "http://127.0.0.1/" }, { http = "https://[::1]:8443/x" }, { tcp = "10.0.0.1:22" },'
        ' { unit = "a.service" }, { http = "http://shop/", from = "controller" }, { http = "https://shop" }]'
    )
    found = forwarded(fleet(f"checks = {checks}").hosts[ONE].checks)
    assert found == {"127.0.0.1:80", "[::1]:8443", "10.0.0.1:22", "shop:443"}


def signer(name: str, device: Device, *, approves: bool = True) -> Signer:
    return Signer(name=name, approves=approves, fingerprint=device.public.fingerprint)


REPORT = GateReport(
    digest="a" * 64, program="/nix/store/x", fleet="0123456789abcdef", host="one", user="fleet", required=1,
    touch=False, signers=(signer("ann", ANN),),
)  # fmt: skip


def principals(**devices: Device) -> Principals:
    tables = {
        name: PrincipalTable.model_validate({"kind": "person", "keys": [str(device.public)]})
        for name, device in devices.items()
    }
    return Principals(Path("principals.toml"), tables)


def test_report_is_what_the_host_says_and_no_more() -> None:
    said = (
        "protocol=1\ndigest=d\nprogram=/p\nfleet=f\nhost=one\nuser=fleet\nrequired=2\ntouch=yes\nsigner=ann approves "
        f"{ANN.public.fingerprint}\nsigner=x\ufffd approves SHA256:short\nkey=SHA256:k\ncheck=shop\npermit=none\n"
        "round=root logs in by keys\x1b[2J\n"
    )
    found = gate_report(answer(said))
    assert found is not None
    assert (found.required, found.touch, found.signers) == (2, True, (signer("ann", ANN),))
    assert (found.checks, found.permits) == (("shop",), ())
    assert "\x1b" not in found.ways_round[0]
    assert gate_report(answer("running=/x\n")) is None


def said_of(report: GateReport, *, more: str = "", who: Principals | None = None) -> dict[str, Severity]:
    found = findings_on(fleet(more), {ONE: report}, who)
    return {finding.message.removeprefix("one: "): finding.severity for finding in found}


def test_gate_that_fits_has_no_findings() -> None:
    assert said_of(REPORT, who=principals(ann=ANN)) == {}
    assert described(REPORT) == "gate for fleet: approval by a person, of ann"
    two = replace(REPORT, required=2, touch=True)
    assert described(two) == "gate for fleet: approvals by 2 people, each with a touch, of ann"


def test_key_that_principals_toml_has_lost_is_named_until_no_host_trusts_it() -> None:
    report = replace(REPORT, signers=(signer("ann", ANN), signer("bob", BOB)))
    (message,) = said_of(report, who=principals(ann=ANN))
    assert message == (
        f"its gate still trusts the key {BOB.public.fingerprint} of bob, which principals.toml does not have any more"
    )
    assert said_of(report, who=principals(ann=ANN, bob=BOB)) == {}
    assert said_of(report) == {}  # who has no principals.toml has another list


def test_key_of_somebody_else_and_key_that_is_not_there_yet_are_named() -> None:
    swapped = replace(REPORT, signers=(signer("bob", ANN),))
    (message, *_) = said_of(swapped, who=principals(ann=ANN))
    assert "which is ann's by principals.toml" in message
    (message,) = said_of(REPORT, who=principals(ann=ANN, bob=BOB))
    assert message == "its gate does not know a key of bob yet"


@pytest.mark.parametrize(
    ("report", "more", "says", "severity"),
    [
        (replace(REPORT, fleet="ffffffffffffffff"), "", "takes plans of fleet ffff", Severity.ERROR),
        (replace(REPORT, host="two"), "", "for a host called two", Severity.ERROR),
        (REPORT, 'checks = [{ tcp = "127.0.0.1:1" }]', "checks ask 127.0.0.1:1", Severity.ERROR),
        (replace(REPORT, permits=("127.0.0.1:1",)), "", "forwards to 127.0.0.1:1, and no check", Severity.NOTE),
        (REPORT, 'checks = [{ command = "true", name = "shop" }]', "no check called shop", Severity.ERROR),
        (replace(REPORT, ways_round=("bob has keys",)), "", "gets round its gate: bob has keys", Severity.NOTE),
    ],
)
def test_what_does_not_fit_is_found(report: GateReport, more: str, says: str, severity: Severity) -> None:
    ((message, found),) = said_of(report, more=more).items()
    assert (says in message, found) == (True, severity)


def test_gate_that_cannot_be_asked_is_a_note_and_one_that_is_none_an_error() -> None:
    for error, severity in ((UnreachableError(ONE, "gone"), "note"), (GateError(ONE, "no gate"), "error")):
        (finding,) = findings_on(fleet(), {ONE: error}, None)
        assert (finding.severity, error.message in finding.message) == (severity, True)
        assert as_json(error) == {"error": error.message}


def plan(goal: Goal = Goal.SWITCH, verb: Verb = Verb.DEPLOY) -> Plan:
    return builders.plan(("one",), goal=goal, verb=verb)


@pytest.mark.parametrize("goal", [Goal.SWITCH, Goal.TEST, Goal.DRY_ACTIVATE])
def test_unsigned_plan_is_refused_before_anybody_is_asked(goal: Goal) -> None:
    with pytest.raises(PolicyError, match="one: has a gate, which takes signed plans only"):
        require_signed(plan(goal), fleet(), [ONE], NOTHING)
    signed = Plea(signatures=(ANN.sign("x", APPROVAL),))
    require_signed(plan(goal), fleet(), [ONE], signed)  # whether it is good is the host's to say


def test_going_back_pushing_and_hosts_without_a_gate_need_no_signature() -> None:
    require_signed(plan(verb=Verb.ROLLBACK), fleet(), [ONE], NOTHING)
    require_signed(plan(Goal.PUSH), fleet(), [ONE], NOTHING)
    require_signed(builders.plan(("web-1",)), builders.inventory("web-1"), [HostName("web-1")], NOTHING)


def test_what_becomes_of_a_gate_is_said_in_one_word() -> None:
    assert [change_of_gate(*pair) for pair in (("", ""), ("a", "a"), ("", "a"), ("a", ""), ("a", "b"))] == [
        "", "", "on", "off", "change",
    ]  # fmt: skip


def test_way_back_without_signatures_is_refused_here_where_the_host_would() -> None:
    gated = builders.host(gate=True)
    known = builders.facts(previous=NEW, gate="a", gate_previous="a")
    require_way_back(gated, known, NEW)
    require_way_back(builders.host(), builders.facts(), NEW)
    with pytest.raises(GateError, match="further than to the system before"):
        require_way_back(gated, known, OLD)
    with pytest.raises(GateError, match="has another gate"):
        require_way_back(gated, replace(known, gate_previous="b"), NEW)


HASH = "0" * 64
CONTENTS = Contents(sizes={NEW: 1, OLD: 1}, manifest="m", hashes={NEW: HASH, OLD: HASH})


def gated_host(said: str) -> FakeMachine:
    return FakeMachine(
        (runs("xargs"), Output(status=0, stdout=f"{NEW}\n")), (runs("fleet-gate"), Output(status=0, stdout=said))
    )


async def test_gate_is_asked_about_what_is_there_and_the_manifest_goes_along_where_it_takes_that() -> None:
    machine = gated_host(f"differs={OLD}\n")
    load = await load_of(machine, builders.host(gate=True, substitute=False), CONTENTS)
    asked = machine.ran[-1]
    assert (asked.verb, asked.stdin) == (("contents",), f"{OLD} sha256:{'0' * 52}\n".encode())
    assert load.manifest.splitlines() == sorted(f"{path} sha256:{'0' * 52}" for path in (NEW, OLD))
    assert (await load_of(gated_host(""), builders.host(gate=True, substitute=False), CONTENTS)).manifest == ""


async def test_plan_names_the_path_that_the_gate_would_refuse() -> None:
    said = f"differs={OLD}\nuntrusted={OLD} has other contents than the plan says, and is signed by nobody\n"
    with pytest.raises(UnfitError, match=f"{OLD} has other contents") as caught:
        await load_of(gated_host(said), builders.host(gate=True, substitute=False), CONTENTS)
    assert "contentKeys" in caught.value.hint
    with pytest.raises(GateError):
        await compare_contents(gated_host("refused=gate\nmessage=no\n"), builders.host(gate=True), {OLD: HASH})


async def test_host_without_a_gate_is_not_asked_about_contents() -> None:
    machine = FakeMachine((runs("xargs"), Output(status=0)))
    assert (await load_of(machine, builders.host(substitute=False), CONTENTS)).manifest == ""
    assert len(machine.ran) == 1


@pytest.mark.parametrize(
    ("kind", "hint"), [("gate", "fleet approve"), ("contents", "again"), ("protocol", "the one before")]
)
def test_refusal_of_a_gate_is_an_error_of_its_own(kind: str, hint: str) -> None:
    error = refusal(builders.host(), answer(f"refused={kind}\nmessage=because\n"))
    assert isinstance(error, GateError)
    assert (error.message, hint in error.hint) == ("because", True)


def test_order_for_a_gate_has_the_head_and_the_signatures_and_no_other_order_has() -> None:
    asked = builders.plan(("web-1",))
    part = asked.parts[HostName("web-1")]
    order = builders.order(part=part, plan=asked, signatures=("AAAA", "BBBB"), manifest="/nix/store/x sha256:0\n")
    assert order.text().endswith(
        f"{part.text}{asked.head}fleet-signatures v1\nsignature AAAA\nsignature BBBB\nfleet-manifest v1\n"
        "/nix/store/x sha256:0\nend\n"
    )
    assert "fleet-plan" not in replace(order, signatures=()).text()


def test_part_says_of_the_gate_only_where_there_is_something_to_say() -> None:
    plain = builders.part()
    assert "\ngate " not in plain.text
    said = replace(plain, gate="change")
    assert "\ngate change\n" in said.text
    assert type(said).parse(said.text) == said
    assert Closure(said.closure) == plain.closure

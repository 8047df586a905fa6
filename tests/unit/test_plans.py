"""Plans and parts as text: one value has one text, and a text that somebody else wrote is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.events import FindingReported, HostPlanned
from fleet.inventory import BuildOn, Check, Offline
from fleet.model import Closure, Derivation, Goal, HostName, Outcome, Serial, Severity, Verb
from fleet.plans import Action, Forecast, LeftOut, Part, Plan, Source, TextError
from fleet.plans.announce import announced, planned
from tests.unit.builders import NEW, OLD, part, plan

A, B = HostName("a"), HostName("b")

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}(\.[A-Za-z0-9_-]{1,5})?", fullmatch=True).map(HostName)
store_paths = st.from_regex(r"/nix/store/[0-9a-z]{32}-[0-9a-zA-Z+._?=-]{1,20}", fullmatch=True)
sha256 = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
counts = st.integers(0, 10**12)
small = st.integers(0, 1 << 40)
seconds = st.one_of(counts.map(float), st.floats(0, 1e9, allow_nan=False))
texts = st.text(max_size=30)
lines = texts.map(lambda text: " ".join(text.split())).filter(lambda text: text != "-")
durations = st.one_of(
    st.integers(1, 10**6).map(lambda ms: f"{ms}ms"), st.decimals("0.000001", 3600, places=6).map(lambda s: f"{s:f}s")
)
checks = st.fixed_dictionaries(
    {"command": texts.filter(lambda text: bool(text.strip()) and "\0" not in text)},
    optional={
        "name": st.text(min_size=1, max_size=9).filter(lambda text: bool(text.strip()) and text.isprintable()),
        "within": durations,
        "interval": durations,
        "timeout": durations,
        "tolerate_existing": st.booleans(),
    },
).map(Check.model_validate)
https = st.fixed_dictionaries(
    {"http": st.just("http://127.0.0.1:8080/x?y=%20"), "from": st.sampled_from(["host", "controller"])},
    optional={
        "method": st.sampled_from(["HEAD", "POST"]),
        "status": st.lists(st.integers(100, 599), min_size=1, max_size=3),
        "body": st.sampled_from(["^ok$", "é\x7f"]),
        "headers": st.dictionaries(st.sampled_from(["A", "b-c"]), st.sampled_from(["", "x y", "é"]), max_size=2),
        "verify_tls": st.booleans(),
    },
).map(Check.model_validate)
forecasts = st.builds(
    Forecast,
    missing_paths=small, missing_bytes=small, substitute_paths=small, substitute_bytes=small, download_bytes=small,
    wire_bytes=small, push_seconds=st.none() | st.floats(0, 1e9, allow_nan=False), room_needed=small, room_free=small,
)  # fmt: skip
parts = st.builds(
    Part,
    host=names,
    host_key=st.just("") | st.from_regex(r"SHA256:[0-9A-Za-z+/]{43}", fullmatch=True),
    closure=store_paths.map(Closure),
    derivation=st.none() | store_paths.map(Derivation),
    build_on=st.sampled_from(BuildOn),
    manifest=st.just("") | sha256,
    expected=store_paths.map(Closure),
    link=st.just("") | st.from_regex(r"[0-9A-Za-z._@+-]*[0-9A-Za-z._@+]", fullmatch=True),
    serial=st.from_regex(r"[0-9]{1,18}-[0-9A-Za-z-]{1,12}", fullmatch=True).map(Serial),
    action=st.sampled_from(Action),
    goal=st.sampled_from(Goal),
    activation_timeout=counts,
    confirm_timeout=counts,
    boot_timeout=counts,
    settle=seconds,
    watch=seconds,
    checks=st.lists(checks | https, max_size=3).map(tuple),
    checks_decide=st.booleans(),
    ignore_units=st.lists(st.sampled_from(["a.service", "backup-*", "[ab]@\\x2d.mount"]), max_size=3).map(tuple),
    ignore_snippets=st.lists(st.sampled_from(["specialfs", "a.b-c_1"]), max_size=2).map(tuple),
    accept_boot_risk=st.booleans(),
    force=st.booleans(),
    retry_quarantined=st.booleans(),
    last_resort=st.sampled_from(["", "reboot"]),
    offline=st.sampled_from(Offline),
    substitute=st.booleans(),
    copy_with=st.sampled_from(["serve", "nix"]),
    reboot=st.lists(texts, max_size=3).map(tuple),
    forecast=forecasts,
    expires=counts,
)
sources = st.builds(
    Source, reference=lines, revision=st.just("") | st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
    is_clean=st.booleans(),
)  # fmt: skip
left_out = st.builds(LeftOut, host=names, outcome=st.sampled_from(Outcome), kind=texts, message=texts)
findings = st.builds(
    FindingReported, host=st.none() | names, severity=st.sampled_from(Severity), kind=texts, message=texts, hint=texts
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any plan, with its hosts in some waves."""
    some = draw(st.lists(parts, max_size=4, unique_by=lambda one: one.host))
    hosts = [one.host for one in some]
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(hosts) - 1)), max_size=2)))
    waves = [tuple(hosts[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(hosts)], strict=True)]
    return Plan(
        fleet=draw(names),
        fleet_id=draw(st.just("") | st.from_regex(r"[0-9a-f]{8,64}", fullmatch=True)),
        by=draw(lines),
        verb=draw(st.sampled_from(Verb)),
        goal=draw(st.sampled_from(Goal)),
        made=draw(counts),
        expires=draw(counts),
        source=draw(sources),
        intent=draw(lines),
        ledger=draw(st.just("") | st.from_regex(r"[0-9a-f]{32} [1-9][0-9]{0,14} [0-9a-f]{64}", fullmatch=True)),
        at_once=draw(counts),
        push_at_once=draw(counts),
        max_failures=draw(counts),
        all_or_nothing=draw(st.booleans()),
        waves=tuple(wave for wave in waves if wave),
        left_out=tuple(draw(st.lists(left_out, max_size=2))),
        findings=tuple(draw(st.lists(findings, max_size=2))),
        parts={one.host: one for one in some},
    )


def is_canonical(text: str) -> bool:
    """Whether this is printable ASCII in lines, each of which a shell can read as a key and a value."""
    assert text.endswith("\n")
    return all(line.isascii() and line.isprintable() and line == line.strip() for line in text.splitlines())


@given(parts)
def test_part_is_read_back(one: Part) -> None:
    assert Part.parse(one.text) == one
    assert is_canonical(one.text)


@given(plans())
def test_plan_is_read_back(one: Plan) -> None:
    again = Plan.parse(one.text)
    assert (again, again.text, again.digest) == (one, one.text, one.digest)
    assert is_canonical(one.text)


@given(plans())
@settings(max_examples=20)
def test_digests_are_what_sha256sum_says(one: Plan) -> None:
    def sha256sum(text: str) -> str:
        done = subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, check=True)
        return done.stdout.decode().split()[0]

    assert one.digest == sha256sum(one.head)
    assert [sha256sum(each.text) for each in one.parts.values()] == [each.digest for each in one.parts.values()]


@given(st.lists(names, unique=True, min_size=2, max_size=6))
@settings(max_examples=20)
def test_hosts_are_in_the_order_of_the_c_locale(hosts: list[HostName]) -> None:
    env = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sort"], input="\n".join(hosts), capture_output=True, check=True, text=True, env=env)
    one = plan(tuple(hosts))
    assert [line.split()[1] for line in one.head.splitlines() if line.startswith("host ")] == done.stdout.split()
    assert [line.split()[1] for line in one.text.splitlines() if line.startswith("host ")] == done.stdout.split() * 2


def test_order_in_which_hosts_were_found_changes_nothing() -> None:
    forward = plan((A, B))
    assert dataclasses.replace(forward, parts={name: forward.parts[name] for name in (B, A)}).text == forward.text


SAMPLE = plan(
    (A,), (B,),
    parts=[
        part(A, checks=(Check.model_validate({"name": "ok", "command": "true", "within": "1500ms"}),),
             ignore_units=("x-*",), ignore_snippets=("specialfs",), reboot=("kernel",), manifest="a" * 64,
             last_resort="reboot"),
        part(B, derivation=Derivation(f"/nix/store/{'3' * 32}-x.drv"), host_key=f"SHA256:{'A' * 43}", link="l@1"),
    ],
    intent="grün, at last", source=Source(reference="git+ssh://x", revision="1f" * 20, is_clean=True),
    left_out=(LeftOut(host=HostName("c"), outcome=Outcome.UNCHANGED),),
    findings=(FindingReported(host=A, severity=Severity.NOTE, kind="caches", message="x"),),
)  # fmt: skip
LINES = SAMPLE.text.splitlines(keepends=True)


def test_text_is_what_was_agreed() -> None:
    """A change here is a new version of the format, for hosts and for whoever has signed a plan."""
    assert SAMPLE.head == (
        "fleet-plan v1\n"
        "fleet home -\n"
        "by ann\n"
        "verb deploy\n"
        "goal switch\n"
        "made 1795946400\n"
        "expires 4000000000\n"
        f"source git+ssh://x rev {'1f' * 20} clean\n"
        "intent gr\\u00fcn, at last\n"
        "ledger -\n"
        "at_once 16\n"
        "push_at_once 0\n"
        "max_failures 0\n"
        "all_or_nothing no\n"
        "waves a b\n"
        'left_out {"host":"c","kind":"","message":"","outcome":"unchanged"}\n'
        'finding {"hint":"","host":"a","kind":"caches","message":"x","severity":"note"}\n'
        f"host a {SAMPLE.parts[A].digest}\n"
        f"host b {SAMPLE.parts[B].digest}\n"
    )
    forecast = json.dumps(vars(Forecast()), sort_keys=True, separators=(",", ":"))
    assert SAMPLE.parts[A].text == (
        "fleet-part v1\n"
        "host a -\n"
        f"new {NEW}\n"
        "drv -\n"
        "build controller\n"
        f"manifest {'a' * 64}\n"
        f"expected {OLD}\n"
        "link -\n"
        "serial 0-none\n"
        "action switch\n"
        "goal switch\n"
        "activation 600\n"
        "confirm 60\n"
        "boot 600\n"
        "settle 5\n"
        "watch 0\n"
        'check {"command":"true","name":"ok","within":"1.5s"}\n'
        "checks decide\n"
        "ignore x-*\n"
        "snippet specialfs\n"
        "risk no\n"
        "force no\n"
        "retry no\n"
        "last_resort reboot\n"
        "offline fail\n"
        "substitute yes\n"
        "copy_with serve\n"
        'reboot ["kernel"]\n'
        f"forecast {forecast}\n"
        "expires 0\n"
    )


def test_whole_text_is_the_head_the_parts_and_the_digest() -> None:
    parts = [SAMPLE.parts[name].text for name in (A, B)]
    assert SAMPLE.text == "".join([SAMPLE.head, *parts, f"digest {SAMPLE.digest}\n"])


def test_intent_in_any_language_is_read_back() -> None:
    one = plan((A,), intent='日本 "quoted" \\ back é\x7f')
    assert Plan.parse(one.text).intent == one.intent
    assert is_canonical(one.text)


def is_read(text: str) -> bool:
    """Whether the text is taken for a plan."""
    try:
        Plan.parse(text)
    except TextError:
        return False
    return True


@pytest.mark.parametrize("number", range(len(LINES)), ids=lambda number: LINES[number].split()[0])
def test_every_edited_line_is_refused(number: int) -> None:
    line = LINES[number].rstrip("\n")
    key, _, value = line.partition(" ")
    edits = [f"{line}x", f"{line} ", f" {line}", f"{key}  {value}", f"{key} -", f"{key}", "", f"# {line}", "odd 1"]
    if value.isdigit():
        edits.append(f"{key} {int(value) + 1}")
    texts = {edit: "".join([*LINES[:number], f"{edit}\n", *LINES[number + 1 :]]) for edit in edits if edit != line}
    assert [edit for edit, text in texts.items() if is_read(text)] == []


@pytest.mark.parametrize("number", range(len(LINES)), ids=lambda number: LINES[number].split()[0])
def test_line_that_is_missing_or_there_twice_is_refused(number: int) -> None:
    assert not is_read("".join([*LINES[:number], *LINES[number + 1 :]]))
    assert not is_read("".join([*LINES[: number + 1], *LINES[number:]]))


@given(st.integers(0, len(SAMPLE.text) - 1))
def test_text_that_was_cut_is_refused(at: int) -> None:
    assert not is_read(SAMPLE.text[:at])


@given(st.integers(0, len(SAMPLE.text) - 1), st.characters())
def test_no_character_can_be_exchanged(at: int, other: str) -> None:
    text = SAMPLE.text[:at] + other + SAMPLE.text[at + 1 :]
    assert is_read(text) is (text == SAMPLE.text)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_other_text_is_refused(text: str) -> None:
    for read in (Plan.parse, Part.parse):
        with pytest.raises(TextError):
            read(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: found '', expected 'fleet-plan v1'"),
        ("fleet-plan v2\n", "line 1: found 'fleet-plan v2', 'fleet-plan v1' is what this version of fleet reads"),
        ("fleet-plan v1\n", "has no line 'fleet'"),
        ("fleet-plan v1", "was cut: its last line has no end"),
        (SAMPLE.text.replace("at_once 16", "at_once 17"), "was edited or cut: its last line does not name its digest"),
        (SAMPLE.text.removesuffix(LINES[-1]), "was edited or cut: its last line does not name its digest"),
        ("fleet-plan v1\nby ann\n", "line 2: found 'by', expected 'fleet'"),
        (SAMPLE.text.replace("at_once 16", "at_once many"), "line 11: at_once: "),
        (SAMPLE.text.replace("risk no", "risk maybe", 1), "part 1: line 21: risk: found 'maybe', expected yes or no"),
        (SAMPLE.text.replace("settle 5", "settle 05", 1), "part 1: is not written as fleet writes it"),
        (SAMPLE.text.replace("settle 5", "settle 6", 1), "host a: its part is not the one that the plan was made with"),
    ],
)
def test_refusal_names_the_line(text: str, told: str) -> None:
    with pytest.raises(TextError) as caught:
        Plan.parse(text)
    assert str(caught.value).startswith(told)


def test_part_of_a_host_that_no_wave_has_is_refused() -> None:
    assert not is_read(plan((A,), parts=[part(A), part(B)]).text)


def test_host_that_two_waves_have_is_refused() -> None:
    assert not is_read(dataclasses.replace(plan((A,)), waves=((A,), (A,))).text)


@pytest.mark.parametrize(
    "changes",
    [
        {"checks": ()},
        {"closure": OLD},
        {"settle": 6.0},
        {"serial": Serial("1-a")},
        {"force": True},
        {"expires": 1},
        {"forecast": Forecast(missing_paths=1)},
    ],
)
def test_everything_that_a_part_says_is_in_its_digest(changes: dict[str, Any]) -> None:
    assert dataclasses.replace(SAMPLE.parts[A], **changes).digest != SAMPLE.parts[A].digest
    parts = {**SAMPLE.parts, A: dataclasses.replace(SAMPLE.parts[A], **changes)}
    assert dataclasses.replace(SAMPLE, parts=parts).digest != SAMPLE.digest


def test_every_field_is_written() -> None:
    """A field that no line has could be changed after a plan was signed."""
    for kind, one in ((Part, SAMPLE.parts[A]), (Plan, SAMPLE)):
        written = {name for field in _fields(kind) for name in field.attribute.split()}
        missing = {field.name for field in dataclasses.fields(kind)} - written
        assert (missing, bool(one.text)) == ({"parts"} if kind is Plan else set(), True)


def _fields(kind: type[Part | Plan]) -> tuple[Any, ...]:
    from fleet.plans import part, plan

    return part.FIELDS if kind is Part else plan.FIELDS


def test_hosts_are_told_in_the_order_of_their_waves() -> None:
    events = list(announced(SAMPLE, SAMPLE.hosts))
    assert [(one.host, one.wave) for one in events if isinstance(one, HostPlanned)] == [(A, 1), (B, 2)]
    assert [one.kind for one in events if isinstance(one, FindingReported)] == ["caches"]


def test_only_what_concerns_a_host_is_told_of_it() -> None:
    findings = tuple(
        FindingReported(host=name, severity=Severity.NOTE, kind=kind, message="x")
        for kind, name in (("of-a", A), ("of-b", B), ("of-none", None), ("left-out", HostName("c")))
    )
    events = list(announced(dataclasses.replace(SAMPLE, findings=findings), [B]))
    assert [one.host for one in events if isinstance(one, HostPlanned)] == [B]
    assert [one.kind for one in events if isinstance(one, FindingReported)] == ["of-b", "of-none", "left-out"]


@pytest.mark.parametrize(
    ("goal", "action", "said"),
    [
        (Goal.SWITCH, Action.SWITCH, "switch"),
        (Goal.BOOT, Action.SWITCH, "switch"),
        (Goal.TEST, Action.COMMIT, "commit"),
        (Goal.PUSH, Action.SWITCH, "push"),
        (Goal.DRY_ACTIVATE, Action.SWITCH, "push"),
        (Goal.DRY_ACTIVATE, Action.UNCHANGED, "unchanged"),
    ],
)
def test_what_would_happen_is_told_in_one_word(goal: Goal, action: Action, said: str) -> None:
    assert planned(part(A, goal=goal, action=action), 1).action == said

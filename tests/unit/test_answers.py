"""What the host program answers becomes values, whatever a host may say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.host.answers import State, View, generations, one, parse, view
from fleet.host.facts import HostFacts, OpenTransaction, host_facts, open_transaction
from fleet.host.obstacles import inhibitors
from fleet.model import Closure, RunId

OLD, NEW, SPECIAL = (Closure(f"/nix/store/{letter * 32}-nixos-system") for letter in "ons")
PLAIN = HostFacts(
    machine="x86_64", nix="/bin/nix-store", store_writable=True, running=OLD, profile=OLD, generation="7", booted=OLD,
    boot_default=OLD, nix_free=1 << 33, boot_free=None,
)  # fmt: skip
OPEN = OpenTransaction(
    run=RunId("r1"), state=State.SWITCHED, who="ann", origin="desk", since=1000, closes_in=30, new=NEW, old=OLD
)
KEYS = (
    "generation", "status", "open_run", "open_since", "open_closes_in", "last_run", "nix_free",
    "boot_free", "inhibitors", "since", "state", "current", "running",
)  # fmt: skip


def facts(**changes: object) -> HostFacts:
    import dataclasses

    return dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]


def test_lines_become_values_and_banners_are_left_out() -> None:
    lines = parse("Welcome!\n\nrunning=/nix/store/x\nfailed_unit=a.service\nfailed_unit=b=c\nempty=\n")
    assert lines == {"running": ["/nix/store/x"], "failed_unit": ["a.service", "b=c"], "empty": [""]}
    assert (one(lines, "failed_unit"), one(lines, "none")) == ("b=c", "")


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"])
def test_what_a_switch_wrote_can_never_pass_for_an_answer(separator: str) -> None:
    looked = view(parse(f"state=switching\nline=starting{separator}state=committed\n"))
    assert (looked.state, looked.lines) == ("switching", (f"starting{separator}state=committed",))


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    lines = parse(text)
    for read in (host_facts, view, generations):
        read(lines)


@given(st.lists(st.text(alphabet='-+0123456789²٣ .x{}[]"=', max_size=20), min_size=1, max_size=3))
@settings(max_examples=60)
def test_any_value_is_read(values: list[str]) -> None:
    lines = dict.fromkeys(KEYS, values)
    for read in (host_facts, view, generations):
        read(lines)


@pytest.mark.parametrize(
    ("text", "status"), [("0", 0), ("4", 4), ("255", 255), ("", None), ("no", None), ("²", None), ("-1", None)]
)
def test_status_that_is_no_number_is_no_success(text: str, status: int | None) -> None:
    assert view({"status": [text]}).status == status


def test_facts_are_read() -> None:
    found = host_facts(
        parse(
            f"machine=aarch64\nnix=/bin/nix-store\nstore_writable=yes\nrunning={OLD}\nprofile={NEW}\n"
            f"generation=system-41-link\nbooted=b\nboot_default=\nrunning_kernel=k1\nbooted_kernel=k2\n"
            f'inhibitors={{"a": 1}}\nspecialisation={SPECIAL}\nnix_free=100\nboot_free= 7 \nfailed_unit=a.service\n'
            f"live={NEW}\nprevious={OLD}\nquarantined={NEW}\nquarantined={SPECIAL}\ndoubtful=r9\n"
            f"open_run=r1\nopen_state=switched\nopen_who=ann\nopen_from=desk\nopen_since=1000\nopen_closes_in=30\n"
            f"open_new={NEW}\nopen_old={OLD}\nlast_run=r0\nlast_state=reverted\nlast_reason=because\n"
        )
    )
    assert (found.machine, found.nix, found.generation, found.boot_default) == ("aarch64", "/bin/nix-store", "41", None)
    assert (found.nix_free, found.boot_free, found.inhibitors) == (100, 7, {"a": "1"})
    assert (found.quarantined, found.doubtful, found.transaction) == ((NEW, SPECIAL), ("r9",), OPEN)
    assert found.last is not None
    assert (found.last.state, found.last.reason, found.reboot_pending) == ("reverted", "because", ("kernel",))
    assert host_facts({}).boot_free is None


@pytest.mark.parametrize(
    ("changes", "stands"),
    [
        ({"running": NEW, "profile": NEW, "boot_default": NEW}, True),
        ({"running": NEW, "profile": NEW, "boot_default": None}, True),
        ({"running": SPECIAL, "profile": NEW, "boot_default": NEW, "specialisations": (SPECIAL,)}, True),
        ({"running": SPECIAL, "profile": OLD, "boot_default": NEW, "specialisations": (SPECIAL,)}, False),
        ({"running": NEW, "profile": NEW, "boot_default": OLD}, False),
        ({"running": NEW, "profile": OLD, "boot_default": NEW}, False),
        ({"running": NEW, "profile": OLD, "boot_default": None}, False),
        ({"running": OLD, "profile": NEW, "boot_default": NEW}, False),
        ({"running": NEW, "profile": NEW, "boot_default": NEW, "transaction": OPEN}, False),
    ],
)
def test_host_stands_on_a_closure_when_everything_names_it(changes: dict[str, object], stands: bool) -> None:  # noqa: FBT001
    assert facts(**changes).stands_on(NEW) is stands


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"x"', "NaN", "\0"])
def test_inhibitors_that_nobody_understands_are_none(text: str) -> None:
    assert inhibitors(text) == {}


def test_generations_are_in_order_and_marked() -> None:
    lines = parse(
        f"generation=10 2000 {NEW}\ngeneration=9 1000 {OLD}\ngeneration=odd\ncurrent=system-10-link\n"
        f"running={NEW}\nprevious={OLD}\n"
    )
    found = generations(lines)
    assert [(one.number, one.created, one.closure) for one in found] == [(0, 0, ""), (9, 1000, OLD), (10, 2000, NEW)]
    assert [(one.current, one.running, one.previous) for one in found[1:]] == [
        (False, False, True),
        (True, True, False),
    ]


def test_open_states_are_those_in_which_the_keeper_works() -> None:
    open_ones = {state for state in State if View(state=state, running=NEW).is_open}
    assert open_ones == {"arming", "rebooting", "switching", "switched", "committing", "reverting"}
    assert set(State) - open_ones == {"committed", "tested", "reverted", "stuck", "superseded", "withdrawn", "unknown"}


@pytest.mark.parametrize("text", ["", "odd", "Switched", "switched "])
def test_state_that_nobody_knows_is_unknown_and_not_open(text: str) -> None:
    assert (view({"state": [text]}).state, view({"state": [text]}).is_open) == (State.UNKNOWN, False)


@pytest.mark.parametrize(("told", "link"), [("system-7-link@1.5", "system-7-link@1.5"), ("-", ""), (None, "")])
def test_host_without_a_profile_has_no_link(told: str | None, link: str) -> None:
    assert host_facts({} if told is None else {"link": [told]}).link == link


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("J\\u00f6rg", "Jörg"),
        ("Jörg", "Jörg"),  # of an older version
        (r"a \"b\" \\c", r'a "b" \c'),
        ("dom\\user", "dom\\user"),
        ("caf\\u00", "caf"),  # cut
        ("caf\\", "caf"),
        ("\\u001b[2Jx", "x"),
        ("-", ""),
    ],
)
def test_words_of_an_order_are_read_as_they_were_written(written: str, read: str) -> None:
    transaction = open_transaction({"open_run": ["r1"], "open_who": [written], "open_from": ["desk"]})
    assert transaction is not None
    assert transaction.who == read


def test_transaction_tells_whose_it_is() -> None:
    assert str(OPEN) == "run r1 of ann from desk, switched"
    assert "from" not in str(open_transaction({"open_run": ["r1"], "open_who": ["ann"]}))


def test_what_was_wrong_on_the_way_back_and_notes_are_read() -> None:
    told = "state=stuck\nunproven=nothing listens on sshd's port 22\nnote=one\x1b[2J\nnote=two\n"
    found = view(parse(told))
    assert (found.unproven, found.notes) == ("nothing listens on sshd's port 22", ("one", "two"))
